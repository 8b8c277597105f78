from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from delineate.errors import InputError
from delineate.metrics.distribution_shift import (
    benjamini_hochberg,
    category_shift,
    numeric_shift,
    psi_words,
    unseen_categories,
)


def test_psi_is_its_formula() -> None:
    baseline = np.arange(100.0)
    recent = np.concatenate([np.arange(10.0), np.full(30, 99.0)])
    found = numeric_shift(baseline, recent)
    b = (np.array([20, 20, 20, 20, 20]) + 0.5) / 102.5
    r = (np.array([10, 0, 0, 0, 30]) + 0.5) / 42.5
    assert found.psi == pytest.approx(float(((r - b) * np.log(r / b)).sum()))
    assert psi_words(found.psi) == "shift"
    assert psi_words(numeric_shift(np.full(40, 1.0), np.full(20, 0.8)).psi) == "shift"
    assert psi_words(numeric_shift(baseline, baseline).psi) == "no shift"


def test_the_distance_is_the_largest_gap_of_the_distributions() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=70), generator.normal(0.7, 1.3, size=31)
    places = np.concatenate([one, other])
    gaps = [abs((one <= x).mean() - (other <= x).mean()) for x in places]
    found = numeric_shift(np.append(one, math.nan), other)
    assert found.statistic == pytest.approx(max(gaps))
    assert (found.n_baseline, found.n_recent) == (70, 31)
    assert found.p_value == pytest.approx(stats.ks_2samp(one, other).pvalue)


def test_categories() -> None:
    baseline = ["RAS"] * 30 + ["LPS"] * 10
    same, other = (
        category_shift(baseline, ["RAS"] * 15 + ["LPS"] * 5),
        category_shift(baseline, ["RAS"] * 5 + ["LPS"] * 15),
    )
    assert same.statistic == 0
    assert same.p_value == 1
    assert other.statistic == pytest.approx(0.5)
    exact = stats.fisher_exact([[30, 10], [5, 15]]).pvalue
    assert other.p_value == pytest.approx(exact, abs=2e-3)
    assert unseen_categories(baseline, ["RAS", "PIR", "PIR", "SAR"]) == ("PIR", "SAR")


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=100)
def test_adjusted_values_are_scipys(p_values: dict[str, float]) -> None:
    expected = stats.false_discovery_control(list(p_values.values()), method="bh")
    found = benjamini_hochberg({**p_values, "unknown!": math.nan})
    np.testing.assert_allclose([found[name] for name in p_values], expected)
    assert math.isnan(found["unknown!"])


@pytest.mark.parametrize("call", [lambda: numeric_shift([math.nan], [1.0]), lambda: category_shift([], ["a"])])
def test_empty_samples_are_refused(call) -> None:
    with pytest.raises(InputError, match="needs"):
        call()
