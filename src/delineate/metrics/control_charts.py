"""Control charts: is what comes in now still what came in during a declared baseline period?

Numbers get three charts: Shewhart individuals with a run rule, EWMA, CUSUM; yes/no features have
:mod:`delineate.metrics.proportion_chart`. Limits follow from the baseline alone and from how rarely a false alarm is
wanted (average run length in control), and allow for the baseline being short. The module knows sequences of numbers in
the order of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from delineate.metrics.chart_alarms import NumberCharts, alarms_of
from delineate.metrics.chart_baseline import baseline_of, normal_scores, require_baseline, single_case_bounds
from delineate.metrics.chart_limits import EWMA_WEIGHT, RUN_LENGTH, Limits, limits_for


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
    require_baseline(baseline, len(known), run_length)
    usual = baseline_of(numbers[known[:baseline]])
    first = int(known[baseline]) if len(known) > baseline else len(numbers)
    limits = limits_for(run_length, baseline)
    low, high = single_case_bounds(usual, limits)
    scores = normal_scores(numbers, usual)
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
    return replace(charts, alarms=alarms_of(charts, after))


def _spread_out(track: NDArray[np.float64], places: NDArray[np.intp], length: int) -> NDArray[np.float64]:
    found = np.full(length, np.nan)
    found[places] = track
    return found


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
