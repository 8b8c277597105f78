"""Hanging of volumes, against the grid's own affine."""

from itertools import permutations, product

import numpy as np
import pytest

from delineate.geometry.grid import Grid
from delineate.reports.views import box_around, hanging_of, largest_section, views_through

SHAPE = (3, 4, 5)
SPACING = (3.0, 2.0, 1.0)


def turned_grids():
    for order, signs in product(permutations(range(3)), product((1.0, -1.0), repeat=3)):
        direction = tuple(tuple(s if w == o else 0.0 for w in range(3)) for o, s in zip(order, signs, strict=True))
        yield Grid(shape=SHAPE, spacing_mm=SPACING, origin_mm=(7.0, -3.0, 2.0), direction=direction)


def world(grid):
    """World position (x, y, z) of every voxel."""
    index = np.stack([*np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), np.ones(grid.shape)])
    return np.einsum("wi,i...->w...", grid.affine, index)[:3]


@pytest.mark.parametrize("grid", list(turned_grids()))
def test_hung_axes_run_upwards_along_world_z_y_x(grid):
    hanging = hanging_of(grid)
    x, y, z = (hanging.hang(component) for component in world(grid))
    for axis, coordinate in enumerate((z, y, x)):
        steps = np.diff(coordinate, axis=axis)
        np.testing.assert_allclose(steps, hanging.spacing_mm[axis])


@pytest.mark.parametrize("grid", list(turned_grids()))
def test_views_have_the_patients_right_on_the_left(grid):
    hanging = hanging_of(grid)
    x, y, z = (hanging.hang(component) for component in world(grid))
    box = tuple(slice(0, n) for n in x.shape)
    axial, coronal, sagittal = views_through((1, 1, 1), box, hanging.spacing_mm, anatomical=True)
    assert axial.letters == ("A", "P", "R", "L")
    for view, down, right in ((axial, y, x), (coronal, -z, x), (sagittal, -z, y)):
        assert np.all(np.diff(view.cut(down), axis=0) > 0)
        assert np.all(np.diff(view.cut(right), axis=1) > 0)
    # in LPS the left grows along x: small x, the patient's right, is at the picture's left


def test_oblique_grids_go_to_the_nearest_axes():
    c, s = np.cos(0.3), np.sin(0.3)
    grid = Grid(
        shape=SHAPE,
        spacing_mm=SPACING,
        origin_mm=(0.0,) * 3,
        direction=((0.0, s, c), (0.0, c, -s), (1.0, 0.0, 0.0)),
    )
    assert hanging_of(grid).order == (0, 1, 2)


def test_planes_are_not_turned():
    grid = Grid(shape=(4, 6), spacing_mm=(2.0, 3.0), origin_mm=(0.0, 0.0), direction=((0.0, -1.0), (1.0, 0.0)))
    hanging = hanging_of(grid)
    plane = np.arange(24).reshape(4, 6)
    (view,) = views_through((0, 0, 0), (slice(0, 1), slice(0, 4), slice(0, 6)), hanging.spacing_mm, anatomical=False)
    np.testing.assert_array_equal(view.cut(hanging.hang(plane)), plane)
    assert (view.letters, view.spacing_mm) == (None, (2.0, 3.0))


def test_a_volume_of_one_slice_has_one_view():
    views = views_through((0, 2, 0), (slice(0, 4), slice(2, 3), slice(0, 9)), (1.0, 1.0, 1.0), anatomical=True)
    assert [view.name for view in views] == ["coronal"]


def test_the_largest_section_of_several_is_the_middle_one():
    mask = np.zeros((9, 6, 6), bool)
    mask[2:7, 1:3, 4] = True
    mask[8, 1, 4] = True
    assert largest_section(mask)[0] == 4
    assert largest_section(mask)[2] == 4


def test_boxes_have_a_margin_and_end_at_the_array():
    mask = np.zeros((40, 40, 10), bool)
    mask[10:20, 0:10, 5] = True
    box = box_around(mask, (1.0, 2.0, 1.0), share=0.2, least_mm=4.0)
    assert box == (slice(6, 24), slice(0, 12), slice(1, 10))
    assert box_around(np.zeros((3, 4), bool), (1.0, 1.0), share=1, least_mm=1) == (slice(0, 3), slice(0, 4))
