"""Calibration errors against loops over bins and one-hot arithmetic."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import InputError, UsageError
from delineate.metrics.calibration import (
    adaptive_calibration_error,
    brier_score,
    expected_calibration_error,
    reliability,
    winning_confidence,
)

samples = st.lists(st.tuples(st.integers(0, 20).map(lambda i: i / 20), st.booleans()), min_size=1, max_size=40)


@settings(max_examples=100, deadline=None)
@given(samples, st.integers(1, 7))
def test_expected_error_equals_a_loop_over_bins(pairs, bins):
    confidence, correct = (np.array(column) for column in zip(*pairs, strict=True))
    expected = 0.0
    edges = np.linspace(0, 1, bins + 1)
    for k in range(bins):
        inside = (confidence > edges[k]) & (confidence <= edges[k + 1]) | ((k == 0) & (confidence == 0))
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(confidence, correct, bins=bins) == pytest.approx(expected)
    assert 0 <= adaptive_calibration_error(confidence, correct, bins=bins) <= 1
    curve = reliability(confidence, correct, bins=bins)
    assert curve.counts.sum() == len(pairs)
    assert curve.error <= curve.largest_error + 1e-12


def test_bins_of_equal_mass_hold_equal_numbers():
    confidence = np.random.default_rng(0).random(1000) ** 3
    curve = reliability(confidence, confidence > 0.5, bins=10, binning="mass")
    np.testing.assert_array_equal(curve.counts, 100)
    order = np.sort(confidence).reshape(10, 100)
    np.testing.assert_allclose(curve.confidence, order.mean(axis=1))


def test_calibrated_statements_have_no_error_and_overconfident_ones_have():
    rng = np.random.default_rng(0)
    stated = rng.random(200_000)
    happened = rng.random(stated.size) < stated
    assert expected_calibration_error(stated, happened) < 0.01
    assert adaptive_calibration_error(stated, happened) < 0.01
    assert expected_calibration_error(np.full(10, 0.9), np.arange(10) < 5) == pytest.approx(0.4)


def test_brier_score_equals_one_hot():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), (5, 6)).transpose(2, 0, 1).astype(np.float32)
    labels = rng.integers(0, 4, (5, 6))
    expected = ((probabilities - np.eye(4)[labels].transpose(2, 0, 1)) ** 2).sum(axis=0).mean()
    assert brier_score(probabilities, labels) == pytest.approx(expected, rel=1e-6)
    assert brier_score(np.array([[0.0], [1.0]]), np.array([0])) == 2


def test_winning_class():
    confidence, correct = winning_confidence(np.array([[0.2, 0.9], [0.8, 0.1]]), np.array([1, 1]))
    np.testing.assert_array_equal(confidence, [0.8, 0.9])
    np.testing.assert_array_equal(correct, [True, False])


def test_nothing_has_no_error():
    nothing = np.zeros(0)
    assert math.isnan(expected_calibration_error(nothing, nothing > 0))
    assert math.isnan(reliability(nothing, nothing > 0, binning="mass").largest_error)
    assert math.isnan(brier_score(np.zeros((2, 0)), np.zeros(0, np.int64)))


def test_wrong_input_is_refused():
    with pytest.raises(InputError, match="within 0 to 1"):
        reliability(np.array([1.2]), np.array([True]))
    with pytest.raises(InputError, match="outcome"):
        reliability(np.zeros(2), np.zeros(3, np.bool_))
    with pytest.raises(UsageError, match="bins"):
        reliability(np.zeros(2), np.zeros(2, np.bool_), bins=0)
    with pytest.raises(InputError, match="do not fit"):
        brier_score(np.zeros((2, 3)), np.zeros(4, np.int64))
    with pytest.raises(InputError, match="Labels must be"):
        brier_score(np.zeros((2, 3)), np.array([0, 1, 2]))
