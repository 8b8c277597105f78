from __future__ import annotations

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delineate.errors import GeometryError
from delineate.geometry.grid import Grid
from delineate.geometry.orientation import Reorientation, crop_grid, orientation_codes, reorientation_to
from strategies import grids

CODES = ("RAS", "LPS", "LAS", "PIR", "SRP", "AIL")


def world_of(grid: Grid, array: np.ndarray) -> dict[float, np.ndarray]:
    """Where every value of an array of distinct values lies."""
    return {float(v): grid.affine @ (*index, 1) for index, v in np.ndenumerate(array)}


@given(grids(), st.sampled_from(CODES))
def test_every_voxel_keeps_its_place_in_the_world(grid: Grid, codes: str) -> None:
    array = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    turn = reorientation_to(grid, codes)
    turned = turn.apply_to_grid(grid)
    before, after = world_of(grid, array), world_of(turned, turn.apply(array))
    assert turned.shape == turn.apply(array).shape
    for value, place in before.items():
        np.testing.assert_allclose(after[value], place, atol=1e-3)
    assert orientation_codes(turned) == codes


@given(grids(), st.sampled_from(CODES))
def test_the_inverse_undoes_it(grid: Grid, codes: str) -> None:
    array = np.arange(np.prod(grid.shape)).reshape(1, *grid.shape)
    turn = reorientation_to(grid, codes)
    np.testing.assert_array_equal(turn.inverse.apply(turn.apply(array)), array)
    assert turn.inverse.inverse == turn


def in_nibabel(grid: Grid, array: np.ndarray) -> nibabel.Nifti1Image:
    """Return the same volume in nibabel's conventions: axes x, y, z and RAS millimetres."""
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine = to_ras @ grid.affine[:, [2, 1, 0, 3]]
    return nibabel.Nifti1Image(np.ascontiguousarray(array.T), affine)


@given(grids())
def test_canonical_is_nibabels(grid: Grid) -> None:
    cosines = np.sort(np.abs(np.array(grid.direction)), axis=1)
    if (cosines[:, 2] - cosines[:, 1]).min() < 1e-3:
        return  # exactly diagonal axes are decided by rounding
    array = np.arange(np.prod(grid.shape), dtype=np.int32).reshape(grid.shape)
    theirs = nibabel.as_closest_canonical(in_nibabel(grid, array))
    turn = reorientation_to(grid)
    np.testing.assert_array_equal(turn.apply(array), np.asarray(theirs.dataobj).T)
    np.testing.assert_allclose(
        in_nibabel(turn.apply_to_grid(grid), turn.apply(array)).affine, theirs.affine, rtol=1e-4, atol=1e-3
    )


@given(grids())
def test_codes_are_nibabels(grid: Grid) -> None:
    cosines = np.sort(np.abs(np.array(grid.direction)), axis=1)
    if (cosines[:, 2] - cosines[:, 1]).min() < 1e-3:
        return
    theirs = nibabel.aff2axcodes(in_nibabel(grid, np.zeros(grid.shape, np.uint8)).affine)
    assert orientation_codes(grid) == "".join(theirs)


@given(grids(max_side=6), st.data())
def test_a_cropped_grid_starts_at_the_box(grid: Grid, data: st.DataObject) -> None:
    box = []
    for size in grid.shape:
        start = data.draw(st.integers(0, size - 1))
        box.append((start, data.draw(st.integers(start + 1, size))))
    cut = crop_grid(grid, tuple(box))
    assert cut.shape == tuple(stop - start for start, stop in box)
    np.testing.assert_allclose(cut.origin_mm, (grid.affine @ (*(start for start, _ in box), 1))[:3], atol=1e-3)


def test_impossible_turns_are_refused() -> None:
    with pytest.raises(GeometryError, match="three different directions"):
        reorientation_to(Grid.regular((2, 2)))
    with pytest.raises(GeometryError, match="'RLS'"):
        reorientation_to(Grid.regular((2, 2, 2)), "RLS")
    with pytest.raises(GeometryError, match="'RA'"):
        reorientation_to(Grid.regular((2, 2, 2)), "RA")
    with pytest.raises(GeometryError, match="permutes"):
        Reorientation(axes=(0, 0, 1), flips=(False, False, False))
