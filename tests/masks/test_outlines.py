"""Outlines of planar masks."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from delineate.errors import GeometryError
from delineate.masks.outlines import outlines

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))


def signed_area(line):
    y, x = line.T
    return 0.5 * float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))


def winding(line, point):
    """Independent reference: whether a point lies inside a closed line, by crossings of a ray."""
    (py, px), inside = point, False
    for (y0, x0), (y1, x1) in pairwise(line):
        if (y0 > py) != (y1 > py) and px < x0 + (py - y0) / (y1 - y0) * (x1 - x0):
            inside = not inside
    return inside


@settings(max_examples=60, deadline=None)
@given(masks)
def test_lines_are_closed_and_hold_exactly_the_pixels_of_the_mask(mask):
    lines = outlines(mask)
    assert all(np.array_equal(line[0], line[-1]) for line in lines)
    for index, value in np.ndenumerate(mask):
        crossings = sum(winding(line, np.add(index, 1e-7)) for line in lines)
        assert crossings % 2 == int(value)


@settings(max_examples=60, deadline=None)
@given(masks)
def test_one_line_per_border(mask):
    parts = ndimage.label(mask)[1]  # 4-connected
    around = np.pad(~mask, 1, constant_values=True)
    holes = ndimage.label(around, structure=np.ones((3, 3)))[1] - 1
    assert len(outlines(mask)) == parts + holes


@settings(max_examples=40, deadline=None)
@given(masks, st.integers(0, 1))
def test_flipping_the_mask_flips_the_lines(mask, axis):
    area = sum(abs(signed_area(line)) for line in outlines(mask))
    assert sum(abs(signed_area(line)) for line in outlines(np.flip(mask, axis))) == pytest.approx(area)


def test_a_single_pixel_is_a_diamond_around_its_centre():
    mask = np.zeros((5, 7), bool)
    mask[2, 4] = True
    (line,) = outlines(mask)
    assert {tuple(point) for point in line} == {(1.5, 4.0), (2.5, 4.0), (2.0, 3.5), (2.0, 4.5)}


def test_a_full_picture_is_closed_outside_its_border():
    (line,) = outlines(np.ones((2, 3), bool))
    assert line.min() == -0.5
    assert tuple(line.max(axis=0)) == (1.5, 2.5)


def test_an_empty_mask_has_no_outline():
    assert outlines(np.zeros((3, 3), bool)) == ()


def test_volumes_are_refused():
    with pytest.raises(GeometryError, match=r"\(2, 2, 2\)"):
        outlines(np.ones((2, 2, 2), bool))
