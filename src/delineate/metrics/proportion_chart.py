"""A control chart of a yes/no feature: is it as frequent as it was in the baseline?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from delineate.errors import InputError
from delineate.metrics.chart_alarms import Alarm
from delineate.metrics.chart_baseline import require_baseline
from delineate.metrics.chart_limits import RUN_LENGTH


@dataclass(frozen=True, kw_only=True, slots=True)
class ProportionChart:
    """The p-chart of one yes/no feature."""

    first: int
    """Index of the first case after the baseline."""
    baseline_yes: int
    baseline_cases: int
    size: int
    """Cases per group."""
    ends: tuple[int, ...]
    """(group,) index of the last case of each group after the baseline."""
    proportions: tuple[float, ...]
    low: float
    """The smallest proportion of a group within the limits."""
    high: float
    run_length: float
    alarms: tuple[Alarm, ...]


def chart_proportion(
    flags: Sequence[float] | NDArray[np.float64], baseline: int, *, size: int = 10, run_length: float = RUN_LENGTH
) -> ProportionChart:
    """Chart a yes/no feature by groups of consecutive cases.

    Limits are those of the next group's count given the baseline's counts (beta-binomial with Jeffreys' prior): exact
    for small groups, and wide where the baseline says little. The chance of a false alarm per group is at most
    size / run_length.

    Parameters
    ----------
    flags
        (case,) 0 or 1 in the order of time; NaN cases are skipped.
    baseline
        The first so many known cases are the baseline; at least 20.
    size
        Cases per group; an unfinished group at the end is not judged.
    run_length
        Wanted average number of cases between two false alarms, above 10.

    Raises
    ------
    InputError
        If a flag is neither 0 nor 1, or the baseline, size or run length is impossible.

    References
    ----------
    D. C. Montgomery, Introduction to Statistical Quality Control, 7th edition (2013), 7.2.
    """
    numbers = np.asarray(flags, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(numbers))
    require_baseline(baseline, len(known), run_length)
    if size < 1 or not np.isin(numbers[known], (0.0, 1.0)).all():
        raise InputError(f"A p-chart needs groups of 1 or more cases and values 0 or 1; got groups of {size}.")
    yes = int(numbers[known[:baseline]].sum())
    low, high = _count_limits(yes, baseline, size, min(0.5, size / run_length))
    after = known[baseline:]
    groups = [after[i : i + size] for i in range(0, len(after) - size + 1, size)]
    counts = [int(numbers[group].sum()) for group in groups]
    outside = next((i for i, count in enumerate(counts) if not low <= count <= high), None)
    alarms: tuple[Alarm, ...] = ()
    if outside is not None:
        alarms = (_proportion_alarm(counts[outside], groups[outside], yes / baseline, size),)
    return ProportionChart(
        first=int(after[0]) if len(after) else len(numbers),
        baseline_yes=yes,
        baseline_cases=baseline,
        size=size,
        ends=tuple(int(group[-1]) for group in groups),
        proportions=tuple(count / size for count in counts),
        low=low / size,
        high=high / size,
        run_length=run_length,
        alarms=alarms,
    )


def _count_limits(yes: int, cases: int, size: int, chance: float) -> tuple[int, int]:
    """Return the smallest and largest usual count of a group; outside lies at most ``chance / 2`` on either side."""
    following = stats.betabinom(size, yes + 0.5, cases - yes + 0.5)
    counts = np.arange(size + 1)
    low = counts[following.cdf(counts - 1) <= chance / 2].max()
    high = counts[following.sf(counts) <= chance / 2].min()
    return int(low), int(high)


def _proportion_alarm(count: int, group: NDArray[np.intp], usual: float, size: int) -> Alarm:
    change = 100 * (count / size - usual)
    return Alarm(
        chart="proportion",
        index=int(group[-1]),
        onset=int(group[0]),
        size=change,
        words=f"{count} of {size} cases, where the baseline had {100 * usual:.0f} % ({_signed(change)} points)",
    )


def _signed(value: float) -> str:
    return f"{value:+.1f}"
