"""Two and three models on the same cases: differences, p values and signs by other means."""

from __future__ import annotations

import math

import numpy as np
import pytest
from evaluation_rows import case_rows, cohort
from scipy import stats

from delineate.errors import InputError, UsageError
from delineate.metrics.evaluation.directions import direction_of, goodness
from delineate.metrics.evaluation.model_comparison import better_of, compare_models


def mean_of_signs(values, axis=-1):
    return np.mean(values, axis=axis)


def test_a_row_is_the_paired_difference_with_scipys_p():
    rng = np.random.default_rng(1)
    first, second = rng.uniform(0.7, 0.9, 12), rng.uniform(0.6, 0.9, 12)
    found = compare_models({"ours": cohort(first), "theirs": cohort(second)}, ["dice"], seed=5)
    (row,) = found.rows[0][1]
    assert (found.names, found.rows[0][0], found.seed) == (("ours", "theirs"), "theirs", 5)
    assert row.first.value == pytest.approx(first.mean())
    assert row.second.value == pytest.approx(second.mean())
    assert row.difference.value == pytest.approx((first - second).mean())
    expected = stats.permutation_test(
        (first - second,), mean_of_signs, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert row.permutation.exact
    assert row.permutation.p_value == pytest.approx(expected.pvalue)
    assert row.p_adjusted == row.permutation.p_value
    assert row.wilcoxon.p_value == pytest.approx(stats.wilcoxon(first - second, method="exact").pvalue)


def test_a_case_counts_only_where_both_have_a_value():
    first, second = [0.9, math.nan, 0.7, 0.8], [0.8, 0.2, math.nan, 0.6]
    (row,) = compare_models({"a": cohort(first), "b": cohort(second)}, ["dice"]).rows[0][1]
    assert (row.difference.n_used, row.difference.n_excluded) == (2, 2)
    assert row.first.value == pytest.approx(0.85)
    assert row.second.value == pytest.approx(0.7)


def test_p_values_are_adjusted_over_structures_and_other_models():
    rng = np.random.default_rng(4)

    def model(shift):
        return [
            case_rows(
                f"c{i}", {name: {"dice": float(rng.normal(0.8 + shift * k, 0.05))} for k, name in enumerate("xyz")}
            )
            for i in range(25)
        ]

    found = compare_models({"a": model(0), "b": model(0.02), "c": model(0.04)}, ["dice"])
    rows = [row for _, of_other in found.rows for row in of_other]
    assert len(rows) == 6
    order = sorted(rows, key=lambda row: row.permutation.p_value)
    running = 0.0
    for rank, row in enumerate(order):  # Holm by hand
        running = max(running, min(1.0, (6 - rank) * row.permutation.p_value))
        assert row.p_adjusted == pytest.approx(running)


def test_smaller_distances_are_better_and_signed_errors_have_no_better_side():
    def model(dice, hd95, error):
        rng = np.random.default_rng(0)
        return [
            case_rows(
                f"c{i}",
                {
                    "liver": {
                        "dice": dice + float(rng.normal(0, 0.01)),
                        "hd95": hd95 + float(rng.normal(0, 0.1)),
                        "volume_error": error + float(rng.normal(0, 0.1)),
                    }
                },
            )
            for i in range(30)
        ]

    found = compare_models(
        {"good": model(0.9, 2.0, 0.1), "bad": [*model(0.8, 5.0, -9.0)]}, ["dice", "hd95", "volume_error"]
    )
    dice, hd95, error = found.rows[0][1]
    # the noise is the same, so every difference is the same number: significant beyond doubt
    assert (better_of(dice), better_of(hd95), better_of(error)) == ("first", "first", None)
    assert hd95.difference.value == pytest.approx(-3.0)
    assert "good is better in 2" in found.sentences[0]
    assert "bad is better" not in found.sentences[0]
    assert "of 2 comparisons" in found.sentences[0]
    ranks = dict(found.ranks)
    assert all(ranks[metric].ranks.tolist() == [1.0, 2.0] for metric in ("dice", "hd95", "volume_error"))
    turned = compare_models({"bad": model(0.8, 5.0, -9.0), "good": model(0.9, 2.0, 0.1)}, ["dice", "hd95"])
    assert [better_of(row) for row in turned.rows[0][1]] == ["second", "second"]
    assert "good is better in 2" in turned.sentences[0]


def test_equal_models_differ_in_nothing_and_the_sentence_claims_no_equality():
    values = np.random.default_rng(3).uniform(0.5, 0.9, 20)
    found = compare_models({"a": cohort(values), "b": cohort(values)}, ["dice"])
    assert better_of(found.rows[0][1][0]) is None
    assert "no difference beyond chance in any of 1 comparisons" in found.sentences[0]
    assert "no proof that they are equal" in found.sentences[0]


def test_models_without_a_common_value_are_not_ranked():
    found = compare_models({"a": cohort([0.5, math.nan]), "b": cohort([math.nan, 0.5])}, ["dice"])
    assert found.ranks == ()
    assert "nothing to compare" in found.sentences[0]


def test_other_cases_or_structures_are_refused():
    with pytest.raises(InputError, match="two models"):
        compare_models({"a": cohort([0.5])}, ["dice"])
    with pytest.raises(InputError, match="b differ"):
        compare_models({"a": cohort([0.5, 0.6]), "b": cohort([0.5])}, ["dice"])
    with pytest.raises(InputError, match="b differ"):
        compare_models({"a": cohort([0.5]), "b": cohort([0.5], structure="spleen")}, ["dice"])


def test_directions():
    assert [direction_of(m) for m in ("dice", "hd95", "volume_error", "absolute_volume_error")] == [
        "higher", "lower", "signed", "lower",
    ]  # fmt: skip
    assert [goodness(-2.0, m) for m in ("dice", "hd95", "volume_error")] == [-2.0, 2.0, -2.0]
    with pytest.raises(UsageError, match="beauty"):
        direction_of("beauty")
