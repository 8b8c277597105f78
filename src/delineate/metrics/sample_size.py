"""How many cases a study needs, for an interval of a wanted width or a difference to be found with a wanted power.

All searches are for the smallest whole number of independent cases that suffices. The module knows no study.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Literal

from scipy import stats

from delineate.errors import InputError
from delineate.metrics.statistics import CONFIDENCE_LEVEL, wilson_interval

LARGEST = 1_000_000
"""Studies beyond so many cases are refused: the assumptions are surely not meant."""

Sides = Literal[1, 2]
"""One-sided (non-inferiority) or two-sided (is there any difference)."""


def cases_for_proportion(expected: float, half_width: float, *, level: float = CONFIDENCE_LEVEL) -> int:
    """Return the cases with which Wilson's interval of the expected proportion is at most so wide to either side.

    Half the length of the interval counts; it is not symmetric about the proportion.

    Parameters
    ----------
    expected
        Proportion, 0 to 1. 0.5 needs the most cases.
    half_width
        Above 0, below 0.5.
    level
        Between 0 and 1.

    Raises
    ------
    InputError
        If a number is impossible, or no reasonable number of cases suffices.

    References
    ----------
    E. B. Wilson, J. Am. Stat. Assoc. 22 (1927); W. W. Piegorsch, Sample sizes for improved binomial confidence
    intervals, Comput. Stat. Data Anal. 46 (2004).
    """
    _require(0 <= expected <= 1, f"an expected proportion between 0 and 1; got {expected}")
    _require(0 < half_width < 0.5, f"a half-width between 0 and 0.5; got {half_width}")
    _require(0 < level < 1, f"a level between 0 and 1; got {level}")
    z = float(stats.norm.ppf(0.5 + level / 2))

    def wide_enough(n: int) -> bool:
        half = z / (1 + z * z / n) * math.sqrt(expected * (1 - expected) / n + z * z / (4 * n * n))
        return half <= half_width

    return _smallest(wide_enough, start=1)


@cache
def cases_for_mean(sd: float, half_width: float, *, level: float = CONFIDENCE_LEVEL) -> int:
    """Return the cases with which Student's interval of a mean is at most so wide to either side at this deviation.

    Parameters
    ----------
    sd
        Standard deviation between cases, in the unit of the values; above 0.
    half_width
        In the same unit; above 0.
    level
        Between 0 and 1.

    Raises
    ------
    InputError
        If a number is impossible, or no reasonable number of cases suffices.
    """
    _require(sd > 0 and half_width > 0, f"a deviation and a half-width above 0; got {sd} and {half_width}")
    _require(0 < level < 1, f"a level between 0 and 1; got {level}")

    def narrow(n: int) -> bool:
        return float(stats.t.ppf(0.5 + level / 2, n - 1)) * sd / math.sqrt(n) <= half_width

    return _smallest(narrow, start=2)


@cache
def pairs_for_difference(difference: float, sd: float, *, power: float, alpha: float = 0.05, sides: Sides = 2) -> int:
    """Return the pairs with which a paired t test finds a mean difference with the wanted power (noncentral t).

    For non-inferiority give the margin plus the expected advantage as the difference, and ``sides=1``.

    Parameters
    ----------
    difference
        Not 0, in the unit of the values.
    sd
        Standard deviation of the differences between pairs, in the same unit; above 0.
    power, alpha
        Between 0 and 1.
    sides
        Of the test.

    Raises
    ------
    InputError
        If a number is impossible, or no reasonable number of pairs suffices.

    References
    ----------
    J. Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd edition (1988), chapter 2.
    """
    _require_test(difference, sd, power, alpha)
    effect = abs(difference) / sd
    return _smallest(lambda n: _t_power(effect * math.sqrt(n), n - 1, alpha, sides) >= power, start=2)


@cache
def cases_per_arm_for_means(
    difference: float, sd: float, *, power: float, alpha: float = 0.05, sides: Sides = 2
) -> int:
    """Return the cases per arm with which a two-sample t test finds a difference of means (noncentral t, equal arms).

    Parameters
    ----------
    difference
        Not 0, in the unit of the values.
    sd
        Standard deviation between cases within an arm, in the same unit; above 0.
    power, alpha
        Between 0 and 1.
    sides
        Of the test.

    Raises
    ------
    InputError
        If a number is impossible, or no reasonable number of cases suffices.
    """
    _require_test(difference, sd, power, alpha)
    effect = abs(difference) / sd
    return _smallest(lambda n: _t_power(effect * math.sqrt(n / 2), 2 * n - 2, alpha, sides) >= power, start=2)


def cases_per_arm_for_proportions(
    first: float, second: float, *, power: float, alpha: float = 0.05, sides: Sides = 2
) -> int:
    """Return the cases per arm with which the normal test of two proportions finds their difference (equal arms).

    n = (z_a sqrt(2 p q) + z_b sqrt(p1 q1 + p2 q2))^2 / (p1 - p2)^2 with p the mean of the two; no continuity
    correction.

    Parameters
    ----------
    first, second
        Proportions, 0 to 1, not equal.
    power, alpha
        Between 0 and 1.
    sides
        Of the test.

    Raises
    ------
    InputError
        If a number is impossible.

    References
    ----------
    J. L. Fleiss, B. Levin, M. C. Paik, Statistical Methods for Rates and Proportions, 3rd edition (2003), eq. 4.14.
    """
    _require(0 <= first <= 1 and 0 <= second <= 1, f"proportions between 0 and 1; got {first} and {second}")
    _require_test(first - second, 1.0, power, alpha)
    middle = (first + second) / 2
    z_alpha, z_beta = stats.norm.isf(alpha / sides), stats.norm.ppf(power)
    root = z_alpha * math.sqrt(2 * middle * (1 - middle)) + z_beta * math.sqrt(
        first * (1 - first) + second * (1 - second)
    )
    return _within_reason(math.ceil((root / (first - second)) ** 2))


def with_dropout(cases: int, dropout: float) -> int:
    """Return how many to enrol so that so many cases are left after a share of them drops out.

    Raises
    ------
    InputError
        If the share is not at least 0 and below 1.
    """
    _require(0 <= dropout < 1, f"a share of dropouts of at least 0 and below 1; got {dropout}")
    return math.ceil(cases / (1 - dropout) - 1e-9)


def half_width_reached(successes: int, trials: int, *, level: float = CONFIDENCE_LEVEL) -> float:
    """Return half the length of Wilson's interval of what was observed.

    Raises
    ------
    InputError
        If the counts or the level are impossible.
    """
    found = wilson_interval(successes, trials, level=level)
    return (found.high - found.low) / 2


def _t_power(noncentrality: float, degrees: int, alpha: float, sides: Sides) -> float:
    limit = float(stats.t.isf(alpha / sides, degrees))
    power = float(stats.nct.sf(limit, degrees, noncentrality))
    # far from 0 the other tail underflows to NaN in some versions of scipy; it is nothing there
    other = float(stats.nct.cdf(-limit, degrees, noncentrality)) if sides == 2 and noncentrality < 5 else 0.0
    return power + other


def _smallest(enough: Callable[[int], bool], *, start: int) -> int:
    high = start
    while not enough(high):
        high = _within_reason(2 * high)
    low = max(start, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def _within_reason(cases: int) -> int:
    _require(cases <= LARGEST, f"assumptions with which {LARGEST} cases suffice")
    return cases


def _require_test(difference: float, sd: float, power: float, alpha: float) -> None:
    _require(difference != 0 and math.isfinite(difference), f"a difference that is not 0; got {difference}")
    _require(sd > 0, f"a standard deviation above 0; got {sd}")
    _require(0 < alpha < power < 1, f"0 < alpha < power < 1; got {alpha} and {power}")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise InputError(f"A sample size needs {what}.")
