"""What every metric of the table must obey: symmetry, bounds, flips, axes, padding, scaling, empty masks, brute force.

Each table below names every metric of ``METRICS``, or says which it leaves out and why; a new metric fails until it has
its place in them.
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from delineate.masks.surfaces import surface_elements
from delineate.masks.topology import topology
from delineate.metrics.agreement import majority, pairwise_dice, staple
from delineate.metrics.calibration import adaptive_calibration_error, brier_score, expected_calibration_error
from delineate.metrics.contingency import instance_overlap
from delineate.metrics.panoptic import (
    aggregated_jaccard,
    aggregated_jaccard_plus,
    average_precision,
    panoptic_quality,
)
from delineate.metrics.table import METRICS, METRICS_RELOADED, NNUNET, WORST_VALUE, evaluate_structures
from metrics.metric_cases import border_points, both_ways, directed, pairs

SPACING = (3.0, 0.8, 1.3)
TOLERANCE = 1.0
CASES = pairs()

SYMMETRIC = {
    "dice", "iou", "volume_similarity", "absolute_volume_error", "hd", "hd95", "hd95_directed_mean", "hd95_pooled",
    "hd95_area_weighted", "assd", "assd_area_weighted", "masd", "masd_area_weighted", "nsd", "nsd_voxels",
    "boundary_iou", "centre_line_dice",
}  # fmt: skip
EXCHANGED = {"precision": "recall", "recall": "precision"}
OPPOSITE = {"volume_error"}
ONE_WAY = {
    "specificity", "relative_volume_error", "added_path_length", "lesion_sensitivity", "lesion_false_positives",
    "lesion_f1",
}  # fmt: skip
"""Defined against the reference: an error of volume is divided by it, lesions of it are found, contours of it drawn."""

SCALE_POWER = {
    **{name: 1 for name, metric in METRICS.items() if metric.unit == "mm"},
    **{name: 3 for name, metric in METRICS.items() if metric.unit == "ml"},
    **{name: 0 for name, metric in METRICS.items() if metric.unit in ("1", "lesions")},
}
THINNED = {"centre_line_dice"}
"""Thinning prefers one direction of an axis to the other, so flips and exchanged axes may change the score."""
SLICED = {"added_path_length"}
"""Contours are drawn in the slices of the first axis, which must stay the first."""
DEPENDS_ON_IMAGE = {"specificity"}
"""Counts the background, so padding changes it."""

EMPTY = {
    # (prediction only, reference only); the prediction or reference is a block of 2 x 3 x 4 voxels in 4 x 5 x 6
    "specificity": (96 / 120, 1.0),
    "volume_error": (24 * 3.12 / 1000, -24 * 3.12 / 1000),
    "absolute_volume_error": (24 * 3.12 / 1000, 24 * 3.12 / 1000),
    "relative_volume_error": (math.nan, -1.0),
    # two slices with a contour of ten pixels each
    "added_path_length": (0.0, 20 * math.sqrt(0.8 * 1.3)),
    "lesion_sensitivity": (math.nan, 0.0),
    "lesion_false_positives": (1.0, 0.0),
}
"""What the formula gives; every other metric has its worst value."""

CORNER_DISTANCES = [math.hypot(z, x) for z in (3.0, 6.0) for x in (1.3, 2.6)]
ONE_VOXEL = {
    **{name: math.hypot(6.0, 2.6) for name, metric in METRICS.items() if metric.worst == "diagonal"},
    **{name: 0.0 for name, metric in METRICS.items() if metric.worst == "zero"},
    "assd_area_weighted": np.mean(CORNER_DISTANCES),
    "masd_area_weighted": np.mean(CORNER_DISTANCES),
    "specificity": 118 / 119,
    "volume_similarity": 1.0,
    "volume_error": 0.0,
    "absolute_volume_error": 0.0,
    "relative_volume_error": 0.0,
    "added_path_length": math.sqrt(0.8 * 1.3),
    "lesion_sensitivity": 0.0,
    "lesion_false_positives": 1.0,
}
"""Of two voxels that are two slices and two columns apart, in 4 x 5 x 6; of the eight corners, all of one area, a
fourth is at each of four distances."""


def measure(prediction, reference, spacing=SPACING, tolerance=TOLERANCE, metrics=tuple(METRICS), policy=WORST_VALUE):
    (row,) = evaluate_structures(
        prediction,
        reference,
        [("it", (1,))],
        spacing_mm=spacing,
        metrics=metrics,
        tolerance_mm=tolerance,
        policy=policy,
    )
    return dict(row.values)


def assert_equal(found, expected, left_out=(), rel=1e-6):
    assert set(found) == set(expected)
    for name, value in expected.items():
        if name not in left_out:
            assert found[name] == pytest.approx(value, rel=rel, abs=1e-12, nan_ok=True), name


both = st.tuples(*[st.integers(1, 5)] * 3).flatmap(lambda shape: st.tuples(*[npst.arrays(np.bool_, shape)] * 2))
filled = both.filter(lambda masks: masks[0].any() and masks[1].any())


def test_every_metric_has_its_place():
    groups = [SYMMETRIC, set(EXCHANGED), OPPOSITE, ONE_WAY]
    assert sorted(itertools.chain(*groups)) == sorted(METRICS)
    assert set(SCALE_POWER) == set(METRICS)
    assert set(ONE_VOXEL) == set(METRICS)
    assert {name for name, metric in METRICS.items() if metric.worst == "none"} == set(EMPTY)


@settings(max_examples=40, deadline=None)
@given(both)
def test_exchanging_the_masks(masks):
    forth, back = measure(*masks), measure(*masks[::-1])
    for name in SYMMETRIC:
        assert back[name] == pytest.approx(forth[name], nan_ok=True), name
    for name, partner in EXCHANGED.items():
        assert back[partner] == forth[name] or math.isnan(forth[name])
    for name in OPPOSITE:
        assert back[name] == pytest.approx(-forth[name], nan_ok=True), name


def test_what_is_defined_against_the_reference_is_not_symmetric():
    reference = np.zeros((6, 7, 9), np.bool_)
    reference[1:3, 1:3, 1:3] = reference[1:3, 1:3, 5:8] = reference[4:, 5:, 0] = True
    prediction = np.zeros_like(reference)
    # one long piece finds two lesions, the third is missed
    prediction[1:3, 2:4, 1:8] = True
    forth, back = measure(prediction, reference), measure(reference, prediction)
    for name in ONE_WAY:
        assert forth[name] != pytest.approx(back[name], rel=1e-3), name


@settings(max_examples=40, deadline=None)
@given(both)
def test_bounds(masks):
    found = measure(*masks)
    diagonal = math.hypot(*(n * s for n, s in zip(masks[0].shape, SPACING, strict=True)))
    volume = masks[0].size * math.prod(SPACING) / 1000
    for name, value in found.items():
        low, high = 0.0, math.inf
        if METRICS[name].unit == "1":
            low, high = (-1.0, math.inf) if name == "relative_volume_error" else (0.0, 1.0)
        elif METRICS[name].worst == "diagonal":
            high = diagonal
        elif METRICS[name].unit == "ml":
            low, high = -volume, volume
        assert math.isnan(value) or low - 1e-12 <= value <= high + 1e-12, name


@settings(max_examples=40, deadline=None)
@given(both, st.permutations(range(3)), st.sets(st.integers(0, 2)))
def test_flips_and_exchanged_axes_change_nothing(masks, order, flipped):
    expected = measure(*masks)
    turned = measure(
        *(np.flip(mask, tuple(flipped)).transpose(order) for mask in masks), spacing=[SPACING[i] for i in order]
    )
    assert_equal(turned, expected, THINNED | (SLICED if order[0] != 0 else set()))


@settings(max_examples=40, deadline=None)
@given(filled, st.integers(1, 3), st.integers(0, 2))
def test_padding_changes_nothing(masks, before, after):
    padded = [np.pad(mask, (before, after)) for mask in masks]
    expected, found = measure(*masks), measure(*padded)
    assert_equal(found, expected, DEPENDS_ON_IMAGE)
    counted = np.count_nonzero(~padded[0] & ~padded[1]) / np.count_nonzero(~padded[1])
    assert found["specificity"] == pytest.approx(counted)


@settings(max_examples=40, deadline=None)
@given(both, st.sampled_from([0.25, 2.0, 2.5, 7.0]))
def test_larger_voxels_scale_distances_and_volumes_and_no_fraction(masks, factor):
    expected = {name: value * factor ** SCALE_POWER[name] for name, value in measure(*masks).items()}
    found = measure(*masks, spacing=[s * factor for s in SPACING], tolerance=TOLERANCE * factor)
    assert_equal(found, expected)


@settings(max_examples=30, deadline=None)
@given(both, st.sampled_from([0.0, 1.0]))
def test_a_mask_equals_itself(masks, tolerance):
    mask = masks[0]
    found = measure(mask, mask, tolerance=tolerance)
    best = {name: metric.best if mask.any() else math.nan for name, metric in METRICS.items()}
    # no voxel lies outside a mask that fills the image
    assert_equal(found, best, {"specificity"} if mask.all() else ())


def test_empty_masks():
    empty, block = np.zeros((4, 5, 6), np.bool_), np.zeros((4, 5, 6), np.bool_)
    block[1:3, 1:4, 1:5] = True
    diagonal = math.hypot(12.0, 4.0, 7.8)
    for one, masks in enumerate([(block, empty), (empty, block)]):
        for policy, far in ((WORST_VALUE, diagonal), (METRICS_RELOADED, diagonal), (NNUNET, math.nan)):
            worst = {name: far if metric.worst == "diagonal" else 0.0 for name, metric in METRICS.items()}
            expected = worst | {name: values[one] for name, values in EMPTY.items()}
            assert_equal(measure(*masks, policy=policy), expected)
    for policy in (WORST_VALUE, NNUNET):
        assert all(math.isnan(value) for value in measure(empty, empty, policy=policy).values())
    perfect = {name: metric.best for name, metric in METRICS.items()}
    assert_equal(measure(empty, empty, policy=METRICS_RELOADED), perfect)


def test_one_voxel():
    prediction, reference, spacing = CASES["one_voxel"]
    assert_equal(measure(prediction, reference, spacing), ONE_VOXEL)


def test_masks_that_touch_the_border():
    # the whole image of 4 x 4 x 4 voxels of 2 x 1 x 1 mm, and its first two slices: the array's end is outside
    reference = np.ones((4, 4, 4), np.bool_)
    prediction = reference.copy()
    prediction[2:] = False
    found = measure(prediction, reference, (2.0, 1.0, 1.0), tolerance=2.0)
    # 32 border voxels, of which four lie in the reference; 56, of which 12 are one slice and 16 two slices away
    forth, back = [0] * 28 + [1] * 4, [0] * 28 + [2] * 12 + [4] * 16
    known = {
        "dice": 2 / 3, "iou": 1 / 2, "precision": 1.0, "recall": 1 / 2, "specificity": math.nan,
        "volume_similarity": 2 / 3, "volume_error": -0.064, "absolute_volume_error": 0.064,
        "relative_volume_error": -0.5, "hd": 4.0, "hd95": 4.0, "hd95_directed_mean": (np.percentile(forth, 95) + 4) / 2,
        "hd95_pooled": 4.0, "hd95_area_weighted": 4.0, "assd": 92 / 88, "masd": (4 / 32 + 88 / 56) / 2,
        "nsd_voxels": 72 / 88, "added_path_length": 24.0, "lesion_sensitivity": 1.0, "lesion_false_positives": 0.0,
        "lesion_f1": 1.0,
    }  # fmt: skip
    for name, value in known.items():
        assert found[name] == pytest.approx(value, nan_ok=True), name
    assert np.mean(back) == pytest.approx(88 / 56)


@pytest.mark.parametrize("name", [name for name, (mask, _, _) in CASES.items() if mask.ndim == 3])
def test_brute_force(name):
    prediction, reference, spacing = CASES[name]
    found = measure(prediction, reference, spacing)
    expected = brute_force(prediction, reference, spacing)
    assert sorted(expected) == sorted(set(METRICS) - THINNED)
    assert_equal({name: found[name] for name in expected}, expected)


def brute_force(prediction, reference, spacing):
    """Return every metric but the thinned one by loops over pairs of points, lists and sets; nothing of the product."""
    ours, theirs = ({tuple(p) for p in np.argwhere(mask).tolist()} for mask in (prediction, reference))
    hit, outside = len(ours & theirs), reference.size - len(theirs)
    ml = math.prod(spacing) / 1000
    found_lesions, lesions = _touched(reference, prediction)
    true_predictions, predicted_lesions = _touched(prediction, reference)
    false_lesions = predicted_lesions - true_predictions
    return {
        "dice": 2 * hit / (len(ours) + len(theirs)),
        "iou": hit / len(ours | theirs),
        "precision": hit / len(ours),
        "recall": hit / len(theirs),
        "specificity": 1 - len(ours - theirs) / outside if outside else math.nan,
        "volume_similarity": 1 - abs(len(ours) - len(theirs)) / (len(ours) + len(theirs)),
        "volume_error": (len(ours) - len(theirs)) * ml,
        "absolute_volume_error": abs(len(ours) - len(theirs)) * ml,
        "relative_volume_error": len(ours) / len(theirs) - 1,
        "boundary_iou": _boundary_iou(prediction, reference, spacing),
        "added_path_length": _added_path_length(prediction, reference, spacing),
        "lesion_sensitivity": found_lesions / lesions,
        "lesion_false_positives": false_lesions,
        "lesion_f1": 2 * found_lesions / (found_lesions + lesions + false_lesions),
        **_of_border_voxels(*both_ways(prediction, reference, spacing)),
        **_of_area_elements(prediction, reference, spacing),
    }


def _of_border_voxels(forth, back):
    p95 = np.percentile(forth, 95), np.percentile(back, 95)
    return {
        "hd": max(forth + back),
        "hd95": max(p95),
        "hd95_directed_mean": sum(p95) / 2,
        "hd95_pooled": np.percentile(forth + back, 95),
        "assd": sum(forth + back) / len(forth + back),
        "masd": (np.mean(forth) + np.mean(back)) / 2,
        "nsd_voxels": sum(d <= TOLERANCE + 1e-9 for d in forth + back) / len(forth + back),
    }


def _of_area_elements(prediction, reference, spacing):
    # the areas themselves are compared with another library's in test_metrics_oracles
    corners, areas = zip(*[_corners(mask, spacing) for mask in (prediction, reference)], strict=True)
    ways = directed(*corners), directed(*corners[::-1])
    weighted = [list(zip(way, size, strict=True)) for way, size in zip(ways, areas, strict=True)]
    sums = [sum(d * a for d, a in pieces) for pieces in weighted]
    near = sum(a for d, a in itertools.chain(*weighted) if d <= TOLERANCE + 1e-9)
    return {
        "hd95_area_weighted": max(_weighted_percentile(pieces) for pieces in weighted),
        "assd_area_weighted": sum(sums) / sum(map(sum, areas)),
        "masd_area_weighted": sum(s / sum(a) for s, a in zip(sums, areas, strict=True)) / 2,
        "nsd": near / sum(map(sum, areas)),
    }


def _corners(mask, spacing):
    padded = np.pad(mask, 1)
    found = []
    for corner in itertools.product(*(range(n + 1) for n in mask.shape)):
        window = padded[tuple(slice(c, c + 2) for c in corner)]
        if window.any() and not window.all():
            found.append([c * s for c, s in zip(corner, spacing, strict=True)])
    return found, surface_elements(mask, spacing).sizes.tolist()


def _weighted_percentile(pieces):
    total, below = sum(a for _, a in pieces), 0.0
    for distance, area in sorted(pieces):
        below += area
        if below >= 0.95 * total * (1 - 1e-12):
            return distance
    return max(pieces)[0]


def _boundary_iou(prediction, reference, spacing):
    bands = []
    for mask in (prediction, reference):
        padded = np.pad(mask, 1)
        outside = np.argwhere(~padded) * spacing
        width = 2 * max(spacing) * (1 + 1e-9)
        inside = np.argwhere(padded)
        bands.append({tuple(p) for p in inside if np.linalg.norm(outside - p * spacing, axis=1).min() <= width})
    return len(bands[0] & bands[1]) / len(bands[0] | bands[1])


def _added_path_length(prediction, reference, spacing):
    missing = 0
    for drawn, wanted in zip(prediction, reference, strict=True):
        points, targets = border_points(wanted, spacing[1:]), border_points(drawn, spacing[1:])
        missing += sum(not targets or min(math.dist(p, t) for t in targets) > TOLERANCE + 1e-9 for p in points)
    return missing * math.sqrt(spacing[1] * spacing[2])


def _touched(of, by):
    numbered, count = ndimage.label(of, np.ones((3,) * of.ndim))
    return sum(bool(by[numbered == number].any()) for number in range(1, count + 1)), count


label_pairs = st.tuples(st.integers(1, 8), st.integers(1, 8)).flatmap(
    lambda shape: st.tuples(*[npst.arrays(np.int32, shape, elements=st.integers(0, 5))] * 2)
)
INSTANCE_SCORES = {
    "panoptic quality": lambda overlap: panoptic_quality(overlap).quality,
    "aggregated jaccard": aggregated_jaccard,
    "aggregated jaccard plus": aggregated_jaccard_plus,
    "average precision": lambda overlap: float(average_precision([overlap], [0.5]).squeeze()),
}


@pytest.mark.parametrize("name", INSTANCE_SCORES)
@settings(max_examples=40, deadline=None)
@given(label_pairs, st.permutations(range(6)), st.sets(st.integers(0, 1)))
def test_instances_are_bounded_and_know_no_number_place_or_direction(name, maps, numbers, flipped):
    score = INSTANCE_SCORES[name]
    value = score(instance_overlap(*maps))
    assert math.isnan(value) or 0 <= value <= 1
    renumbered = np.array([0, *(n + 10 for n in numbers)])
    turned = [np.pad(np.flip(renumbered[m], tuple(flipped)).T, 2) for m in maps]
    assert score(instance_overlap(*turned)) == pytest.approx(value, nan_ok=True)
    if name != "aggregated jaccard":
        # it lets every reference instance choose, also what another has chosen
        assert score(instance_overlap(*maps[::-1])) == pytest.approx(value, nan_ok=True)
    itself = score(instance_overlap(maps[0], maps[0]))
    assert itself == 1 if maps[0].any() else math.isnan(itself)
    if maps[0].any():
        nothing = np.zeros_like(maps[0])
        assert score(instance_overlap(maps[0], nothing)) == score(instance_overlap(nothing, maps[0])) == 0


statements = st.integers(1, 40).flatmap(
    lambda n: st.tuples(npst.arrays(np.float64, n, elements=st.floats(0, 1)), npst.arrays(np.bool_, n))
)


@settings(max_examples=40, deadline=None)
@given(statements, st.randoms(use_true_random=False))
def test_calibration_is_bounded_and_knows_no_order(pairs, random):
    stated, correct = pairs
    order = list(range(len(stated)))
    random.shuffle(order)
    value = expected_calibration_error(stated, correct)
    assert 0 <= value <= 1
    assert expected_calibration_error(stated[order], correct[order]) == pytest.approx(value)
    assert 0 <= adaptive_calibration_error(stated, correct) <= 1
    certain = np.ones(len(stated))
    assert expected_calibration_error(certain, correct) == pytest.approx(1 - correct.mean())
    two = np.stack([1 - stated, stated])
    assert 0 <= brier_score(two, correct.astype(int)) <= 2
    perfect = np.stack([~correct, correct]).astype(float)
    assert brier_score(perfect, correct.astype(int)) == 0


rater_masks = st.tuples(*[st.integers(1, 4)] * 3).flatmap(
    lambda shape: st.lists(npst.arrays(np.bool_, shape), min_size=3, max_size=4)
)


@settings(max_examples=30, deadline=None)
@given(rater_masks, st.sets(st.integers(0, 2)))
def test_agreement_of_raters_knows_no_order_and_no_direction(masks, flipped):
    turned = [np.flip(mask, tuple(flipped)) for mask in masks[::-1]]
    dice = pairwise_dice(masks)
    np.testing.assert_allclose(pairwise_dice(turned)[::-1, ::-1], dice)
    np.testing.assert_allclose(dice, dice.T)
    assert ((dice >= 0) & (dice <= 1) | np.isnan(dice)).all()
    np.testing.assert_array_equal(np.flip(majority(turned), tuple(flipped)), majority(masks))
    found = staple(masks)
    for values in (found.probability, found.sensitivity, found.specificity):
        assert ((values >= 0) & (values <= 1)).all()
    again = staple(turned)
    np.testing.assert_allclose(np.flip(again.probability, tuple(flipped)), found.probability, atol=1e-6)
    np.testing.assert_allclose(again.sensitivity[::-1], found.sensitivity, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(npst.arrays(np.bool_, st.tuples(*[st.integers(1, 5)] * 3)), st.permutations(range(3)), st.integers(0, 2))
def test_topology_knows_no_direction_and_no_padding(mask, order, margin):
    assert topology(np.pad(np.flip(mask, 1).transpose(order), margin)) == topology(mask)
