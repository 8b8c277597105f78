"""Lesion counts against pictures worked out by hand and a loop over components."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from delineate.errors import UsageError
from delineate.metrics.lesions import LesionDetection, lesion_detection


def row(text):
    return np.array([[c == "#" for c in text]])


REFERENCE = row("####..####..##..#")
PREDICTION = row("#.....########..."[:17])


def counts(found):
    return found.n_reference, found.n_detected, found.n_predicted, found.n_false_positive


def test_rules_worked_by_hand():
    prediction = row("#.....####.#.....")
    assert counts(lesion_detection(prediction, REFERENCE)) == (4, 2, 3, 1)
    assert counts(lesion_detection(prediction, REFERENCE, rule="coverage", threshold=0.5)) == (4, 1, 3, 1)
    assert counts(lesion_detection(prediction, REFERENCE, rule="iou", threshold=0.5)) == (4, 1, 3, 2)


def test_one_prediction_over_two_lesions_finds_both_unless_pairs_are_asked():
    assert counts(lesion_detection(PREDICTION, REFERENCE)) == (4, 3, 2, 0)
    assert counts(lesion_detection(PREDICTION, REFERENCE, rule="iou", threshold=0.1)) == (4, 2, 2, 0)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 7)).flatmap(
        lambda shape: st.tuples(*[npst.arrays(np.bool_, shape)] * 2)
    )
)
def test_any_voxel_equals_a_loop(pair):
    prediction, reference = pair
    around = np.ones((3, 3))
    predicted, n = ndimage.label(prediction, around)
    lesions, m = ndimage.label(reference, around)
    hit = sum(prediction[lesions == i].any() for i in range(1, m + 1))
    false = sum(not reference[predicted == i].any() for i in range(1, n + 1))
    found = lesion_detection(prediction, reference)
    assert counts(found) == (m, hit, n, false)
    if m:
        assert found.sensitivity == hit / m
    if m + n:
        assert found.f1 == pytest.approx(2 * hit / (2 * hit + false + (m - hit)) if m + false else math.nan)


def test_rates_of_nothing_are_not_numbers():
    empty = np.zeros((2, 2), np.bool_)
    found = lesion_detection(empty, empty)
    assert math.isnan(found.f1)
    assert math.isnan(found.sensitivity)
    assert math.isnan(found.precision)
    assert lesion_detection(~empty, empty).f1 == 0


def test_cases_are_pooled_by_adding():
    one = LesionDetection(n_reference=4, n_detected=3, n_predicted=4, n_false_positive=1)
    assert counts(one + one) == (8, 6, 8, 2)
    assert (one.sensitivity, one.precision, one.f1) == (0.75, 0.75, 0.75)


@pytest.mark.parametrize(("rule", "threshold"), [("touch", 0.1), ("iou", 0.0)])
def test_unknown_rules_are_refused(rule, threshold):
    with pytest.raises(UsageError):
        lesion_detection(REFERENCE, REFERENCE, rule=rule, threshold=threshold)
