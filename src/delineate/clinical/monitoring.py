"""Charts of everything that is monitored, per site, and which of them alarm first.

Many charts watched at once alarm often by chance. So the wanted number of cases between two false alarms is that of a
whole site: each chart gets its share of it, and the tests of distributions are corrected for their number. The module
knows series and rules, no files and no pictures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from delineate.clinical.observations import Observation, Series, series_of
from delineate.errors import InputError
from delineate.metrics.chart_alarms import Alarm, NumberCharts
from delineate.metrics.chart_baseline import LEAST_BASELINE
from delineate.metrics.control_charts import chart_numbers
from delineate.metrics.distribution_shift import (
    DistributionShift,
    benjamini_hochberg,
    category_shift,
    numeric_shift,
    psi_words,
    unseen_categories,
)
from delineate.metrics.proportion_chart import ProportionChart, chart_proportion

RULES_PER_NUMBER = 4
"""Individuals, run, EWMA, CUSUM."""
LEAST_WINDOW = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class MonitoringPlan:
    """How cases are watched; declared beforehand."""

    baseline: int
    """Cases of each site that count as usual, its first ones; at least 20."""
    run_length: float = 200.0
    """Wanted average number of cases of a site between two false alarms of any of its charts."""
    group: int = 10
    """Cases per group of a p-chart."""
    window: int = 20
    """Cases per window whose distribution is compared with the baseline."""
    false_discovery_rate: float = 0.01
    """Of the features that are called shifted in a window."""

    def __post_init__(self) -> None:
        if self.baseline < LEAST_BASELINE or self.group < 1 or self.window < LEAST_WINDOW:
            raise InputError(
                f"Monitoring needs a baseline of {LEAST_BASELINE} or more cases, groups of 1 or more and windows of "
                f"{LEAST_WINDOW} or more; got {self.baseline}, {self.group} and {self.window}."
            )
        if not self.run_length > 10 or not 0 < self.false_discovery_rate < 1:
            raise InputError(
                "Monitoring needs more than 10 cases between false alarms and a false discovery rate between 0 and 1; "
                f"got {self.run_length} and {self.false_discovery_rate}."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowShift:
    """A window of recent cases whose distribution is compared with the baseline."""

    window: int
    """From 1."""
    first: int
    last: int
    """Indices of its cases in the series, from 0."""
    shift: DistributionShift
    q_value: float
    """Benjamini-Hochberg over the features of the site in this window."""
    words: str
    """What PSI is customarily called."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureChart:
    """All that is said of one feature at one site."""

    series: Series
    numbers: NumberCharts | None
    proportion: ProportionChart | None
    windows: tuple[WindowShift, ...]
    unseen: tuple[str, ...]
    """Categories that the baseline never had."""
    alarms: tuple[FeatureAlarm, ...]
    """In the order of their cases."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureAlarm:
    """One chart of one feature left its limits."""

    site: str
    feature: str
    chart: str
    """``individuals``, ``run``, ``ewma``, ``cusum``, ``proportion``, ``constant``, ``distribution`` or ``category``."""
    index: int
    """Of the case in the feature's series, from 0."""
    case_id: str
    day: str
    onset_case_id: str
    onset_day: str
    size: float
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Monitoring:
    """Charts of all sites."""

    plan: MonitoringPlan
    charts: tuple[FeatureChart, ...]
    too_short: tuple[tuple[str, str, int], ...]
    """Site, feature and cases of series that have no case after the baseline yet."""
    run_length_per_chart: Mapping[str, float]
    """By site."""

    @property
    def alarms(self) -> tuple[FeatureAlarm, ...]:
        """All alarms, earliest case first within a site."""
        found = [alarm for chart in self.charts for alarm in chart.alarms]
        return tuple(sorted(found, key=lambda a: (a.site, a.index)))


def monitor(observations: Sequence[Observation], plan: MonitoringPlan) -> Monitoring:
    """Chart every feature of every site.

    Parameters
    ----------
    observations
        In the order of time.
    plan
        Baseline, groups and false alarms.

    Raises
    ------
    InputError
        If a feature is of different kinds in different cases, or no site has a case after its baseline.
    """
    everything = series_of(observations)
    long = [s for s in everything if len(s.values) > plan.baseline]
    if not long:
        most = max((len(s.values) for s in everything), default=0)
        raise InputError(
            f"A chart needs cases after the baseline of {plan.baseline}; the longest series has {most}. Declare a "
            f"shorter baseline (at least {LEAST_BASELINE}) or wait for more cases."
        )
    charts, lengths = [], {}
    for site in dict.fromkeys(s.site for s in long):
        own = [s for s in long if s.site == site]
        lengths[site] = plan.run_length * sum(RULES_PER_NUMBER if s.kind == "number" else 1 for s in own)
        windows = _windows_of(own, plan)
        charts += [_charted(s, plan, lengths[site], windows[s.feature]) for s in own]
    short = [(s.site, s.feature, len(s.values)) for s in everything if len(s.values) <= plan.baseline]
    return Monitoring(plan=plan, charts=tuple(charts), too_short=tuple(short), run_length_per_chart=lengths)


def _charted(series: Series, plan: MonitoringPlan, run_length: float, windows: tuple[WindowShift, ...]) -> FeatureChart:
    numbers = proportion = None
    unseen: tuple[str, ...] = ()
    alarms: list[FeatureAlarm] = []
    if series.kind == "number":
        numbers = chart_numbers([float(v) for v in series.values], plan.baseline, run_length=run_length)
        alarms += [_told(series, alarm) for alarm in numbers.alarms]
    elif series.kind == "flag":
        flags = [float(v) for v in series.values]
        proportion = chart_proportion(flags, plan.baseline, size=plan.group, run_length=run_length)
        alarms += [_told(series, alarm) for alarm in proportion.alarms]
    else:
        words = [str(v) for v in series.values]
        unseen = unseen_categories(words[: plan.baseline], words[plan.baseline :])
        alarms += _unseen_alarm(series, unseen)
    alarms += _window_alarm(series, windows, plan)
    return FeatureChart(
        series=series,
        numbers=numbers,
        proportion=proportion,
        windows=windows,
        unseen=unseen,
        alarms=tuple(sorted(alarms, key=lambda a: a.index)),
    )


def _windows_of(series: Sequence[Series], plan: MonitoringPlan) -> dict[str, tuple[WindowShift, ...]]:
    """Return per feature the windows after the baseline, corrected for the number of features in each."""
    found: dict[str, list[WindowShift]] = {s.feature: [] for s in series}
    count = max((len(s.values) - plan.baseline) // plan.window for s in series)
    for number in range(count):
        first = plan.baseline + number * plan.window
        shifts = {s.feature: _compared(s, plan, first) for s in series if len(s.values) >= first + plan.window}
        adjusted = benjamini_hochberg({name: shift.p_value for name, shift in shifts.items()})
        for name, shift in shifts.items():
            window = WindowShift(
                window=number + 1,
                first=first,
                last=first + plan.window - 1,
                shift=shift,
                q_value=adjusted[name],
                words=psi_words(shift.psi),
            )
            found[name].append(window)
    return {name: tuple(windows) for name, windows in found.items()}


def _compared(series: Series, plan: MonitoringPlan, first: int) -> DistributionShift:
    before, now = series.values[: plan.baseline], series.values[first : first + plan.window]
    if series.kind == "number":
        return numeric_shift([float(v) for v in before], [float(v) for v in now])
    return category_shift([str(v) for v in before], [str(v) for v in now])


def _told(series: Series, alarm: Alarm) -> FeatureAlarm:
    return _alarm(series, alarm.chart, alarm.index, alarm.onset, alarm.size, alarm.words)


def _unseen_alarm(series: Series, unseen: Sequence[str]) -> list[FeatureAlarm]:
    if not unseen:
        return []
    index = next(i for i, value in enumerate(series.values) if value in unseen)
    share = sum(value in unseen for value in series.values[index:]) / len(series.values[index:])
    words = f"'{series.values[index]}', which the baseline never had"
    return [_alarm(series, "category", index, index, 100 * share, words)]


def _window_alarm(series: Series, windows: Sequence[WindowShift], plan: MonitoringPlan) -> list[FeatureAlarm]:
    shifted = next((w for w in windows if w.q_value <= plan.false_discovery_rate), None)
    if shifted is None:
        return []
    words = (
        f"another distribution than the baseline's: distance {shifted.shift.statistic:.2f}, q = "
        f"{_short(shifted.q_value)}, PSI {shifted.shift.psi:.2f} ({shifted.words})"
    )
    return [_alarm(series, "distribution", shifted.last, shifted.first, shifted.shift.statistic, words)]


def _alarm(series: Series, chart: str, index: int, onset: int, size: float, words: str) -> FeatureAlarm:
    return FeatureAlarm(
        site=series.site,
        feature=series.feature,
        chart=chart,
        index=index,
        case_id=series.case_ids[index],
        day=series.days[index],
        onset_case_id=series.case_ids[onset],
        onset_day=series.days[onset],
        size=size if math.isfinite(size) else 0.0,
        words=words,
    )


def _short(probability: float) -> str:
    return f"{probability:.3f}" if probability >= 0.001 else "below 0.001"
