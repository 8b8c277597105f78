"""Rankings: clear winners, coin flips, and both schemes."""

import math

import numpy as np
import pytest

from delineate.errors import InputError, UsageError
from delineate.metrics.ranking import rank_stability


def patients(n):
    return [f"p{i}" for i in range(n)]


def test_a_clear_order_is_stable():
    base = np.random.default_rng(0).random(30)
    scores = {"worst": base, "best": base + 0.2, "middle": base + 0.1}
    found = rank_stability(scores, patients(30), seed=1, resamples=200)
    np.testing.assert_array_equal(found.ranks, [3, 1, 2])
    np.testing.assert_array_equal(found.distribution, [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    assert (found.kendall_tau, found.seed, found.n_used) == (1.0, 1, 30)
    assert list(rank_stability(scores, patients(30), seed=1, resamples=5, higher_is_better=False).ranks) == [1, 3, 2]


def test_equal_methods_share_and_coin_flips_are_unstable():
    rng = np.random.default_rng(0)
    found = rank_stability({"a": rng.random(40), "b": rng.random(40)}, patients(40), seed=0, resamples=500)
    assert found.distribution.sum(axis=1) == pytest.approx([1, 1])
    assert found.distribution.min() > 0.005
    same = rank_stability({"a": np.ones(5), "b": np.ones(5)}, patients(5), seed=0, resamples=20)
    np.testing.assert_array_equal(same.ranks, [1.5, 1.5])
    assert math.isnan(same.kendall_tau)


def test_schemes_differ_where_one_case_decides_the_mean():
    scores = {"steady": [0.8, 0.8, 0.8, 0.8], "lucky": [0.79, 0.79, 0.79, 1.0]}
    assert list(rank_stability(scores, patients(4), seed=0, resamples=9).ranks) == [2, 1]
    by_rank = rank_stability(scores, patients(4), seed=0, resamples=9, scheme="rank_then_mean")
    assert list(by_rank.ranks) == [1, 2]


def test_bootstrap_draws_whole_patients():
    # one patient of many cases for either method: half of the samples see only one of them
    scores = {"a": [1.0] * 5 + [0.0] * 6, "b": [0.0] * 5 + [1.0] * 6}
    found = rank_stability(scores, ["x"] * 5 + ["y"] * 6, seed=0, resamples=2000)
    # x x: a wins; y y: b wins; x y: b wins by 6 to 5
    assert found.distribution[0, 0] == pytest.approx(0.25, abs=0.04)


def test_cases_with_a_missing_number_are_left_out():
    found = rank_stability({"a": [1, math.nan, 0.5], "b": [0, 9.0, 0.4]}, patients(3), seed=0, resamples=9)
    assert (found.n_used, found.n_excluded, found.n_patients) == (2, 1, 2)
    assert list(found.ranks) == [1, 2]


def test_wrong_input_is_refused():
    with pytest.raises(InputError, match="two methods"):
        rank_stability({"a": [1.0]}, ["p"], seed=0)
    with pytest.raises(InputError, match="wrong are b"):
        rank_stability({"a": [1.0], "b": [1.0, 2.0]}, ["p"], seed=0)
    with pytest.raises(InputError, match="no case"):
        rank_stability({"a": [math.nan], "b": [1.0]}, ["p"], seed=0)
    with pytest.raises(UsageError, match="scheme"):
        rank_stability({"a": [1.0], "b": [1.0]}, ["p"], seed=0, scheme="best")
