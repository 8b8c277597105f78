"""The page of control charts: what alarmed first, and the charts that show it. One file, no scripts, no network.

The module draws what monitoring found; it decides nothing about it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from delineate.clinical.monitoring import FeatureAlarm, FeatureChart, Monitoring
from delineate.execution.atomic import write_bytes
from delineate.metrics.chart_alarms import NumberCharts
from delineate.metrics.chart_baseline import Baseline
from delineate.metrics.proportion_chart import ProportionChart
from delineate.reports.axes import Axis, Frame, axis_for
from delineate.reports.report_data import Fact
from delineate.reports.svg import Node, element, hover, label, number, picture, quantity

TEMPLATE = "control_charts.html.j2"
WIDTH, LEFT, HEIGHT, SUM_HEIGHT = 960.0, 64.0, 170.0, 90.0
GAP = 58.0
EWMA_LIMIT = "line c1 dashed thin"
CHART_NAMES = {
    "individuals": "single case",
    "run": "run on one side",
    "ewma": "moving average (EWMA)",
    "cusum": "cumulative sum (CUSUM)",
    "proportion": "proportion (p-chart)",
    "constant": "never varied before",
    "distribution": "distribution (KS, PSI)",
    "category": "new category",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Panel:
    title: str
    alarms: tuple[FeatureAlarm, ...]
    svg: Markup | None
    rows: tuple[tuple[str, int, int], ...]
    """Categories: name, baseline cases, later cases."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Site:
    name: str
    alarms: tuple[FeatureAlarm, ...]
    """The first alarm of every feature, earliest first."""
    panels: tuple[_Panel, ...]
    """Features with an alarm, earliest first."""
    quiet: tuple[FeatureChart, ...]
    run_length: float
    cases: int


def render_control_charts(
    monitoring: Monitoring, path: Path, *, title: str = "Monitoring", facts: Sequence[Fact] = (), created: str = ""
) -> None:
    """Write the page of control charts; equal data give equal bytes.

    Parameters
    ----------
    monitoring
        Charts and alarms of all sites.
    path
        HTML file; it appears whole or not at all.
    title
        Heading of the page.
    facts
        Said at the end: where the cases are from, which program made this.
    created
        Date in words; empty for none.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    text = (
        _environment()
        .get_template(TEMPLATE)
        .render(
            title=title,
            created=created,
            facts=facts,
            plan=monitoring.plan,
            sites=[_site(monitoring, site) for site in monitoring.run_length_per_chart],
            too_short=monitoring.too_short,
            chart_names=CHART_NAMES,
            headline=_headline(monitoring),
        )
    )
    write_bytes(path, text.encode("utf-8", errors="replace"))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("delineate.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["quantity"] = quantity
    return environment


def _headline(monitoring: Monitoring) -> str:
    alarms = monitoring.alarms
    watched = f"{len(monitoring.charts)} series at {_counted(len(monitoring.run_length_per_chart), 'site')}"
    if not alarms:
        return f"No alarm: {watched} stayed within the limits that their baselines set."
    features = len({(a.site, a.feature) for a in alarms})
    first = min(alarms, key=lambda a: (a.day, a.index))
    return (
        f"{features} of {watched} left their limits. The first was {first.feature} at case {first.case_id} "
        f"({first.day}): {first.words}."
    )


def _site(monitoring: Monitoring, site: str) -> _Site:
    charts = [c for c in monitoring.charts if c.series.site == site]
    loud = sorted((c for c in charts if c.alarms), key=lambda c: c.alarms[0].index)
    return _Site(
        name=site,
        alarms=tuple(c.alarms[0] for c in loud),
        panels=tuple(_panel(c) for c in loud),
        quiet=tuple(c for c in charts if not c.alarms),
        run_length=monitoring.run_length_per_chart[site],
        cases=max(len(c.series.values) for c in charts),
    )


def _panel(chart: FeatureChart) -> _Panel:
    svg: Markup | None = None
    rows: tuple[tuple[str, int, int], ...] = ()
    if chart.numbers is not None:
        svg = _number_picture(chart, chart.numbers)
    elif chart.proportion is not None:
        svg = _proportion_picture(chart, chart.proportion)
    else:
        rows = _category_rows(chart)
    return _Panel(title=chart.series.feature, alarms=chart.alarms, svg=svg, rows=rows)


def _number_picture(chart: FeatureChart, numbers: NumberCharts) -> Markup:
    usual = numbers.baseline
    bounds = (numbers.low, float(np.median(usual.values)), numbers.high)
    x = Axis(low=0.0, high=len(numbers.values) + 1.0, text="")
    shown = [*numbers.values[np.isfinite(numbers.values)], *(bounds if usual.sd else ())]
    y = axis_for(shown, "value", log=usual.scale == "log10" and min(shown) > 0)
    upper = Frame(x=x, y=y, left=LEFT, top=22, width=WIDTH - LEFT - 24, height=HEIGHT)
    parts = [_baseline_area(upper, numbers.first), upper.draw()]
    if usual.sd:
        parts += [_level(upper, bound, "zero" if i == 1 else "limit") for i, bound in enumerate(bounds)]
        tracks = (("line c1", numbers.ewma), *((EWMA_LIMIT, side * numbers.ewma_limits) for side in (-1, 1)))
        parts += [_track(upper, [_back(usual, v) for v in track], class_) for class_, track in tracks]
    parts += _dots(upper, chart, numbers.values)
    parts.append(_alarm_line(upper, chart))
    parts += _sums(numbers, x) if usual.sd else []
    height = 22 + HEIGHT + (GAP + SUM_HEIGHT if usual.sd else 0) + 42
    return picture(WIDTH, height, *parts, label=f"Control charts of {chart.series.feature}")


def _back(usual: Baseline, score: float) -> float:
    return math.nan if math.isnan(score) else usual.value_at(score)


def _sums(numbers: NumberCharts, x: Axis) -> list[Node]:
    limit = numbers.limits.cusum
    tracks = (numbers.cusum_high, -numbers.cusum_low)
    y = axis_for([v for t in tracks for v in t[np.isfinite(t)]] + [limit, -limit], "CUSUM", log=False)
    axis = Axis(low=x.low, high=x.high, text="case")
    lower = Frame(x=axis, y=y, left=LEFT, top=22 + HEIGHT + GAP, width=WIDTH - LEFT - 24, height=SUM_HEIGHT)
    return [
        _baseline_area(lower, numbers.first),
        lower.draw(),
        *(_level(lower, value, "limit") for value in (limit, -limit)),
        _level(lower, 0.0, "zero"),
        *(_track(lower, [float(v) for v in track], f"line c{i * 2}") for i, track in enumerate(tracks)),
    ]


def _proportion_picture(chart: FeatureChart, found: ProportionChart) -> Markup:
    x = Axis(low=0.0, high=len(chart.series.values) + 1.0, text="case")
    y = Axis(low=-0.03, high=1.03, text=f"proportion of {found.size} cases")
    frame = Frame(x=x, y=y, left=LEFT, top=22, width=WIDTH - LEFT - 24, height=HEIGHT)
    places = [frame.place(end + 1.0, p) for end, p in zip(found.ends, found.proportions, strict=True)]
    parts: list[Node] = [_baseline_area(frame, found.first), frame.draw()]
    parts += [_level(frame, v, "limit") for v in (found.low, found.high)]
    parts.append(_level(frame, found.baseline_yes / found.baseline_cases, "zero"))
    parts.append(_path(places, "line c0"))
    for (px, py), end, p in zip(places, found.ends, found.proportions, strict=True):
        text = f"cases up to {chart.series.case_ids[end]}: {100 * p:.0f} %"
        parts.append(element("circle", hover(text), cx=px, cy=py, r=4, class_="dot"))
    parts.append(_alarm_line(frame, chart))
    return picture(WIDTH, 22 + HEIGHT + 42, *parts, label=f"p-chart of {chart.series.feature}")


def _category_rows(chart: FeatureChart) -> tuple[tuple[str, int, int], ...]:
    first = chart.windows[0].first if chart.windows else chart.alarms[0].index
    values = [str(v) for v in chart.series.values]
    before, after = Counter(values[:first]), Counter(values[first:])
    return tuple((name, before[name], after[name]) for name in dict.fromkeys(values))


def _baseline_area(frame: Frame, first: int) -> Node:
    left, right = (frame.place(x, frame.y.low)[0] for x in (frame.x.low, first + 0.5))
    area = element("rect", x=left, y=frame.top, width=right - left, height=frame.height, class_="usual")
    return element("g", area, label("baseline", left + 5, frame.top + frame.height - 6, class_="tick"))


def _level(frame: Frame, value: float, class_: str) -> Node:
    y = frame.place(frame.x.low, value)[1]
    return element("line", x1=frame.left, x2=frame.left + frame.width, y1=y, y2=y, class_=class_)


def _dots(frame: Frame, chart: FeatureChart, values: Iterable[float]) -> list[Node]:
    alarms = {a.index for a in chart.alarms if a.chart in ("individuals", "constant")}
    found = []
    for i, value in enumerate(values):
        if math.isfinite(value):
            x, y = frame.place(i + 1.0, float(value))
            text = f"{chart.series.case_ids[i]}, {chart.series.days[i]}: {quantity(float(value))}"
            found.append(element("circle", hover(text), cx=x, cy=y, r=3, class_="dot alarm" if i in alarms else "dot"))
    return found


def _alarm_line(frame: Frame, chart: FeatureChart) -> Node:
    first = chart.alarms[0]
    x = frame.place(first.index + 1.0, frame.y.low)[0]
    line = element("line", x1=x, x2=x, y1=frame.top, y2=frame.top + frame.height, class_="alarm-line")
    far = first.index + 1.0 > 0.7 * frame.x.high
    text = label(
        f"first alarm: {first.case_id}", x + (-6 if far else 6), frame.top - 6, anchor="end" if far else "start"
    )
    return element("g", line, text)


def _track(frame: Frame, values: Sequence[float], class_: str) -> Node:
    points = [frame.place(i + 1.0, v) for i, v in enumerate(values) if math.isfinite(v)]
    return _path(points, class_)


def _path(points: Sequence[tuple[float, float]], class_: str) -> Node:
    commands = " ".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
    return element("path", d=commands or "M0 0", class_=class_)


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
