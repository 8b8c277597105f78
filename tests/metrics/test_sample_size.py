from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from delineate.errors import InputError
from delineate.metrics.group_sequential import crossing_probability, inflation, obrien_fleming
from delineate.metrics.sample_size import (
    cases_for_mean,
    cases_for_proportion,
    cases_per_arm_for_means,
    cases_per_arm_for_proportions,
    half_width_reached,
    pairs_for_difference,
    with_dropout,
)
from delineate.metrics.statistics import wilson_interval


@given(st.floats(0, 1), st.floats(0.02, 0.3), st.sampled_from([0.9, 0.95, 0.99]))
@settings(max_examples=60, deadline=None)
def test_a_proportion_needs_just_so_many_cases(expected: float, half_width: float, level: float) -> None:
    n = cases_for_proportion(expected, half_width, level=level)
    z = stats.norm.ppf(0.5 + level / 2)

    def half(n: int) -> float:  # the roots of (p - x)^2 = z^2 x (1 - x) / n
        low, high = np.sort(np.roots([1 + z * z / n, -(2 * expected + z * z / n), expected**2]).real)
        return (high - low) / 2

    assert half(n) <= half_width + 1e-6
    assert n == 1 or half(n - 1) > half_width - 1e-6


def test_a_proportion_agrees_with_the_interval_that_is_reported() -> None:
    n = cases_for_proportion(0.5, 0.05)
    assert n == 381  # 1.96^2 / 4 / 0.05^2 - 1.96^2 = 380.3
    assert half_width_reached(190, 380) > 0.05 >= half_width_reached(191, 382) - 1e-9
    interval = wilson_interval(191, 382)
    assert half_width_reached(191, 382) == pytest.approx((interval.high - interval.low) / 2)


def test_a_mean_needs_just_so_many_cases() -> None:
    # the textbook's 61.5 by the normal distribution, a little more by Student's
    assert math.ceil((1.959964 * 4) ** 2) == 62
    n = cases_for_mean(4.0, 1.0)
    assert n == 64
    data = np.random.default_rng(0).normal(size=n)
    data = (data - data.mean()) / data.std(ddof=1) * 4
    low, high = stats.ttest_1samp(data, 0).confidence_interval(0.95)
    assert (high - low) / 2 <= 1.0


@pytest.mark.parametrize(
    ("effect", "power", "pairs"), [(0.5, 0.8, 34), (0.5, 0.9, 44), (0.2, 0.8, 199), (0.8, 0.8, 15)]
)
def test_pairs_are_those_of_the_tables(effect: float, power: float, pairs: int) -> None:
    """G*Power's and Cohen's numbers for a two-sided paired t test at 0.05."""
    assert pairs_for_difference(effect * 3, 3.0, power=power) == pairs
    assert pairs_for_difference(-effect * 3, 3.0, power=power) == pairs


@pytest.mark.parametrize(
    ("effect", "power", "cases"), [(0.5, 0.8, 64), (0.2, 0.8, 394), (0.8, 0.8, 26), (0.5, 0.9, 86)]
)
def test_cases_per_arm_are_those_of_the_tables(effect: float, power: float, cases: int) -> None:
    """Cohen 1988, table 2.4.1 by the exact noncentral t."""
    assert cases_per_arm_for_means(effect, 1.0, power=power) == cases


def test_one_sided_and_proportions() -> None:
    assert pairs_for_difference(0.5, 1.0, power=0.8, alpha=0.025, sides=1) in (33, 34)
    # Fleiss, Levin, Paik: p1 = 0.25, p2 = 0.40, alpha 0.01, power 0.95: their table has 357, with the correction
    n = cases_per_arm_for_proportions(0.25, 0.40, power=0.95, alpha=0.01)
    assert n == 344
    assert n / 4 * (1 + math.sqrt(1 + 4 / (n * 0.15))) ** 2 == pytest.approx(357, abs=1)


def test_the_power_is_that_of_a_simulation() -> None:
    n = pairs_for_difference(0.6, 1.0, power=0.8)
    samples = np.random.default_rng(1).normal(0.6, 1, size=(20_000, n))
    found = (stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).mean()
    assert 0.79 < found < 0.84


def test_dropout() -> None:
    assert with_dropout(90, 0.1) == 100
    assert with_dropout(91, 0.1) == 102
    assert with_dropout(91, 0.0) == 91


@pytest.mark.parametrize(
    "call",
    [
        lambda: cases_for_proportion(1.2, 0.1),
        lambda: cases_for_proportion(0.5, 0.0),
        lambda: cases_for_proportion(0.5, 1e-6),
        lambda: cases_for_mean(0.0, 1.0),
        lambda: pairs_for_difference(0.0, 1.0, power=0.8),
        lambda: pairs_for_difference(1.0, 1.0, power=0.01),
        lambda: with_dropout(10, 1.0),
        lambda: cases_per_arm_for_proportions(0.5, 0.5, power=0.8),
        lambda: obrien_fleming(0),
        lambda: obrien_fleming(3, 0.7),
        lambda: inflation(obrien_fleming(2), 1.0),
    ],
)
def test_impossible_numbers_are_refused(call) -> None:
    with pytest.raises(InputError, match=r"needs|power must"):
        call()


@pytest.mark.parametrize(
    ("looks", "constant"), [(1, 1.960), (2, 1.977), (3, 2.004), (4, 2.024), (5, 2.040), (10, 2.087)]
)
def test_the_boundary_is_that_of_the_tables(looks: int, constant: float) -> None:
    """Jennison and Turnbull 2000, table 2.3, alpha = 0.05."""
    boundary = obrien_fleming(looks)
    assert boundary.critical[-1] == pytest.approx(constant, abs=6e-4)
    assert boundary.critical[0] == pytest.approx(constant * math.sqrt(looks), abs=3e-3)
    assert crossing_probability(boundary.critical) == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize(("looks", "factor"), [(2, 1.007), (5, 1.026)])
def test_the_inflation_is_that_of_the_tables(looks: int, factor: float) -> None:
    """Jennison and Turnbull 2000, table 2.4, alpha = 0.05, power 0.9."""
    assert inflation(obrien_fleming(looks), 0.9) == pytest.approx(factor, abs=1.1e-3)


def test_the_boundary_holds_in_a_simulation() -> None:
    boundary = obrien_fleming(4)
    scores = np.cumsum(np.random.default_rng(5).normal(size=(60_000, 4)), axis=1) / np.sqrt(np.arange(1, 5))
    assert (np.abs(scores) >= boundary.critical).any(axis=1).mean() == pytest.approx(0.05, abs=0.003)
    drifted = scores + 3.0 * np.sqrt(np.arange(1, 5) / 4)
    expected = crossing_probability(boundary.critical, 3.0)
    assert (np.abs(drifted) >= boundary.critical).any(axis=1).mean() == pytest.approx(expected, abs=0.005)
