"""When a control chart alarms: the rules for single cases, runs, moving averages, sums, and what never varied."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from delineate.metrics.chart_baseline import Baseline
from delineate.metrics.chart_limits import EWMA_WEIGHT, Limits

ChartKind = Literal["individuals", "run", "ewma", "cusum", "proportion", "constant"]
"""What raised an alarm."""
CONSTANT_TOLERANCE = 1e-3
"""Relative change of a value that never varied which counts as a change; headers are less exact than this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """The first time that a chart left its limits."""

    chart: ChartKind
    index: int
    """Of the case, from 0, in the order that was given."""
    onset: int
    """Where the change seems to have begun: CUSUM's last zero, the run's first case; else the same as ``index``."""
    size: float
    """In baseline standard deviations (of ranks for lasting changes); in percentage points for proportions; relative
    for constants."""
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberCharts:
    """The charts of one numeric feature."""

    first: int
    """Index of the first case after the baseline."""
    baseline: Baseline
    limits: Limits
    run_length: float
    values: NDArray[np.float64]
    """(case,) as given; NaN where a case has none."""
    scores: NDArray[np.float64]
    """(case,) normal scores of the ranks among the baseline's values, centred."""
    low: float
    """Single cases below it are an alarm; in the unit of the values."""
    high: float
    ewma: NDArray[np.float64]
    """(case,) from the first case after the baseline on; NaN before."""
    ewma_limits: NDArray[np.float64]
    """(case,) to either side."""
    cusum_high: NDArray[np.float64]
    cusum_low: NDArray[np.float64]
    """(case,) both 0 or more; a falling feature raises the lower sum."""
    alarms: tuple[Alarm, ...]
    """At most one per chart."""


def alarms_of(charts: NumberCharts, after: NDArray[np.intp]) -> tuple[Alarm, ...]:
    """Return the first alarm of every chart; ``after`` are the indices of the cases that follow the baseline."""
    if charts.baseline.sd == 0:
        return _constant_alarms(charts.values, after, charts.baseline)
    found = (
        _individuals_alarm(charts, after),
        _run_alarm(charts, after),
        _ewma_alarm(charts, after),
        _cusum_alarm(charts, after),
    )
    return tuple(alarm for alarm in found if alarm is not None)


def _individuals_alarm(charts: NumberCharts, after: NDArray[np.intp]) -> Alarm | None:
    values, usual = charts.values, charts.baseline
    beyond = after[(values[after] < charts.low) | (values[after] > charts.high)]
    if not len(beyond):
        return None
    index = int(beyond[0])
    value = float(values[index])
    scaled = math.log10(value) if usual.scale == "log10" and value > 0 else value
    words = f"one case has {value:.4g}; the limits are {charts.low:.4g} and {charts.high:.4g}"
    return Alarm(chart="individuals", index=index, onset=index, size=(scaled - usual.centre) / usual.sd, words=words)


def _run_alarm(charts: NumberCharts, after: NDArray[np.intp]) -> Alarm | None:
    median = float(np.median(charts.baseline.values))
    length, side = 0, 0.0
    for place, index in enumerate(after):
        now = float(np.sign(charts.values[index] - median))
        length = length + 1 if now and now == side else int(bool(now))
        side = now
        if length == charts.limits.run:
            words = f"{length} cases in a row {'above' if now > 0 else 'below'} the baseline's median"
            return _lasting("run", charts, after[place - length + 1 : place + 1], words)
    return None


def _ewma_alarm(charts: NumberCharts, after: NDArray[np.intp]) -> Alarm | None:
    beyond = after[np.abs(charts.ewma[after]) > charts.ewma_limits[after]]
    if not len(beyond):
        return None
    place = int(np.searchsorted(after, beyond[0]))
    recent = after[max(0, place + 1 - round(1 / EWMA_WEIGHT)) : place + 1]
    side = "above" if charts.ewma[beyond[0]] > 0 else "below"
    found = _lasting("ewma", charts, recent, f"the moving average is {side} its limit; the last {len(recent)} cases")
    # a moving average does not tell where a change began
    return replace(found, onset=found.index)


def _cusum_alarm(charts: NumberCharts, after: NDArray[np.intp]) -> Alarm | None:
    high, low, limit = charts.cusum_high, charts.cusum_low, charts.limits.cusum
    beyond = after[(high[after] > limit) | (low[after] > limit)]
    if not len(beyond):
        return None
    rising = bool(high[beyond[0]] > limit)
    place = int(np.searchsorted(after, beyond[0]))
    # the change begins after the last zero of the sum (Montgomery 9.1.2)
    zeros = np.flatnonzero((high if rising else low)[after[:place]] == 0)
    start = int(zeros[-1]) + 1 if len(zeros) else 0
    words = f"a lasting {'rise' if rising else 'fall'} since case {int(after[start]) + 1}"
    return _lasting("cusum", charts, after[start : place + 1], words)


def _lasting(chart: ChartKind, charts: NumberCharts, cases: NDArray[np.intp], words: str) -> Alarm:
    median, usual = float(np.median(charts.values[cases])), float(np.median(charts.baseline.values))
    return Alarm(
        chart=chart,
        index=int(cases[-1]),
        onset=int(cases[0]),
        size=float(charts.scores[cases].mean()),
        words=f"{words}: their median is {median:.4g}, the baseline's {usual:.4g}",
    )


def _constant_alarms(numbers: NDArray[np.float64], after: NDArray[np.intp], usual: Baseline) -> tuple[Alarm, ...]:
    constant = 10**usual.centre if usual.scale == "log10" else usual.centre
    away = np.abs(numbers[after] - constant) > CONSTANT_TOLERANCE * max(abs(constant), 1e-12)
    if not away.any():
        return ()
    index = int(after[away][0])
    size = float((numbers[index] - constant) / constant) if constant else float(numbers[index])
    words = f"{numbers[index]:.6g}, where the baseline always had {constant:.6g}"
    return (Alarm(chart="constant", index=index, onset=index, size=size, words=words),)
