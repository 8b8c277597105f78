"""Control charts: is what comes in now still what came in during a declared baseline period?

Numbers get three charts (Shewhart individuals with a run rule, EWMA, CUSUM), yes/no features a p-chart. Limits follow
from the baseline alone and from how rarely a false alarm is wanted (average run length in control), and allow for the
baseline being short. The module knows sequences of numbers in the order of time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from delineate.errors import InputError

ChartKind = Literal["individuals", "run", "ewma", "cusum", "proportion", "constant"]
"""What raised an alarm."""
Scale = Literal["linear", "log10"]

LEAST_BASELINE = 20
"""Cases without which limits mean nothing (W. A. Shewhart asked for 25 subgroups)."""
RUN_LENGTH = 500.0
"""Cases between two false alarms of one chart unless asked otherwise."""
EWMA_WEIGHT = 0.2
"""Of the newest case (D. C. Montgomery, Introduction to Statistical Quality Control, 9.2: 0.05 to 0.25)."""
CUSUM_REFERENCE = 0.5
"""Half the shift, in standard deviations, that CUSUM finds quickest: 1."""
OUTLIER_DEVIATIONS = 3.5
"""Robust deviations beyond which a baseline value is left out of the limits (B. Iglewicz, D. Hoaglin, 1993)."""
CONSTANT_TOLERANCE = 1e-3
"""Relative change of a value that never varied which counts as a change; headers are less exact than this."""
HEADER_NOISE = 1e-4
"""Relative range of a baseline that counts as "never varied": single precision and rounding in headers."""
OUTLIER_SHARE = 0.05
"""Outliers that are more of the baseline than this are no accidents but part of what is usual, and stay."""
_LOG_RATIO = 10.0
_STATES = 101


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """What was usual."""

    n_used: int
    n_outliers: int
    """Baseline values that were left out of the limits for single cases."""
    centre: float
    """Mean of the used values, on the scale."""
    sd: float
    """Their standard deviation, on the scale; 0 if they never varied."""
    scale: Scale
    """``log10`` for positive values that spread over more than a factor of 10."""
    values: NDArray[np.float64]
    """Sorted, outliers included, as given: what ranks are taken among."""

    def value_at(self, score: float) -> float:
        """Return the baseline value whose centred normal score is this; the extremes beyond them."""
        return float(np.quantile(self.values, stats.norm.cdf(_mean_score(self.values) + score)))


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
class Limits:
    """Critical values of the charts of one feature, in baseline standard deviations."""

    individuals: float
    ewma: float
    """Of the statistic divided by its standard deviation."""
    cusum: float
    cusum_reference: float
    run: int
    """Cases in a row on one side of the centre."""


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


def chart_numbers(
    values: Sequence[float] | NDArray[np.float64], baseline: int, *, run_length: float = RUN_LENGTH
) -> NumberCharts:
    """Chart a numeric feature.

    1. Single cases: alarm beyond t(1 - 1 / (2 ARL), n - 1) sqrt(1 + 1/n) standard deviations from the mean, the limit
       of a prediction interval for normal values, and only beyond all baseline values by half of their range: tails
       of real data are longer. Baseline values farther than 3.5 robust deviations (1.4826 MAD) from the median are
       left out of mean and deviation, unless they are more than 5 % of the baseline. Positive values that spread over
       more than a factor of 10 are charted as log10.
    2. Lasting changes are looked for in normal scores of ranks, u = q - mean q with q = the normal quantile of
       (number of smaller baseline values + half of the equal ones + 1/2) / (n + 1). So false alarms do not depend on
       the distribution, and one wild case is not taken for a lasting change.
    3. Run rule: alarm after so many cases in a row on one side of the baseline's median that chance does it once in ARL
       cases (allowing for the median's standard error).
    4. EWMA with weight 0.2: alarm beyond L sqrt(w / (2 - w) (1 - (1 - w)^2t) + 1/n); L from the ARL (Markov chain);
       the last term is the baseline's own error.
    5. CUSUM: S+ = max(0, S+ + u - k), S- likewise; k = 0.5 + 1/sqrt(n), alarm above h; h from the ARL (Siegmund).

    A feature that never varied in the baseline alarms at the first other value.

    Parameters
    ----------
    values
        (case,) in the order of time; NaN cases are skipped.
    baseline
        The first so many values that are not NaN are the baseline; at least 20.
    run_length
        Wanted average number of cases between two false alarms of each of the four rules; above 10.

    Raises
    ------
    InputError
        If the baseline is too short or longer than the series, or the run length is impossible.

    References
    ----------
    D. C. Montgomery, Introduction to Statistical Quality Control, 7th edition (2013), chapters 6 and 9.
    J. M. Lucas, M. S. Saccucci, Exponentially weighted moving average control schemes, Technometrics 32 (1990).
    D. Siegmund, Sequential Analysis (1985), chapter 2; L. A. Jones, C. W. Champ, S. E. Rigdon, The performance of
    exponentially weighted moving average charts with estimated parameters, Technometrics 43 (2001).
    """
    numbers = np.asarray(values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(numbers))
    _require_baseline(baseline, len(known), run_length)
    usual = _baseline_of(numbers[known[:baseline]])
    first = int(known[baseline]) if len(known) > baseline else len(numbers)
    limits = limits_for(run_length, baseline)
    low, high = _single_case_bounds(usual, limits)
    scores = _normal_scores(numbers, usual)
    after = known[baseline:]
    ewma, ewma_limits = _ewma(scores[after], limits, baseline)
    cusum_high, cusum_low = _cusum(scores[after], limits)
    charts = NumberCharts(
        first=first,
        baseline=usual,
        limits=limits,
        run_length=run_length,
        values=numbers,
        scores=scores,
        low=low,
        high=high,
        ewma=_spread_out(ewma, after, len(numbers)),
        ewma_limits=_spread_out(ewma_limits, after, len(numbers)),
        cusum_high=_spread_out(cusum_high, after, len(numbers)),
        cusum_low=_spread_out(cusum_low, after, len(numbers)),
        alarms=(),
    )
    return replace(charts, alarms=_alarms(charts, after))


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
    _require_baseline(baseline, len(known), run_length)
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


def limits_for(run_length: float, baseline: int) -> Limits:
    """Return the critical values for a wanted average run length in control and a baseline of so many cases.

    Parameters
    ----------
    run_length
        Cases between two false alarms of one chart.
    baseline
        Cases from which centre and deviation are estimated, at least 3.
    """
    error = 1 / math.sqrt(baseline)
    # the chance that a case lies on a given side is a half at most, moved by the centre's own error
    side = float(stats.norm.cdf(error))
    return Limits(
        individuals=float(stats.t.isf(0.5 / run_length, baseline - 1)) * math.sqrt(1 + 1 / baseline),
        ewma=_ewma_limit(run_length),
        cusum=_cusum_limit(run_length),
        cusum_reference=CUSUM_REFERENCE + error,
        run=math.ceil(math.log(1 / (2 * run_length * (1 - side))) / math.log(side)),
    )


def cusum_run_length(limit: float, reference: float = CUSUM_REFERENCE, shift: float = 0.0) -> float:
    """Return the average run length of a two-sided CUSUM by Siegmund's approximation.

    Parameters
    ----------
    limit, reference
        h and k in standard deviations.
    shift
        Of the mean, in standard deviations.
    """
    height = limit + 1.166

    def one_sided(drift: float) -> float:
        if abs(drift) < 1e-9:
            return height * height
        return (math.exp(-2 * drift * height) + 2 * drift * height - 1) / (2 * drift * drift)

    return 1 / (1 / one_sided(shift - reference) + 1 / one_sided(-shift - reference))


def ewma_run_length(limit: float, weight: float = EWMA_WEIGHT, shift: float = 0.0) -> float:
    """Return the average run length of a two-sided EWMA chart with its asymptotic limits (Markov chain).

    Parameters
    ----------
    limit
        In standard deviations of the statistic.
    weight
        Of the newest case, above 0 and at most 1.
    shift
        Of the mean, in standard deviations of the cases.
    """
    bound = limit * math.sqrt(weight / (2 - weight))
    half = bound / _STATES
    states = np.linspace(-bound + half, bound - half, _STATES)
    kept = (1 - weight) * states[:, None]
    upper = stats.norm.cdf((states[None, :] + half - kept) / weight - shift)
    lower = stats.norm.cdf((states[None, :] - half - kept) / weight - shift)
    lengths = np.linalg.solve(np.eye(_STATES) - (upper - lower), np.ones(_STATES))
    return float(lengths[_STATES // 2])


@cache
def _ewma_limit(run_length: float) -> float:
    return float(optimize.brentq(lambda x: math.log(ewma_run_length(x) / run_length), 0.5, 7.0, xtol=1e-3))


def _cusum_limit(run_length: float) -> float:
    return float(optimize.brentq(lambda x: cusum_run_length(x) - run_length, 0.0, 60.0))


def _require_baseline(baseline: int, known: int, run_length: float) -> None:
    if not LEAST_BASELINE <= baseline <= known or not run_length > 10:
        raise InputError(
            f"A control chart needs a baseline of {LEAST_BASELINE} or more of the cases that have a value, and more "
            f"than 10 cases between false alarms; got a baseline of {baseline} of {known} cases and {run_length}."
        )


def _baseline_of(values: NDArray[np.float64]) -> Baseline:
    log = bool((values > 0).all()) and float(values.max() / values.min()) > _LOG_RATIO
    scaled = np.log10(values) if log else values
    kept = _without_outliers(scaled)
    varied = float(np.ptp(kept)) > HEADER_NOISE * float(np.abs(kept).max())
    return Baseline(
        n_used=len(kept),
        n_outliers=len(values) - len(kept),
        centre=float(kept.mean()),
        sd=float(kept.std(ddof=1)) if varied else 0.0,
        scale="log10" if log else "linear",
        values=np.sort(values),
    )


def _without_outliers(values: NDArray[np.float64]) -> NDArray[np.float64]:
    median = np.median(values)
    deviation = 1.4826 * float(np.median(np.abs(values - median)))
    kept = values[np.abs(values - median) <= OUTLIER_DEVIATIONS * deviation]
    # a feature that is the same in most cases has no robust deviation; then nothing is an outlier
    return kept if deviation and len(values) - len(kept) <= OUTLIER_SHARE * len(values) else values


def _single_case_bounds(usual: Baseline, limits: Limits) -> tuple[float, float]:
    """Return the values beyond which a single case is an alarm."""
    used = np.log10(usual.values) if usual.scale == "log10" else usual.values
    # the used values are those in the middle of the sorted ones, as outliers are at the ends
    kept = np.sort(_without_outliers(used))
    room = float(np.ptp(kept)) / 2
    low = min(usual.centre - limits.individuals * usual.sd, float(kept[0]) - room)
    high = max(usual.centre + limits.individuals * usual.sd, float(kept[-1]) + room)
    return (10**low, 10**high) if usual.scale == "log10" else (low, high)


def _normal_scores(numbers: NDArray[np.float64], usual: Baseline) -> NDArray[np.float64]:
    found = _quantiles(numbers, usual.values) - _mean_score(usual.values)
    return np.where(np.isnan(numbers), np.nan, found)


def _mean_score(values: NDArray[np.float64]) -> float:
    """Return the mean score of a baseline among itself: not 0 if many values are equal."""
    return float(_quantiles(values, values).mean())


def _quantiles(numbers: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return normal scores of ranks among sorted values; equal ones count half."""
    smaller = np.searchsorted(among, numbers, "left")
    not_larger = np.searchsorted(among, numbers, "right")
    scores: NDArray[np.float64] = stats.norm.ppf((0.5 * (smaller + not_larger) + 0.5) / (len(among) + 1))
    return scores


def _spread_out(track: NDArray[np.float64], places: NDArray[np.intp], length: int) -> NDArray[np.float64]:
    found = np.full(length, np.nan)
    found[places] = track
    return found


def _alarms(charts: NumberCharts, after: NDArray[np.intp]) -> tuple[Alarm, ...]:
    if charts.baseline.sd == 0:
        return _constant_alarms(charts.values, after, charts.baseline)
    found = (
        _individuals_alarm(charts, after),
        _run_alarm(charts, after),
        _ewma_alarm(charts, after),
        _cusum_alarm(charts, after),
    )
    return tuple(alarm for alarm in found if alarm is not None)


def _ewma(
    scores: NDArray[np.float64], limits: Limits, baseline: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    smoothed, level = np.empty(len(scores)), 0.0
    for i, score in enumerate(scores):
        level += EWMA_WEIGHT * (float(score) - level)
        smoothed[i] = level
    steps = np.arange(1, len(scores) + 1)
    variance = EWMA_WEIGHT / (2 - EWMA_WEIGHT) * (1 - (1 - EWMA_WEIGHT) ** (2 * steps)) + 1 / baseline
    return smoothed, limits.ewma * np.sqrt(variance)


def _cusum(scores: NDArray[np.float64], limits: Limits) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    high, low = np.empty(len(scores)), np.empty(len(scores))
    above = below = 0.0
    for i, score in enumerate(scores):
        above = max(0.0, above + float(score) - limits.cusum_reference)
        below = max(0.0, below - float(score) - limits.cusum_reference)
        high[i], low[i] = above, below
    return high, low


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
