"""Surface elements and border voxels against geometry, erosion and brute force."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from delineate.errors import GeometryError
from delineate.masks.surfaces import border_voxels, bounding_box, surface_elements, surface_voxels

SPACINGS = st.sampled_from([(1.0, 1.0, 1.0), (3.0, 0.8, 1.3), (0.5, 2.0, 0.5)])


def masks(dims=3, side=4):
    return npst.arrays(np.bool_, st.tuples(*[st.integers(1, side)] * dims))


def total(mask, spacing):
    return surface_elements(mask, spacing).sizes.sum()


def test_area_of_a_ball_is_near_the_true_one():
    spacing = (1.0, 0.8, 1.25)
    axes = [np.arange(int(24 / s) * 2) * s for s in spacing]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    ball = (z - 23) ** 2 + (y - 23) ** 2 + (x - 23) ** 2 <= 20**2
    # marching cubes on a binary ball are too large by some 8 %, whatever the resolution
    assert total(ball, spacing) == pytest.approx(4 * math.pi * 20**2, rel=0.12)


def test_faces_of_a_box_have_their_area():
    spacing = (3.0, 0.8, 1.3)
    grow = [total(np.ones((n, 6, 7), np.bool_), spacing) for n in (5, 6)]
    # one more layer adds four faces of its own, whatever edges and corners cost
    assert grow[1] - grow[0] == pytest.approx(2 * 3.0 * (5 * 0.8 + 6 * 1.3) + _edges(spacing), rel=1e-9)


def _edges(spacing):
    # the four edges along z are cut: each a strip over the diagonal of half a voxel
    return 4 * spacing[0] * math.hypot(spacing[1] / 2, spacing[2] / 2)


def test_one_voxel_is_an_octahedron():
    a, b, c = (s / 2 for s in (3.0, 0.8, 1.3))
    triangle = 0.5 * np.linalg.norm(np.cross([-a, b, 0], [-a, 0, c]))
    surface = surface_elements(np.ones((1, 1, 1), np.bool_), (3.0, 0.8, 1.3))
    assert len(surface) == 8
    np.testing.assert_allclose(surface.sizes, triangle)


def test_one_pixel_is_a_rhombus():
    surface = surface_elements(np.ones((1, 1), np.bool_), (3.0, 0.8))
    np.testing.assert_allclose(surface.sizes, 0.5 * math.hypot(3.0, 0.8))
    np.testing.assert_array_equal(surface.indices, [[0, 0], [0, 1], [1, 0], [1, 1]])


def test_length_of_a_rectangle():
    sizes = surface_elements(np.ones((4, 5), np.bool_), (3.0, 0.8)).sizes
    assert sizes.sum() == pytest.approx(2 * 3 * 3.0 + 2 * 4 * 0.8 + 4 * 0.5 * math.hypot(3.0, 0.8))


@settings(max_examples=60, deadline=None)
@given(masks(), SPACINGS, st.permutations(range(3)), st.sets(st.integers(0, 2)))
def test_area_does_not_depend_on_flips_axes_or_padding(mask, spacing, order, flipped):
    expected = total(mask, spacing)
    turned = np.flip(mask, tuple(flipped)).transpose(order)
    assert total(turned, [spacing[i] for i in order]) == pytest.approx(expected)
    assert total(np.pad(mask, 2), spacing) == pytest.approx(expected)


def test_every_neighbourhood_has_the_area_of_its_mirror_images():
    for code in range(256):
        mask = np.array([code >> bit & 1 for bit in range(8)], np.bool_).reshape(2, 2, 2)
        expected = _area_in_the_middle(mask)
        assert _area_in_the_middle(~mask) == pytest.approx(expected)
        for axis in range(3):
            assert _area_in_the_middle(np.flip(mask, axis)) == pytest.approx(expected), code


def _area_in_the_middle(mask):
    surface = surface_elements(mask, (3.0, 0.8, 1.3))
    return surface.sizes[(surface.indices == 1).all(axis=1)].sum()


@settings(max_examples=40, deadline=None)
@given(masks(), SPACINGS)
def test_a_mask_and_its_complement_have_the_same_surface(mask, spacing):
    padded = np.pad(mask, 2)
    box = surface_elements(np.ones_like(padded), spacing).sizes.sum()
    assert total(~padded, spacing) == pytest.approx(total(padded, spacing) + box)


@settings(max_examples=60, deadline=None)
@given(st.one_of(masks(3), masks(2, 6)))
def test_elements_are_the_corners_whose_neighbours_differ(mask):
    padded = np.pad(mask, 1)
    shape = [n + 1 for n in mask.shape]
    expected = []
    for corner in itertools.product(*map(range, shape)):
        window = padded[tuple(slice(c, c + 2) for c in corner)]
        if window.any() and not window.all():
            expected.append(corner)
    surface = surface_elements(mask, (1.0,) * mask.ndim)
    np.testing.assert_array_equal(surface.indices, np.array(expected).reshape(-1, mask.ndim))
    assert (surface.sizes > 0).all()


@settings(max_examples=60, deadline=None)
@given(st.one_of(masks(3), masks(2, 6)))
def test_border_voxels_are_what_erosion_takes_away(mask):
    expected = mask & ~ndimage.binary_erosion(mask)
    np.testing.assert_array_equal(border_voxels(mask), expected)
    np.testing.assert_array_equal(surface_voxels(mask, (1.0,) * mask.ndim).indices, np.argwhere(expected))


def test_border_of_each_slice_ignores_the_slices_beside_it():
    mask = np.ones((1, 5, 5), np.bool_)
    assert border_voxels(mask, (1, 2)).sum() == 16
    assert border_voxels(mask).sum() == 25


@given(st.one_of(masks(3), masks(2, 6)))
def test_bounding_box_is_the_smallest(mask):
    box = bounding_box(mask)
    where = np.argwhere(mask)
    if len(where) == 0:
        assert box is None
        return
    assert [(s.start, s.stop) for s in box] == list(zip(where.min(0), where.max(0) + 1, strict=True))


def test_empty_masks_have_no_surface():
    assert len(surface_elements(np.zeros((3, 3, 3), np.bool_), (1, 1, 1))) == 0
    assert surface_voxels(np.zeros((3, 3), np.bool_), (1, 1)).indices.shape == (0, 2)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 0.0, 1.0), (1.0, math.nan, 1.0)])
def test_impossible_spacing_is_refused(spacing):
    with pytest.raises(GeometryError, match="3 positive numbers"):
        surface_elements(np.ones((2, 2, 2), np.bool_), spacing)


def test_other_numbers_of_axes_are_refused():
    with pytest.raises(GeometryError, match="2 or 3 axes"):
        surface_elements(np.ones(4, np.bool_), (1.0,))
