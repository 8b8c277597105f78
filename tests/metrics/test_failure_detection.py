"""Ranking and risk-coverage against scikit-learn, brute force and closed forms."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delineate.errors import InputError
from delineate.metrics.evaluation.trust_study import JudgedCase, study_trust
from delineate.metrics.failure_detection import (
    auroc,
    auroc_interval,
    ideal_area,
    random_area,
    rank_correlation,
    risk_coverage,
)

numbers = st.lists(st.integers(0, 6), min_size=1, max_size=12)


@given(numbers, numbers)
def test_auroc_is_the_share_of_pairs_in_order(high, low):
    pairs = [(a > b) + 0.5 * (a == b) for a in high for b in low]
    assert auroc(high, low) == pytest.approx(np.mean(pairs))


def test_auroc_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the oracle")
    rng = np.random.default_rng(3)
    scores, truths = rng.integers(0, 20, 200).astype(float), rng.random(200) < 0.3
    assert auroc(scores[truths], scores[~truths]) == pytest.approx(metrics.roc_auc_score(truths, scores))


def test_auroc_of_nothing_is_unknown_and_nan_is_refused():
    assert np.isnan(auroc([], [1.0]))
    with pytest.raises(InputError, match="NaN"):
        auroc([np.nan], [1.0])


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=6))
def test_the_curve_is_the_mean_over_all_orders_of_equal_scores(cases):
    orders = [o for o in itertools.permutations(cases) if all(a[0] <= b[0] for a, b in itertools.pairwise(o))]
    expected = np.mean([np.cumsum([r for _, r in o]) / np.arange(1, len(o) + 1) for o in orders], axis=0)
    found = risk_coverage([s for s, _ in cases], [r for _, r in cases])
    np.testing.assert_allclose(found.risk, expected)
    assert found.coverage[-1] == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.randoms())
def test_no_score_is_better_than_the_ideal_one(risks, random):
    scores = [random.random() for _ in risks]
    assert ideal_area(risks) <= risk_coverage(scores, risks).area + 1e-12
    assert random_area(risks) == pytest.approx(risk_coverage([0.0] * len(risks), risks).area)


def test_rank_correlation_is_that_of_scipy():
    from scipy import stats

    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 9, 50), rng.integers(0, 9, 50)
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert np.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))


def test_the_interval_covers_the_truth_and_draws_patients():
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(60):
        truths = np.arange(60) % 2 == 0
        scores = rng.normal(truths * 1.0)
        found = auroc_interval(scores, truths, [f"p{i}" for i in range(60)], seed=seed, resamples=300)
        inside += found.low <= 0.7602 <= found.high  # Phi(1 / sqrt(2))
    assert inside >= 52
    together = auroc_interval(scores, truths, [f"p{i // 30}" for i in range(60)], seed=0, resamples=300)
    assert together.high - together.low < found.high - found.low or together != found
    assert np.isnan(auroc_interval([1.0, 2.0], [True, False], ["a", "a"], seed=0).low)


def test_a_study_judges_shifts_and_failures():
    ordinary = [
        JudgedCase(case_id=f"o{i}", patient_id=f"p{i}", shift="", scores={"s": i / 10, "t": np.nan}, dice=1 - i / 10)
        for i in range(6)
    ]
    noisy = [
        JudgedCase(case_id=f"n{i}", patient_id=f"p{i}", shift="noise", scores={"s": 2.0 + i, "t": np.nan}, dice=0.1)
        for i in range(6)
    ]
    far = [JudgedCase(case_id="f", patient_id="f", shift="far", scores={"s": 0.05}, dice=np.nan)]
    shifts, failures = study_trust([*ordinary, *noisy, *far], ["s", "t"], failure_below=0.5, seed=0)
    by = {(d.shift, d.score): d for d in shifts}
    assert by["noise", "s"].auroc == 1
    assert by["noise", "t"].auroc == 0.5
    assert by["far", "s"].auroc == pytest.approx(1 / 6)
    assert by["shifted", "s"].n_shifted == 7
    found = {(f.population, f.score): f for f in failures}
    assert found["ordinary", "s"].spearman == pytest.approx(1)
    assert found["ordinary", "s"].aurc == pytest.approx(found["ordinary", "s"].aurc_ideal)
    assert found["all", "s"].failure_auroc == 1
    assert found["all", "s"].n_cases == 12
    with pytest.raises(InputError, match="ordinary"):
        study_trust(noisy, ["s"], failure_below=0.5, seed=0)
