"""Two groups of different cases against scipy and against counting by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from delineate.errors import InputError
from delineate.metrics.unpaired import gap_interval, membership_test


def difference(first, second, axis=-1):
    return np.mean(first, axis=axis) - np.mean(second, axis=axis)


def test_p_of_few_patients_is_scipys_exact_one():
    rng = np.random.default_rng(3)
    values, inside = rng.normal(size=11), np.arange(11) < 4
    found = membership_test(values, inside, [f"p{i}" for i in range(11)], seed=0)
    expected = stats.permutation_test(
        (values[inside], values[~inside]), difference, n_resamples=np.inf, alternative="two-sided"
    )
    assert found.exact
    assert found.statistic == pytest.approx(expected.statistic)
    # scipy doubles the smaller tail; both sides are counted here
    gaps = [difference(values[list(c)], np.delete(values, list(c))) for c in itertools.combinations(range(11), 4)]
    assert found.p_value == pytest.approx(np.mean(np.abs(gaps) >= abs(found.statistic) - 1e-12))
    assert abs(found.p_value - expected.pvalue) < 0.1


def test_p_of_many_patients_is_near_scipys_and_depends_on_the_seed_alone():
    rng = np.random.default_rng(5)
    values, inside = rng.normal(size=80), np.arange(80) < 30
    values[inside] += 0.4
    names = [f"p{i}" for i in range(80)]
    found = membership_test(values, inside, names, seed=1)
    expected = stats.permutation_test((values[inside], values[~inside]), difference, n_resamples=20_000, rng=1).pvalue
    assert not found.exact
    assert found.p_value == pytest.approx(expected, abs=0.01)
    assert membership_test(values, inside, names, seed=1) == found
    assert membership_test(values, ~inside, names, seed=1).p_value == pytest.approx(found.p_value, abs=0.01)


def test_cases_of_a_patient_are_exchanged_together():
    values = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.2])
    patients = ["a", "a", "a", "b", "b", "b", "c"]
    inside = np.array([True] * 3 + [False] * 4)
    found = membership_test(values, inside, patients, seed=0)
    by_patient = {"a": [1.0] * 3, "b": [0.0] * 3, "c": [0.2]}
    gaps = []
    for chosen in "abc":
        rest = [v for p, vs in by_patient.items() if p != chosen for v in vs]
        gaps.append(np.mean(by_patient[chosen]) - np.mean(rest))
    assert found.n_patients == 3
    assert found.p_value == pytest.approx(np.mean(np.abs(gaps) >= abs(gaps[0]) - 1e-12))


def test_nothing_to_compare_has_no_p_and_nan_is_counted():
    found = membership_test([0.1, 0.2], [True, True], ["a", "b"], seed=0)
    assert np.isnan(found.p_value)
    assert np.isnan(found.statistic)
    left = membership_test([0.1, np.nan, 0.3], [True, False, False], ["a", "b", "c"], seed=0)
    assert (left.n_used, left.n_excluded) == (2, 1)
    assert left.statistic == pytest.approx(-0.2)


def test_the_interval_of_the_gap_is_near_scipys():
    rng = np.random.default_rng(8)
    group, rest = rng.normal(0.7, 0.1, 40), rng.normal(0.6, 0.2, 70)
    found = gap_interval(group, rest, [f"g{i}" for i in range(40)], [f"r{i}" for i in range(70)], seed=2)
    expected = stats.bootstrap((group, rest), difference, method="percentile", n_resamples=20_000, rng=4)
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.004)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.004)


def test_patients_widen_the_interval_and_one_patient_gives_none():
    rng = np.random.default_rng(9)
    levels = np.repeat(rng.normal(size=10), 8)
    rest = rng.normal(size=80)
    alone = gap_interval(levels, rest, [f"g{i}" for i in range(80)], [f"r{i}" for i in range(80)], seed=0)
    together = gap_interval(levels, rest, [f"g{i // 8}" for i in range(80)], [f"r{i}" for i in range(80)], seed=0)
    assert together.high - together.low > 1.5 * (alone.high - alone.low)
    assert np.isnan(gap_interval([1.0, 2.0], rest, ["a", "a"], [f"r{i}" for i in range(80)], seed=0).low)


def test_lengths_must_fit():
    with pytest.raises(InputError, match="1 patients"):
        membership_test([0.1, 0.2], [True, False], ["a"], seed=0)
    with pytest.raises(InputError, match="Every value needs a patient"):
        gap_interval([0.1], [0.2], [], ["b"], seed=0)
