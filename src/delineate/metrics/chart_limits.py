"""Critical values of control charts: from how rarely a false alarm is wanted, and how short the baseline is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import optimize, stats

RUN_LENGTH = 500.0
"""Cases between two false alarms of one chart unless asked otherwise."""
EWMA_WEIGHT = 0.2
"""Of the newest case (D. C. Montgomery, Introduction to Statistical Quality Control, 9.2: 0.05 to 0.25)."""
CUSUM_REFERENCE = 0.5
"""Half the shift, in standard deviations, that CUSUM finds quickest: 1."""
_STATES = 101


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
