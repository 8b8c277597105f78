"""The confusion matrix and its scores against sets of voxels, and their properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from delineate.errors import GeometryError, LabelError
from delineate.metrics import overlap as module
from delineate.metrics.overlap import (
    Overlap,
    confusion,
    dice,
    iou,
    overlap_of,
    precision,
    recall,
    specificity,
    volume_similarity,
)

N_LABELS = 4

label_maps = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6).flatmap(
    lambda shape: st.tuples(*(hnp.arrays(np.uint8, shape, elements=st.integers(0, N_LABELS - 1)) for _ in range(2)))
)
regions = st.sets(st.integers(0, N_LABELS - 1), min_size=1)
fast = settings(max_examples=60, deadline=None)


def voxels_of(labels, values):
    """Independent reference: the set of indices whose label belongs to the structure."""
    return {index for index, label in np.ndenumerate(labels) if int(label) in values}


def reference_scores(prediction, reference, values):
    predicted, truth = voxels_of(prediction, values), voxels_of(reference, values)
    if not predicted and not truth:
        return (math.nan,) * 4
    both = len(predicted & truth)
    return (
        2 * both / (len(predicted) + len(truth)),
        both / len(predicted | truth),
        both / len(predicted) if predicted else 0.0,
        both / len(truth) if truth else 0.0,
    )


def scores(prediction, reference, values):
    counts = overlap_of(confusion(prediction, reference, N_LABELS), sorted(values))
    return dice(counts), iou(counts), precision(counts), recall(counts)


@fast
@given(label_maps, regions)
def test_scores_equal_those_of_sets_of_voxels(pair, values):
    np.testing.assert_allclose(scores(*pair, values), reference_scores(*pair, values), rtol=0, atol=1e-15)


@fast
@given(label_maps)
def test_matrix_equals_a_double_loop(pair):
    prediction, reference = pair
    expected = np.zeros((N_LABELS, N_LABELS), dtype=np.int64)
    for p, r in zip(prediction.ravel(), reference.ravel(), strict=True):
        expected[r, p] += 1
    np.testing.assert_array_equal(confusion(prediction, reference, N_LABELS), expected)


@fast
@given(label_maps, regions)
def test_dice_and_iou_do_not_ask_who_is_the_reference(pair, values):
    forth, back = scores(pair[0], pair[1], values), scores(pair[1], pair[0], values)
    np.testing.assert_array_equal(forth[:2], back[:2])
    np.testing.assert_array_equal(forth[2:], back[:1:-1])  # precision and recall change places


@fast
@given(label_maps, regions)
def test_scores_lie_between_0_and_1_and_iou_follows_from_dice(pair, values):
    found = scores(*pair, values)
    assert all(math.isnan(v) or 0 <= v <= 1 for v in found)
    if not math.isnan(found[0]):
        assert found[1] == pytest.approx(found[0] / (2 - found[0]))


@fast
@given(label_maps, regions, st.data())
def test_flips_and_transposes_change_nothing(pair, values, data):
    axis = data.draw(st.integers(0, pair[0].ndim - 1))
    moved = [np.flip(array, axis).T for array in pair]
    np.testing.assert_array_equal(scores(*moved, values), scores(*pair, values))


@fast
@given(label_maps, regions)
def test_identical_maps_score_1_or_nothing(pair, values):
    found = scores(pair[0], pair[0], values)
    assert all(v == 1 for v in found) or all(math.isnan(v) for v in found)


@fast
@given(label_maps, regions)
def test_counts_add_up_to_all_voxels(pair, values):
    counts = overlap_of(confusion(*pair, N_LABELS), sorted(values))
    total = counts.true_positive + counts.false_positive + counts.false_negative + counts.true_negative
    assert total == pair[0].size
    assert counts.predicted == len(voxels_of(pair[0], values))
    assert counts.reference == len(voxels_of(pair[1], values))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (Overlap(true_positive=0, false_positive=0, false_negative=0, true_negative=9), math.nan),
        (Overlap(true_positive=0, false_positive=3, false_negative=0, true_negative=6), 0.0),
        (Overlap(true_positive=0, false_positive=0, false_negative=3, true_negative=6), 0.0),
        (Overlap(true_positive=0, false_positive=2, false_negative=3, true_negative=4), 0.0),
        (Overlap(true_positive=9, false_positive=0, false_negative=0, true_negative=0), 1.0),
    ],
)
def test_empty_structures_follow_the_policy(counts, expected):
    for score in (dice, iou, precision, recall):
        np.testing.assert_equal(score(counts), expected)


def test_ignored_voxels_are_in_no_count():
    reference = np.array([[0, 1, 3], [1, 3, 2]], dtype=np.int16)
    prediction = np.array([[0, 1, 1], [2, 2, 2]], dtype=np.int16)
    kept = reference != 3
    np.testing.assert_array_equal(
        confusion(prediction, reference, 3, ignore=3), confusion(prediction[kept], reference[kept], 3)
    )


def test_only_ignored_voxels_leave_an_empty_matrix():
    everything = np.full((3, 3), 2, dtype=np.uint8)
    assert confusion(np.zeros_like(everything), everything, 2, ignore=2).sum() == 0


@pytest.mark.parametrize("dtype", [bool, *"bBhHiIqQ"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_integer_dtype_and_memory_order(dtype, order):
    rng = np.random.default_rng(1)
    prediction, reference = (rng.integers(0, 2, (4, 5, 6)) for _ in range(2))
    found = confusion(prediction.astype(dtype, order=order), reference.astype(dtype), 2)
    np.testing.assert_array_equal(found, confusion(prediction, reference, 2))


@pytest.mark.parametrize("shape", [(7, 5, 3), (1, 30, 4), (200,), (1, 1, 150)])
def test_blocks_give_the_same_matrix(monkeypatch, shape):
    rng = np.random.default_rng(2)
    prediction, reference = (rng.integers(0, 5, shape).astype(np.uint8) for _ in range(2))
    whole = confusion(prediction, reference, 5)
    monkeypatch.setattr(module, "BLOCK_VOXELS", 16)
    np.testing.assert_array_equal(confusion(prediction, reference, 5), whole)


def test_wide_label_values_do_not_overflow():
    values = np.array([200, 250, 255], dtype=np.uint8)
    matrix = confusion(values, values[::-1], 256)
    assert matrix[255, 200] == matrix[200, 255] == matrix[250, 250] == 1


def test_a_region_is_the_union_of_its_labels():
    prediction = np.array([1, 2, 2, 0], dtype=np.uint8)
    reference = np.array([2, 1, 2, 1], dtype=np.uint8)
    whole = overlap_of(confusion(prediction, reference, 3), (1, 2))
    assert (whole.true_positive, whole.false_positive, whole.false_negative) == (3, 0, 1)
    assert overlap_of(confusion(prediction, reference, 3), (2, 1, 1)) == whole


def test_different_shapes_are_refused():
    with pytest.raises(GeometryError, match=r"\(2, 3\) and \(3, 2\)"):
        confusion(np.zeros((2, 3), int), np.zeros((3, 2), int), 2)


@pytest.mark.parametrize("bad", [np.array([0, 5, 7]), np.array([-1, 0, 0])])
def test_undeclared_labels_are_named(bad):
    with pytest.raises(LabelError, match=r"prediction must hold labels from 0 to 2; found (5, 7|-1)\."):
        confusion(bad, np.zeros(3, int), 3)
    with pytest.raises(LabelError, match="reference must hold"):
        confusion(np.zeros(3, int), bad, 3)


def test_masks_of_numbers_are_refused():
    with pytest.raises(LabelError, match="float64"):
        confusion(np.zeros(3), np.zeros(3, int), 2)


@pytest.mark.parametrize("n_labels", [0, 5000])
def test_impossible_numbers_of_labels_are_refused(n_labels):
    with pytest.raises(LabelError, match=str(n_labels)):
        confusion(np.zeros(3, int), np.zeros(3, int), n_labels)


@pytest.mark.parametrize("values", [(), (3,), (-1, 1)])
def test_structures_need_labels_of_the_matrix(values):
    with pytest.raises(LabelError, match="between 0 and 2"):
        overlap_of(np.zeros((3, 3), np.int64), values)


@settings(max_examples=60, deadline=None)
@given(*[st.integers(0, 6)] * 4)
def test_specificity_and_volume_similarity_worked_from_counts(tp, fp, fn, tn):
    counts = Overlap(true_positive=tp, false_positive=fp, false_negative=fn, true_negative=tn)
    if tp + fp + fn == 0:
        assert math.isnan(specificity(counts))
        assert math.isnan(volume_similarity(counts))
        return
    assert specificity(counts) == pytest.approx(tn / (tn + fp) if tn + fp else math.nan, nan_ok=True)
    assert volume_similarity(counts) == pytest.approx(1 - abs(fp - fn) / (2 * tp + fp + fn))
    assert dice(counts) <= volume_similarity(counts) + 1e-12
