"""Typed panoptic quality against brute force, and the difference between mPQ and mPQ+."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import UsageError
from delineate.metrics import instance_overlap, panoptic_quality
from delineate.metrics.typed_panoptic import (
    binary_panoptic_quality,
    count_determination,
    ensemble_dice,
    mean_panoptic_quality,
    mean_panoptic_quality_plus,
    panoptic_quality_by_type,
)


def scene(seed: int, moved: int = 1):
    generator = np.random.default_rng(seed)
    reference = np.zeros((60, 60), dtype=np.int32)
    for number in range(1, 13):
        y, x = generator.integers(0, 50, 2)
        reference[y : y + generator.integers(3, 9), x : x + generator.integers(3, 9)] = number
    prediction = np.roll(reference, moved, axis=1)
    prediction[prediction == 3] = 0
    types = generator.integers(1, 4, 14)
    guessed = np.where(generator.random(14) < 0.8, types, generator.integers(1, 4, 14))
    return prediction, reference, guessed, types


def brute_force(prediction, reference, guessed, types, kind):
    mine = np.where((prediction > 0) & (guessed[prediction] == kind), prediction, 0)
    there = np.where((reference > 0) & (types[reference] == kind), reference, 0)
    hits, total = 0, 0.0
    for p in np.unique(mine[mine > 0]):
        for r in np.unique(there[there > 0]):
            common = ((mine == p) & (there == r)).sum()
            iou = common / ((mine == p) | (there == r)).sum()
            hits, total = hits + (iou > 0.5), total + iou * (iou > 0.5)
    return hits, len(np.unique(mine[mine > 0])) - hits, len(np.unique(there[there > 0])) - hits, total


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), moved=st.integers(0, 3))
def test_counts_are_those_of_brute_force(seed: int, moved: int) -> None:
    prediction, reference, guessed, types = scene(seed, moved)
    overlap = instance_overlap(prediction, reference)
    found = panoptic_quality_by_type(overlap, guessed[overlap.predicted_ids], types[overlap.reference_ids], 3)
    for kind, counts in enumerate(found, start=1):
        hits, false, missed, total = brute_force(prediction, reference, guessed, types, kind)
        assert (counts.true_positive, counts.false_positive, counts.false_negative) == (hits, false, missed)
        assert counts.iou_sum == pytest.approx(total)


def test_false_objects_of_an_absent_class_cost_something_in_the_pooled_score_only() -> None:
    reference = np.zeros((20, 20), dtype=np.int32)
    reference[:5, :5] = 1
    prediction = reference.copy()
    prediction[10:15, 10:15] = 2
    overlap = instance_overlap(prediction, reference)
    one = panoptic_quality_by_type(overlap, np.array([1, 2]), np.array([1]), 2)
    other = panoptic_quality_by_type(instance_overlap(prediction, prediction), np.array([1, 2]), np.array([1, 2]), 2)
    assert mean_panoptic_quality([one, other]) == 1.0
    assert mean_panoptic_quality_plus([one, other]) == pytest.approx((1 + 1 / 1.5) / 2)
    assert binary_panoptic_quality([panoptic_quality(overlap)]) == pytest.approx(1 / 1.5)
    assert math.isnan(mean_panoptic_quality([]))


def test_instances_of_unknown_type_are_left_out() -> None:
    labels = np.zeros((12, 12), dtype=np.int32)
    labels[:4, :4], labels[6:10, 6:10] = 1, 2
    (counts,) = panoptic_quality_by_type(instance_overlap(labels, labels), np.array([1, 1]), np.array([0, 1]), 1)
    assert (counts.true_positive, counts.false_positive, counts.false_negative) == (1, 0, 0)
    with pytest.raises(UsageError, match="needs a type"):
        panoptic_quality_by_type(instance_overlap(labels, labels), np.array([1]), np.array([0, 1]), 1)


def test_ensemble_dice_adds_every_overlapping_pair() -> None:
    reference = np.array([[1, 1, 1, 1, 2, 2, 0, 0]])
    prediction = np.array([[1, 1, 1, 0, 1, 0, 0, 3]])
    overlap = instance_overlap(prediction, reference)
    assert ensemble_dice(overlap) == pytest.approx(2 * (3 + 1) / ((4 + 4) + (4 + 2)))
    assert math.isnan(ensemble_dice(instance_overlap(prediction * 0, reference)))


def test_counts_agree_as_sklearn_says() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(1)
    reference = generator.integers(0, 100, 30)
    predicted = reference + generator.integers(-9, 10, 30)
    assert count_determination(predicted, reference) == pytest.approx(metrics.r2_score(reference, predicted))


def test_counts_that_cannot_be_compared() -> None:
    assert count_determination(np.array([1, 2, 4]), np.array([1, 2, 3])) == pytest.approx(0.5)
    assert math.isnan(count_determination(np.array([1, 2]), np.array([3, 3])))
    assert math.isnan(count_determination(np.array([], dtype=int), np.array([], dtype=int)))
    with pytest.raises(UsageError, match="same pictures"):
        count_determination(np.array([1]), np.array([1, 2]))


def test_thousands_of_nuclei_take_no_time() -> None:
    y, x = np.mgrid[:1000, :1000]
    reference = ((y // 20) * 50 + x // 20 + 1).astype(np.int32)
    began = time.process_time()
    overlap = instance_overlap(np.roll(reference, 3, 1), reference)
    panoptic_quality_by_type(overlap, overlap.predicted_ids % 4 + 1, overlap.reference_ids % 4 + 1, 4)
    ensemble_dice(overlap)
    assert time.process_time() - began < 2
