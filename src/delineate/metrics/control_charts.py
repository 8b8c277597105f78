"""Control charts: is what comes in now still what came in during a declared baseline period?

Numbers get three charts (Shewhart individuals with a run rule, EWMA, CUSUM), yes/no features a p-chart. Limits follow
from the baseline alone and from how rarely a false alarm is wanted (average run length in control), and allow for the
baseline being short. The module knows sequences of numbers in the order of time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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
_LOG_RATIO = 10.0
_STATES = 101


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """What was usual."""

    first: int
    """Index of the first case after the baseline."""
    n_used: int
    n_outliers: int
    """Baseline values that were left out of the limits."""
    centre: float
    """Mean of the used values, on the scale."""
    sd: float
    """Their standard deviation, on the scale; 0 if they never varied."""
    scale: Scale
    """``log10`` for positive values that spread over more than a factor of 10."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """The first time that a chart left its limits."""

    chart: ChartKind
    index: int
    """Of the case, from 0, in the order that was given."""
    onset: int
    """Where the change seems to have begun: CUSUM's last zero, the run's first case; else the same as ``index``."""
    size: float
    """In baseline standard deviations; in percentage points for proportions; relative for constants."""
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

    baseline: Baseline
    limits: Limits
    run_length: float
    values: NDArray[np.float64]
    """(case,) as given; NaN where a case has none."""
    scores: NDArray[np.float64]
    """(case,) in baseline standard deviations."""
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

    1. Baseline: values farther than 3.5 robust deviations (1.4826 MAD) from the median are left out; mean and standard
       deviation of the others are the centre and the unit. Positive values that spread over more than a factor of 10
       are charted as log10.
    2. Individuals: alarm beyond t(1 - 1 / (2 ARL), n - 1) sqrt(1 + 1/n), the limit of a prediction interval, so that
       the chance of a false alarm is 1/ARL for normal values however short the baseline.
    3. Run rule: alarm after so many cases in a row on one side of the centre that chance does it once in ARL cases
       (moved outwards by the centre's standard error).
    4. EWMA with weight 0.2: alarm beyond L sqrt(w / (2 - w) (1 - (1 - w)^2t) + 1/n); L from the ARL (Markov chain);
       the last term is the centre's own error.
    5. CUSUM: S+ = max(0, S+ + u - k), S- likewise; k = 0.5 + 1/sqrt(n), alarm above h; h from the ARL (Siegmund).

    A feature that never varied in the baseline alarms at the first other value. EWMA and CUSUM see scores cut at the
    individuals' limit, so that one wild case is not taken for a lasting change.

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
    usual, scores = _standardised(numbers, known, baseline)
    limits = limits_for(run_length, usual.n_used)
    after = known[baseline:]
    if usual.sd == 0:
        alarms = _constant_alarms(numbers, after, usual)
        return _charts(numbers, scores, usual, limits, run_length, after, alarms=alarms)
    return _charts(numbers, scores, usual, limits, run_length, after, alarms=None)


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


def _standardised(
    numbers: NDArray[np.float64], known: NDArray[np.intp], baseline: int
) -> tuple[Baseline, NDArray[np.float64]]:
    usual = numbers[known[:baseline]]
    log = bool((usual > 0).all()) and float(usual.max() / usual.min()) > _LOG_RATIO
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = np.log10(np.maximum(numbers, np.finfo(np.float64).tiny)) if log else numbers.copy()
    kept = _without_outliers(scaled[known[:baseline]])
    varied = float(np.ptp(kept)) > HEADER_NOISE * float(np.abs(kept).max())
    centre, sd = float(kept.mean()), float(kept.std(ddof=1)) if varied else 0.0
    found = Baseline(
        first=int(known[baseline]) if len(known) > baseline else len(numbers),
        n_used=len(kept),
        n_outliers=baseline - len(kept),
        centre=centre,
        sd=sd,
        scale="log10" if log else "linear",
    )
    return found, (scaled - centre) / sd if sd else np.where(np.isnan(numbers), np.nan, 0.0)


def _without_outliers(values: NDArray[np.float64]) -> NDArray[np.float64]:
    median = np.median(values)
    deviation = 1.4826 * float(np.median(np.abs(values - median)))
    kept = values[np.abs(values - median) <= OUTLIER_DEVIATIONS * deviation]
    # a feature that is the same in most cases has no robust deviation; then nothing is an outlier
    return kept if deviation and len(kept) >= 3 else values


def _charts(
    numbers: NDArray[np.float64],
    scores: NDArray[np.float64],
    usual: Baseline,
    limits: Limits,
    run_length: float,
    after: NDArray[np.intp],
    *,
    alarms: tuple[Alarm, ...] | None,
) -> NumberCharts:
    seen = np.clip(scores[after], -limits.individuals, limits.individuals)
    tracks = [np.full(len(numbers), np.nan) for _ in range(4)]
    for track, part in zip(tracks, (*_ewma(seen, limits, usual), *_cusum(seen, limits)), strict=True):
        track[after] = part
    if alarms is None:
        found = (
            _individuals_alarm(scores, after, limits),
            _run_alarm(scores, after, limits),
            _ewma_alarm(tracks[0], tracks[1], after),
            _cusum_alarm(tracks[2], tracks[3], after, limits),
        )
        alarms = tuple(alarm for alarm in found if alarm is not None)
    return NumberCharts(
        baseline=usual,
        limits=limits,
        run_length=run_length,
        values=numbers,
        scores=scores,
        ewma=tracks[0],
        ewma_limits=tracks[1],
        cusum_high=tracks[2],
        cusum_low=tracks[3],
        alarms=alarms,
    )


def _ewma(
    scores: NDArray[np.float64], limits: Limits, usual: Baseline
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    smoothed, level = np.empty(len(scores)), 0.0
    for i, score in enumerate(scores):
        level += EWMA_WEIGHT * (float(score) - level)
        smoothed[i] = level
    steps = np.arange(1, len(scores) + 1)
    variance = EWMA_WEIGHT / (2 - EWMA_WEIGHT) * (1 - (1 - EWMA_WEIGHT) ** (2 * steps)) + 1 / usual.n_used
    return smoothed, limits.ewma * np.sqrt(variance)


def _cusum(scores: NDArray[np.float64], limits: Limits) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    high, low = np.empty(len(scores)), np.empty(len(scores))
    above = below = 0.0
    for i, score in enumerate(scores):
        above = max(0.0, above + float(score) - limits.cusum_reference)
        below = max(0.0, below - float(score) - limits.cusum_reference)
        high[i], low[i] = above, below
    return high, low


def _individuals_alarm(scores: NDArray[np.float64], after: NDArray[np.intp], limits: Limits) -> Alarm | None:
    beyond = after[np.abs(scores[after]) > limits.individuals]
    if not len(beyond):
        return None
    index, size = int(beyond[0]), float(scores[beyond[0]])
    words = f"one case {_signed(size)} standard deviations from the baseline mean (limit {limits.individuals:.1f})"
    return Alarm(chart="individuals", index=index, onset=index, size=size, words=words)


def _run_alarm(scores: NDArray[np.float64], after: NDArray[np.intp], limits: Limits) -> Alarm | None:
    length, side = 0, 0.0
    for place, index in enumerate(after):
        now = float(np.sign(scores[index]))
        length = length + 1 if now and now == side else int(bool(now))
        side = now
        if length == limits.run:
            onset = int(after[place - length + 1])
            size = float(np.mean(scores[after[place - length + 1 : place + 1]]))
            words = (
                f"{length} cases in a row {'above' if now > 0 else 'below'} the baseline mean, by "
                f"{_signed(size)} standard deviations on average"
            )
            return Alarm(chart="run", index=int(index), onset=onset, size=size, words=words)
    return None


def _ewma_alarm(smoothed: NDArray[np.float64], limits: NDArray[np.float64], after: NDArray[np.intp]) -> Alarm | None:
    beyond = after[np.abs(smoothed[after]) > limits[after]]
    if not len(beyond):
        return None
    index = int(beyond[0])
    size = float(smoothed[index])
    words = f"the moving average is {_signed(size)} standard deviations from the baseline mean"
    return Alarm(chart="ewma", index=index, onset=index, size=size, words=f"{words} (limit {limits[index]:.2f})")


def _cusum_alarm(
    high: NDArray[np.float64], low: NDArray[np.float64], after: NDArray[np.intp], limits: Limits
) -> Alarm | None:
    beyond = after[(high[after] > limits.cusum) | (low[after] > limits.cusum)]
    if not len(beyond):
        return None
    index = int(beyond[0])
    rising = bool(high[index] > limits.cusum)
    track = high if rising else low
    place = int(np.searchsorted(after, index))
    zeros = np.flatnonzero(track[after[:place]] == 0)
    start = int(zeros[-1]) + 1 if len(zeros) else 0
    # Montgomery 9.1.4: the mean since the last zero is the reference plus the sum over the cases since then
    size = (limits.cusum_reference + float(track[index]) / (place - start + 1)) * (1 if rising else -1)
    words = f"a lasting shift of about {_signed(size)} standard deviations since case {int(after[start]) + 1}"
    return Alarm(chart="cusum", index=index, onset=int(after[start]), size=size, words=words)


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
