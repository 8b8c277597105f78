"""Boundary metrics against brute force over all pairs of border voxels, and against what must not matter."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from delineate.errors import GeometryError, UsageError
from delineate.metrics.boundary import (
    added_path_length,
    average_surface_distance,
    boundary_iou,
    hausdorff,
    hausdorff_percentile,
    mean_average_surface_distance,
    surface_dice,
    surface_distances,
)
from metrics.metric_cases import both_ways, pairs

CASES = pairs()
VARIANTS = ("directed_maximum", "directed_mean", "pooled", "area_weighted")
ALL = {
    "hd": hausdorff,
    **{f"hd95 {v}": lambda d, v=v: hausdorff_percentile(d, variant=v) for v in VARIANTS},
    "assd": average_surface_distance,
    "masd": mean_average_surface_distance,
    "nsd": lambda d: surface_dice(d, 1.0),
}


@pytest.mark.parametrize("name", CASES)
def test_border_voxel_metrics_equal_brute_force(name):
    prediction, reference, spacing = CASES[name]
    forth, back = both_ways(prediction, reference, spacing)
    found = surface_distances(prediction, reference, spacing)
    p95 = np.percentile(forth, 95), np.percentile(back, 95)
    together = forth + back
    assert hausdorff(found) == pytest.approx(max(together))
    assert hausdorff_percentile(found) == pytest.approx(max(p95))
    assert hausdorff_percentile(found, variant="directed_mean") == pytest.approx(sum(p95) / 2)
    assert hausdorff_percentile(found, variant="pooled") == pytest.approx(np.percentile(together, 95))
    assert average_surface_distance(found) == pytest.approx(sum(together) / len(together))
    assert mean_average_surface_distance(found) == pytest.approx((np.mean(forth) + np.mean(back)) / 2)
    for tolerance in (0.0, 0.65, 1.9):
        near = sum(d <= tolerance for d in together)
        assert surface_dice(found, tolerance) == pytest.approx(near / len(together))


def test_weighted_percentile_is_the_distance_under_which_that_share_of_area_lies():
    prediction, reference, spacing = CASES["blobs"]
    found = surface_distances(prediction, reference, spacing, elements="area")
    value = hausdorff_percentile(found, 80, variant="area_weighted")
    shares = []
    for distances, sizes in (
        (found.to_reference, found.prediction_sizes),
        (found.to_prediction, found.reference_sizes),
    ):
        assert sizes[distances <= value].sum() >= 0.8 * sizes.sum()
        shares.append(sizes[distances < value].sum() / sizes.sum())
    assert min(shares) < 0.8


small = st.tuples(*[st.integers(1, 5)] * 3).flatmap(
    lambda shape: st.tuples(npst.arrays(np.bool_, shape), npst.arrays(np.bool_, shape))
)


@settings(max_examples=40, deadline=None)
@given(small, st.sampled_from(["voxels", "area"]), st.permutations(range(3)), st.sets(st.integers(0, 2)))
def test_symmetry_bounds_flips_axes_and_padding(masks, elements, order, flipped):
    prediction, reference = masks
    spacing = (3.0, 0.8, 1.3)
    found = surface_distances(prediction, reference, spacing, elements=elements)
    turn = lambda m: np.pad(np.flip(m, tuple(flipped)).transpose(order), 1)  # noqa: E731
    turned = surface_distances(turn(prediction), turn(reference), [spacing[i] for i in order], elements=elements)
    swapped = surface_distances(reference, prediction, spacing, elements=elements)
    for name, metric in ALL.items():
        value = metric(found)
        assert metric(turned) == pytest.approx(value, nan_ok=True), name
        assert metric(swapped) == pytest.approx(value, nan_ok=True), name
        assert math.isnan(value) or value >= 0
    if found.undefined or found.one_sided:
        return
    assert 0 <= surface_dice(found, 1.0) <= 1
    assert average_surface_distance(found) <= hausdorff(found) + 1e-12
    assert hausdorff_percentile(found) <= hausdorff(found) + 1e-12


@settings(max_examples=30, deadline=None)
@given(small)
def test_surface_dice_grows_with_the_tolerance_to_1(masks):
    found = surface_distances(*masks, (3.0, 0.8, 1.3), elements="area")
    if found.undefined or found.one_sided:
        return
    values = [surface_dice(found, t) for t in (0, 0.5, 1, 2, 4, 100)]
    assert values == sorted(values)
    assert values[-1] == 1.0


@pytest.mark.parametrize("elements", ["voxels", "area"])
def test_empty_masks(elements):
    empty, full = np.zeros((3, 3), np.bool_), np.ones((3, 3), np.bool_)
    neither = surface_distances(empty, empty, (1, 1), elements=elements)
    assert all(math.isnan(metric(neither)) for metric in ALL.values())
    for pair in ((empty, full), (full, empty)):
        one = surface_distances(*pair, (1, 1), elements=elements)
        assert surface_dice(one, 1.0) == 0.0
        assert all(math.isinf(metric(one)) for name, metric in ALL.items() if name != "nsd")


def test_a_distance_equal_to_the_tolerance_is_within_it_whatever_the_rounding():
    mask = np.zeros((1, 9), np.bool_)
    mask[0, 1] = True
    found = surface_distances(np.roll(mask, 3, 1), mask, (1.0, 0.8))
    assert surface_dice(found, 2.4) == 1.0
    assert surface_dice(found, 2.39) == 0.0


def test_spacing_in_the_wrong_order_changes_the_result():
    prediction, reference, spacing = CASES["shifted"]
    right = hausdorff(surface_distances(prediction, reference, spacing))
    assert right != pytest.approx(hausdorff(surface_distances(prediction, reference, spacing[::-1])))


@pytest.mark.parametrize("name", ["blobs", "shifted", "plane", "one_voxel"])
@pytest.mark.parametrize("tolerance", [0.0, 1.35])
def test_added_path_length_equals_a_loop_over_slices(name, tolerance):
    prediction, reference, spacing = CASES[name]
    planes = zip(np.atleast_3d(prediction.T).T, np.atleast_3d(reference.T).T, strict=True)
    missing = 0
    for predicted, truth in planes:
        if not truth.any():
            continue
        if not predicted.any():
            missing += len(both_ways(truth, truth, spacing[-2:])[0])
            continue
        missing += sum(d > tolerance for d in both_ways(predicted, truth, spacing[-2:])[1])
    found = added_path_length(prediction, reference, spacing, tolerance_mm=tolerance)
    assert found == pytest.approx(missing * math.sqrt(spacing[-1] * spacing[-2]))


def test_added_path_length_of_empty_masks():
    empty, square = np.zeros((1, 4, 4), np.bool_), np.ones((1, 4, 4), np.bool_)
    assert added_path_length(empty, square, (3, 1, 1)) == 12
    assert added_path_length(square, empty, (3, 1, 1)) == 0
    assert math.isnan(added_path_length(empty, empty, (3, 1, 1)))


@pytest.mark.parametrize("name", CASES)
def test_boundary_iou_equals_brute_force(name):
    prediction, reference, spacing = CASES[name]
    width = 1.5
    bands = []
    for mask in (prediction, reference):
        padded = np.pad(mask, 1)
        outside = np.argwhere(~padded) * spacing
        near = {tuple(p) for p in np.argwhere(padded) if np.linalg.norm(outside - p * spacing, axis=1).min() <= width}
        bands.append(near)
    union = bands[0] | bands[1]
    expected = len(bands[0] & bands[1]) / len(union) if union else math.nan
    assert boundary_iou(prediction, reference, spacing, width_mm=width) == pytest.approx(expected, nan_ok=True)


def test_boundary_iou_of_empty_masks():
    empty, square = np.zeros((4, 4), np.bool_), np.ones((4, 4), np.bool_)
    assert math.isnan(boundary_iou(empty, empty, (1, 1), width_mm=1))
    assert boundary_iou(empty, square, (1, 1), width_mm=1) == 0


def test_what_makes_no_sense_is_refused():
    mask = np.ones((3, 3), np.bool_)
    found = surface_distances(mask, mask, (1, 1))
    with pytest.raises(GeometryError, match="equal shapes"):
        surface_distances(mask, mask[:2], (1, 1))
    with pytest.raises(UsageError, match="voxels, area"):
        surface_distances(mask, mask, (1, 1), elements="mesh")
    with pytest.raises(UsageError, match="variant"):
        hausdorff_percentile(found, variant="other")
    with pytest.raises(UsageError, match="percentile"):
        hausdorff_percentile(found, 0)
    with pytest.raises(UsageError, match="tolerance"):
        surface_dice(found, -1)
