"""Instance scores against dense matrices, full Hungarian assignments and small pictures worked out by hand."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from delineate.errors import GeometryError, UsageError
from delineate.metrics.contingency import instance_overlap
from delineate.metrics.panoptic import (
    AP_THRESHOLDS,
    aggregated_jaccard,
    aggregated_jaccard_plus,
    average_precision,
    detect,
    panoptic_quality,
    typed_f1,
)

images = st.tuples(st.integers(1, 5), st.integers(1, 6)).flatmap(
    lambda shape: st.tuples(*[npst.arrays(np.uint8, shape, elements=st.integers(0, 3))] * 2)
)


def dense(prediction, reference):
    """Return intersections and unions, (predicted, reference), one boolean mask per instance."""
    p = [prediction == i for i in np.unique(prediction) if i]
    r = [reference == i for i in np.unique(reference) if i]
    shape = (len(p), len(r))
    inter = np.array([[(a & b).sum() for b in r] for a in p], np.float64).reshape(shape)
    union = np.array([[(a | b).sum() for b in r] for a in p], np.float64).reshape(shape)
    return inter, union, np.array([a.sum() for a in p]), np.array([b.sum() for b in r])


@settings(max_examples=100, deadline=None)
@given(images)
def test_panoptic_quality_equals_the_dense_matrix(pair):
    inter, union, p, r = dense(*pair)
    iou = inter / union if inter.size else inter
    tp, total = (iou > 0.5).sum(), iou[iou > 0.5].sum()
    found = panoptic_quality(instance_overlap(*pair))
    assert (found.true_positive, found.false_positive, found.false_negative) == (tp, len(p) - tp, len(r) - tp)
    if len(p) + len(r):
        assert found.quality == pytest.approx(total / (tp + 0.5 * (len(p) + len(r) - 2 * tp)))
        assert 0 <= found.quality <= found.detection <= 1
    else:
        assert math.isnan(found.quality)
    if tp:
        assert found.quality == pytest.approx(found.detection * found.segmentation)


@settings(max_examples=60, deadline=None)
@given(images, st.sampled_from([0.1, 0.3]))
def test_panoptic_quality_below_a_half_pairs_one_to_one(pair, threshold):
    inter, union, *_ = dense(*pair)
    iou = np.where(inter / union > threshold, inter / union, 0) if inter.size else inter
    best = iou[linear_sum_assignment(iou, maximize=True)].sum() if iou.size else 0
    assert panoptic_quality(instance_overlap(*pair), threshold).iou_sum == pytest.approx(best)


@settings(max_examples=100, deadline=None)
@given(images)
def test_aggregated_jaccard_equals_loops(pair):
    inter, union, p, r = dense(*pair)
    found = aggregated_jaccard(instance_overlap(*pair)), aggregated_jaccard_plus(instance_overlap(*pair))
    if not len(p) + len(r):
        assert all(map(math.isnan, found))
        return
    top, bottom, used = 0, 0, set()
    for j in range(len(r)):
        iou = inter[:, j] / union[:, j] if len(p) else np.zeros(0)
        if len(p) and iou.max() > 0:
            i = int(iou.argmax())
            top, bottom = top + inter[i, j], bottom + union[i, j]
            used.add(i)
        else:
            bottom += r[j]
    bottom += sum(p[i] for i in range(len(p)) if i not in used)
    assert found[0] == pytest.approx(top / bottom)
    assert 0 <= found[1] <= 1
    if inter.size:
        iou = inter / union
        rows, columns = linear_sum_assignment(iou, maximize=True)
        assert _plus_options(inter, union, p, r, iou[rows, columns].sum(), found[1])
    else:
        assert found[1] == 0


def _plus_options(inter, union, p, r, best, value):
    # ties of the assignment may give several values of AJI+; ours must be one of them
    n, m = inter.shape
    for size in range(min(n, m) + 1):
        for rows in itertools.combinations(range(n), size):
            for columns in itertools.permutations(range(m), size):
                if any(inter[i, j] == 0 for i, j in zip(rows, columns, strict=True)):
                    continue
                iou = sum(inter[i, j] / union[i, j] for i, j in zip(rows, columns, strict=True))
                if abs(iou - best) > 1e-9:
                    continue
                top = sum(inter[i, j] for i, j in zip(rows, columns, strict=True))
                bottom = sum(union[i, j] for i, j in zip(rows, columns, strict=True))
                bottom += sum(p[i] for i in range(n) if i not in rows)
                bottom += sum(r[j] for j in range(m) if j not in columns)
                if top / bottom == pytest.approx(value):
                    return True
    return False


@settings(max_examples=80, deadline=None)
@given(images, st.sampled_from([0.2, 0.5, 0.75]))
def test_average_precision_equals_the_published_assignment(pair, threshold):
    inter, union, p, r = dense(*pair)
    found = average_precision([instance_overlap(*pair)], [threshold])[0]
    if not len(p) + len(r):
        assert math.isnan(found)
        return
    tp = 0
    if inter.size:
        iou = inter / union
        costs = -(iou >= threshold).astype(float) - iou / (2 * min(iou.shape))
        matched = linear_sum_assignment(costs)
        tp = int((iou[matched] >= threshold).sum())
    assert found == pytest.approx(tp / (len(p) + len(r) - tp))


def test_average_precision_pooled_and_per_image():
    one = np.array([[1, 1, 0, 2, 2]])
    half = np.array([[1, 1, 0, 0, 0]])
    nothing = np.zeros((1, 5), np.int64)
    overlaps = [instance_overlap(one, one), instance_overlap(half, one), instance_overlap(nothing, nothing)]
    np.testing.assert_allclose(average_precision(overlaps, [0.5]), [(1 + 0.5) / 2])
    np.testing.assert_allclose(average_precision(overlaps, [0.5], pooled=True), [3 / 4])
    assert len(average_precision(overlaps)) == len(AP_THRESHOLDS) == 10
    assert np.isnan(average_precision([], [0.5])).all()


def test_the_threshold_itself_matches_only_if_inclusive():
    overlap = instance_overlap(np.array([[1, 0]]), np.array([[1, 1]]))
    assert average_precision([overlap], [0.5])[0] == 1
    assert average_precision([overlap], [0.5], inclusive=False)[0] == 0
    assert panoptic_quality(overlap).true_positive == 0


def test_pooling_adds_counts():
    one = panoptic_quality(instance_overlap(np.array([1, 1, 0]), np.array([1, 1, 2])))
    two = panoptic_quality(instance_overlap(np.array([1, 1, 3]), np.array([1, 0, 3])))
    both = one + two
    assert (both.true_positive, both.false_positive, both.false_negative) == (2, 1, 2)
    assert both.iou_sum == 2.0


points = npst.arrays(np.float64, st.tuples(st.integers(0, 4), st.just(2)), elements=st.integers(0, 6))


@settings(max_examples=80, deadline=None)
@given(points, points)
def test_detection_has_most_pairs_and_then_least_distance(predicted, reference):
    found = detect(predicted, reference, 2.5)
    distance = np.linalg.norm(predicted[:, None] - reference[None], axis=2).reshape(len(predicted), len(reference))
    best = (0, 0.0)
    for size in range(min(distance.shape) + 1):
        for rows in itertools.combinations(range(len(predicted)), size):
            for columns in itertools.permutations(range(len(reference)), size):
                lengths = distance[list(rows), list(columns)]
                if (lengths <= 2.5).all():
                    best = min(best, (-size, float(lengths.sum())))
    assert len(found.predicted) == -best[0]
    assert distance[found.predicted, found.reference].sum() == pytest.approx(best[1])
    total = len(predicted) + len(reference)
    assert found.f1 == pytest.approx(2 * -best[0] / total if total else math.nan, nan_ok=True)


def test_typed_f1_worked_by_hand():
    predicted = np.array([[0, 0], [10, 0], [20, 0], [90, 0]], np.float64)
    reference = np.array([[0, 1], [10, 1], [20, 1], [50, 0], [60, 0]], np.float64)
    found = detect(predicted, reference, 3)
    kinds_predicted, kinds_reference = np.array([1, 1, 2, 1]), np.array([1, 2, -1, 1, 2])
    # kind 1: TP pair 0, FP pair 1; pair 2 is ignored; unmatched: one predicted, one reference
    assert typed_f1(found, kinds_predicted, kinds_reference, 1) == pytest.approx(2 / (2 + 2 + 2))
    # kind 2: FN pair 1; unmatched: one reference
    assert typed_f1(found, kinds_predicted, kinds_reference, 2) == 0
    assert math.isnan(typed_f1(found, kinds_predicted, kinds_reference, 5))
    assert (found.precision, found.recall) == (0.75, 0.6)


def test_what_makes_no_sense_is_refused():
    overlap = instance_overlap(np.array([1]), np.array([1]))
    with pytest.raises(UsageError, match="threshold"):
        panoptic_quality(overlap, 1.0)
    with pytest.raises(UsageError, match="radius"):
        detect(np.zeros((1, 2)), np.zeros((1, 2)), 0)
    with pytest.raises(GeometryError, match="equal axes"):
        detect(np.zeros((1, 2)), np.zeros((1, 3)), 1)
    with pytest.raises(UsageError, match="type"):
        typed_f1(detect(np.zeros((1, 2)), np.zeros((1, 2)), 1), np.zeros(2, np.int64), np.zeros(1, np.int64), 0)


def test_many_nuclei_cost_one_pass():
    rng = np.random.default_rng(0)
    seeds = np.zeros((1000, 1000), np.bool_)
    seeds[tuple(rng.integers(0, 1000, (2, 1500)))] = True
    reference, n = ndimage.label(ndimage.binary_dilation(seeds, iterations=5))
    prediction = np.roll(reference, 2, axis=0)
    began = time.process_time()
    overlap = instance_overlap(prediction, reference)
    assert panoptic_quality(overlap).detection > 0.5
    assert aggregated_jaccard_plus(overlap) > 0.3
    assert n > 500
    assert time.process_time() - began < 2
