"""What does a site cost that the training never saw?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from delineate.metrics.evaluation.directions import goodness
from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.metrics.evaluation.site_shift import POINTS, SiteShift
from delineate.metrics.table import METRICS
from delineate.reports.document import Cell, Drawing, Group, Section, Table, cells, columns_of
from delineate.reports.evaluation_parts.phrases import axis_of, limited
from delineate.reports.forest import Block as ForestBlock
from delineate.reports.forest import Mark, TextColumn, forest
from delineate.reports.metric_words import Scale, Units, label_of, telling

MAX_MARKS = 36
"""Rows of a plot."""

MAX_METRICS = 2
"""Metrics that are drawn; the table has all."""

PAIRED = (
    "Known: predicted by models that were trained on other cases of the site; unseen: by models that never saw the"
    " site. A positive drop is worse on unseen sites, over the cases that are in both; fractions drop by percentage"
    " points."
)
UNPAIRED = "Where no case is in both, the drop is the difference of the two means, and other cases may be harder."


def shifts(evaluation: Evaluation, units: Units) -> Section:
    """Return what sites cost that the training never saw."""
    if not evaluation.shifts:
        return Section(title="Unseen sites", blocks=())
    columns = (
        "Structure",
        "Metric",
        "Known sites\n(95 % interval)",
        "Unseen sites\n(95 % interval)",
        "Drop\n(95 % interval)",
    )
    rows = tuple(_shift_row(shift, units) for shift in evaluation.shifts)
    note = PAIRED if all(shift.paired for shift in evaluation.shifts) else f"{PAIRED} {UNPAIRED}"
    table = Table(columns=columns_of(columns, (0, 1)), groups=(Group(rows=rows),), note=note)
    metrics = list(dict.fromkeys(shift.metric for shift in evaluation.shifts))
    drawn = [_site_plot([s for s in evaluation.shifts if s.metric == m], units) for m in telling(metrics, MAX_METRICS)]
    return Section(title="Unseen sites", blocks=(table, *drawn, _site_table(evaluation.shifts, units)))


def drop_text(shift: SiteShift, units: Units) -> str:
    """Return the drop with its interval and unit."""
    scale = _drop_scale(shift.metric, units)
    value = scale.with_unit(scale.text(shift.drop_points.value))
    interval = scale.interval(shift.drop_points.interval)
    return value if interval == "–" else f"{value} ({interval})"


def _drop_scale(metric: str, units: Units) -> Scale:
    """Fractions drop by points, other quantities by their unit."""
    return (
        Scale(unit="points", decimals=1) if METRICS[metric].unit == "1" else replace(units.scale(metric), signed=False)
    )


def _shift_row(shift: SiteShift, units: Units) -> tuple[Cell, ...]:
    scale = units.scale(shift.metric)
    return cells(
        shift.structure,
        label_of(shift.metric),
        scale.estimate(shift.known),
        scale.estimate(shift.unseen),
        Cell(text=drop_text(shift, units), tone="strong"),
    )


def _site_plot(found: Sequence[SiteShift], units: Units) -> Drawing:
    metric = found[0].metric
    scale = units.scale(metric)
    drawn = _fitting(found)
    blocks = [
        ForestBlock(
            heading=s.structure, marks=tuple(_site_mark(site, s.metric, units) for site in s.by_site[:MAX_MARKS])
        )
        for s in drawn
    ]
    values = [v for s in drawn for _, _, known, unseen in s.by_site for v in (known, unseen)]
    heads = (("cases", 60.0), ("known", 90.0), ("unseen", 90.0), ("drop", 110.0))
    svg = forest(
        blocks,
        axis_of(values, scale, f"{label_of(metric)}, mean of the site"),
        [TextColumn(title=title, width=width) for title, width in heads],
        caption=f"{label_of(metric)} on known and on unseen sites",
    )
    note = f"Dot: site known; diamond: site unseen. {limited(len(drawn), len(found), 'the first ones')}"
    return Drawing(title=f"{label_of(metric)} by site", svg=svg, note=note.strip())


def _fitting(found: Sequence[SiteShift]) -> list[SiteShift]:
    room = MAX_MARKS
    chosen: list[SiteShift] = []
    for shift in found:
        room -= len(shift.by_site) + 1
        if chosen and room < 0:
            break
        chosen.append(shift)
    return chosen


def _site_mark(site: tuple[str, int, float, float], metric: str, units: Units) -> Mark:
    name, n_cases, known, unseen = site
    scale = units.scale(metric)
    return Mark(
        name=name,
        value=known * scale.factor,
        low=math.nan,
        high=math.nan,
        second=unseen * scale.factor,
        texts=(str(n_cases), scale.text(known), scale.text(unseen), _site_drop(metric, known, unseen, units)),
    )


def _site_drop(metric: str, known: float, unseen: float, units: Units) -> str:
    factor = POINTS if METRICS[metric].unit == "1" else 1.0
    scale = _drop_scale(metric, units)
    return scale.with_unit(scale.text(factor * (goodness(known, metric) - goodness(unseen, metric))))


def _site_table(found: Sequence[SiteShift], units: Units) -> Table:
    groups = tuple(
        Group(
            title=f"{s.structure}: {label_of(s.metric)}",
            rows=tuple(_site_row(s.metric, site, units) for site in s.by_site),
        )
        for s in found
    )
    columns = columns_of(("Site", "Cases", "Known", "Unseen", "Drop"), (0,))
    return Table(columns=columns, groups=groups, title="All numbers by site", folded=True)


def _site_row(metric: str, site: tuple[str, int, float, float], units: Units) -> tuple[Cell, ...]:
    name, n_cases, known, unseen = site
    scale = units.scale(metric)
    return cells(name, str(n_cases), scale.text(known), scale.text(unseen), _site_drop(metric, known, unseen, units))
