"""Paired tests against enumeration, scipy and nominal error rates."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from delineate.errors import InputError
from delineate.metrics.comparison import holm, paired_difference, permutation_test, wilcoxon_signed_rank


def own(n):
    return [f"p{i}" for i in range(n)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 3)), min_size=1, max_size=8))
def test_permutation_test_enumerates_the_signs_of_patients(cases):
    differences = [d for d, _ in cases]
    patients = [f"p{p}" for _, p in cases]
    sums = {}
    for difference, patient in zip(differences, patients, strict=True):
        sums[patient] = sums.get(patient, 0) + difference
    outcomes = [abs(np.dot(signs, list(sums.values()))) for signs in itertools.product((-1, 1), repeat=len(sums))]
    found = permutation_test(differences, [0] * len(cases), patients, seed=0)
    assert found.exact
    assert found.p_value == pytest.approx(np.mean([o >= abs(sum(differences)) for o in outcomes]))
    assert found.statistic == pytest.approx(np.mean(differences))


def test_drawn_permutations_are_near_scipy_and_repeatable():
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.25, 1, 30), rng.normal(0, 1, 30)
    found = permutation_test(first, second, own(30), seed=5)
    theirs = stats.permutation_test(
        (first, second), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=10_000, rng=rng
    )
    assert not found.exact
    assert found.seed == 5
    assert found.p_value == pytest.approx(theirs.pvalue, abs=0.02)
    assert found == permutation_test(first, second, own(30), seed=5)


def test_permutation_test_keeps_its_error_rate_with_clustered_cases():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(200):
        shared = rng.normal(size=8).repeat(5)
        noise = rng.normal(size=40) * 0.1
        p = permutation_test(shared + noise, np.zeros(40), [f"p{i // 5}" for i in range(40)], seed=0).p_value
        found += p <= 0.05
    assert found / 200 < 0.1


def test_wilcoxon_is_scipys_on_patient_means():
    rng = np.random.default_rng(2)
    first, second = rng.normal(0.3, 1, 40), rng.normal(0, 1, 40)
    found = wilcoxon_signed_rank(first, second, [f"p{i // 2}" for i in range(40)])
    theirs = stats.wilcoxon((first - second).reshape(20, 2).mean(axis=1))
    assert (found.p_value, found.statistic) == pytest.approx((theirs.pvalue, theirs.statistic))
    assert (found.n_used, found.n_patients, found.exact, found.seed) == (40, 20, True, None)


def test_wilcoxon_with_ties_zeros_and_no_difference():
    first = np.array([0.0, 1, 1, 2, -1, 3])
    found = wilcoxon_signed_rank(first, np.zeros(6), own(6))
    assert not found.exact
    assert 0 < found.p_value <= 1
    assert wilcoxon_signed_rank([0.5, 0.5], [0.5, 0.5], own(2)).p_value == 1


def test_missing_numbers_are_left_out_and_counted():
    first, second = [0.5, math.nan, 0.7], [0.4, 0.4, 0.4]
    for found in (permutation_test(first, second, own(3), seed=0), wilcoxon_signed_rank(first, second, own(3))):
        assert (found.n_used, found.n_excluded, found.n_patients) == (2, 1, 2)
    nothing = permutation_test([math.nan], [0.0], ["a"], seed=0)
    assert math.isnan(nothing.p_value)
    assert math.isnan(wilcoxon_signed_rank([math.nan], [0.0], ["a"]).p_value)


def test_difference_has_an_interval():
    rng = np.random.default_rng(0)
    second = rng.random(50)
    found = paired_difference(second + 0.1 + 0.01 * rng.normal(size=50), second, own(50), seed=4)
    assert found.interval.low < 0.1 < found.interval.high
    assert found.value == pytest.approx(0.1, abs=0.01)
    assert found.seed == 4


def test_holm_worked_by_hand():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": math.nan})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": math.nan}, nan_ok=True)
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_wrong_input_is_refused():
    with pytest.raises(InputError, match="same cases"):
        paired_difference([1.0], [1.0, 2.0], ["a"], seed=0)
    with pytest.raises(InputError, match="patient"):
        permutation_test([1.0], [2.0], ["a", "b"], seed=0)
    with pytest.raises(InputError, match="permutation"):
        permutation_test([1.0], [2.0], ["a"], seed=0, permutations=0)
