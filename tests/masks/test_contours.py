"""Voxel-edge contours: exact back-conversion, orientation, bridges; against winding numbers by angles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from delineate.errors import GeometryError
from delineate.masks.contours import Region, keyhole, simplify, trace_regions
from delineate.masks.polygons import fill_even_odd, fill_union

MASKS = arrays(np.bool_, array_shapes(min_dims=3, max_dims=3, max_side=7))


def centres_inside(polygon: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Winding numbers of every voxel centre by angles: slow, and nothing in common with the scan lines."""
    centres = np.stack(np.mgrid[: shape[0], : shape[1]], axis=-1)[:, :, None, :]
    first, second = polygon - centres, np.roll(polygon, -1, axis=0) - centres
    cross = first[..., 1] * second[..., 0] - first[..., 0] * second[..., 1]
    angles = np.arctan2(cross, (first * second).sum(axis=-1))
    return np.asarray(np.abs(angles.sum(axis=-1)) > np.pi)


def filled(regions: tuple[Region, ...], shape: tuple[int, ...], *, bridged: bool) -> NDArray[np.bool_]:
    mask = np.zeros(shape, dtype=bool)
    for region in regions:
        loops = [keyhole(region)] if bridged else [region.outer, *region.holes]
        mask[region.plane] |= fill_even_odd(loops, (shape[1], shape[2]))
    return mask


@pytest.mark.parametrize("bridged", [True, False])
@settings(max_examples=150, deadline=None)
@given(mask=MASKS)
def test_masks_come_back_voxel_for_voxel(bridged: bool, mask: NDArray[np.bool_]) -> None:
    assert np.array_equal(filled(trace_regions(mask), mask.shape, bridged=bridged), mask)


@settings(max_examples=40, deadline=None)
@given(mask=MASKS)
def test_an_independent_rasteriser_agrees(mask: NDArray[np.bool_]) -> None:
    back = np.zeros_like(mask)
    for region in trace_regions(mask):
        back[region.plane] |= centres_inside(keyhole(region), mask.shape[1:])
    assert np.array_equal(back, mask)


@settings(max_examples=60, deadline=None)
@given(mask=MASKS)
def test_vertices_are_corners_at_half_indices(mask: NDArray[np.bool_]) -> None:
    for region in trace_regions(mask):
        for loop in (region.outer, *region.holes):
            steps = np.roll(loop, -1, axis=0) - loop
            assert np.array_equal(loop % 1, np.full_like(loop, 0.5))
            assert ((steps != 0).sum(axis=1) == 1).all()
            assert ((steps != 0) != (np.roll(steps, 1, axis=0) != 0)).all()


def test_outer_loops_are_clockwise_and_holes_are_not() -> None:
    mask = np.zeros((1, 5, 6), dtype=bool)
    mask[0, 1:4, 1:5] = True
    mask[0, 2, 2] = False
    (region,) = trace_regions(mask)
    assert region.outer.tolist() == [[0.5, 0.5], [0.5, 4.5], [3.5, 4.5], [3.5, 0.5]]
    assert sorted(region.holes[0].tolist()) == [[1.5, 1.5], [1.5, 2.5], [2.5, 1.5], [2.5, 2.5]]
    assert signed_area(region.outer) == 12
    assert signed_area(region.holes[0]) == -1


def test_voxels_that_meet_in_a_corner_are_two_regions() -> None:
    mask = np.array([[[1, 0], [0, 1]]], dtype=bool)
    assert [len(region.outer) for region in trace_regions(mask)] == [4, 4]


def test_bridges_run_along_voxel_edges() -> None:
    mask = np.ones((1, 7, 9), dtype=bool)
    mask[0, 2, 2:4] = mask[0, 4, 5] = mask[0, 2, 6] = False
    (region,) = trace_regions(mask)
    polygon = keyhole(region)
    steps = np.roll(polygon, -1, axis=0) - polygon
    assert len(region.holes) == 3
    assert ((steps != 0).sum(axis=1) == 1).all()
    assert signed_area(polygon) == mask.sum()


@pytest.mark.parametrize("polygon", [np.zeros((3, 3)), np.array([[0, 0], [1, np.nan], [2, 2.0]])])
def test_polygons_must_be_finite_and_planar(polygon: NDArray[np.float64]) -> None:
    with pytest.raises(GeometryError, match="finite vertices"):
        fill_even_odd([polygon], (4, 4))


def test_polygons_are_cut_off_at_the_border() -> None:
    around = np.array([[-3.0, -3], [-3, 9], [9, 9], [9, -3]])
    assert fill_even_odd([around], (4, 5)).all()
    assert fill_union([around, around], (4, 5)).all()
    assert not fill_even_odd([around, around], (4, 5)).any()


def test_simplification_keeps_within_the_tolerance() -> None:
    y, x = np.mgrid[-20:21, -20:21]
    (region,) = trace_regions((y**2 + x**2 <= 300)[None])
    simpler = simplify(region.outer, 0.6)
    before, after = (fill_even_odd([p], (41, 41)) for p in (region.outer, simpler))
    assert len(simpler) < len(region.outer)
    assert 2 * (before & after).sum() / (before.sum() + after.sum()) > 0.97
    assert simplify(region.outer, 0.0) is region.outer


def test_other_arrays_are_refused() -> None:
    with pytest.raises(GeometryError, match=r"volume \(z, y, x\)"):
        trace_regions(np.ones((2, 2), dtype=bool))


@settings(max_examples=60, deadline=None)
@given(labels=arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=7), elements=st.integers(0, 3)))
def test_labels_are_traced_together_as_alone(labels: NDArray[np.uint8]) -> None:
    together = trace_regions(labels)
    for value in (1, 2, 3):
        mine = tuple(region for region in together if region.label == value)
        assert np.array_equal(filled(mine, labels.shape, bridged=True), labels == value)
        assert len(mine) == len(trace_regions(labels == value))


def test_nothing_gives_no_region() -> None:
    assert trace_regions(np.zeros((2, 3, 4), dtype=bool)) == ()


def signed_area(polygon: NDArray[np.float64]) -> float:
    after = np.roll(polygon, -1, axis=0)
    return float((polygon[:, 1] * after[:, 0] - after[:, 1] * polygon[:, 0]).sum() / 2)
