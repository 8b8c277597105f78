"""Betti numbers of shapes that are known, and centre lines of tubes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from skimage.measure import euler_number

from delineate.errors import GeometryError
from delineate.masks.topology import centre_line, topology


def box(*shape):
    return np.ones(shape, np.bool_)


def ring():
    mask = box(3, 7, 7)
    mask[:, 2:5, 2:5] = False
    return mask


def bubble():
    mask = box(5, 5, 5)
    mask[2, 2, 2] = False
    return mask


def numbers(mask):
    found = topology(mask)
    return found.components, found.tunnels, found.cavities


def test_known_shapes():
    assert numbers(box(3, 3, 3)) == (1, 0, 0)
    assert numbers(ring()) == (1, 1, 0)
    assert numbers(bubble()) == (1, 0, 1)
    assert numbers(np.concatenate([ring(), np.zeros((2, 7, 7), np.bool_), ring()])) == (2, 2, 0)
    assert numbers(np.zeros((3, 3, 3), np.bool_)) == (0, 0, 0)


def test_planes_have_holes():
    found = topology(ring()[0])
    assert (found.components, found.tunnels, found.cavities, found.euler) == (1, 0, 1, 0)


def test_neighbours_by_corner_are_connected():
    assert numbers(np.eye(4, dtype=np.bool_)) == (1, 0, 0)


@settings(max_examples=50, deadline=None)
@given(npst.arrays(np.bool_, st.one_of(st.tuples(*[st.integers(1, 5)] * 3), st.tuples(*[st.integers(1, 6)] * 2))))
def test_euler_number_is_that_of_scikit_image_and_no_count_is_negative(mask):
    found = topology(mask)
    assert found.euler == euler_number(np.pad(mask, 1), connectivity=mask.ndim)
    assert min(found.components, found.tunnels, found.cavities) >= 0


def test_centre_line_of_a_tube_is_a_line():
    tube = np.zeros((30, 9, 9), np.bool_)
    tube[:, 2:7, 2:7] = True
    line = centre_line(tube)
    assert (line & ~tube).sum() == 0
    assert topology(line).components == 1
    assert 20 <= line.sum() <= 40
    assert not centre_line(np.zeros((4, 4), np.bool_)).any()


def test_no_component_vanishes():
    mask = np.zeros((9, 9, 9), np.bool_)
    mask[:2, :2, :2] = mask[5:7, 5:7, 5:7] = True
    line = centre_line(mask)
    assert topology(line).components == 2
    assert line.sum() == 2
    assert not (line & ~mask).any()


def test_other_numbers_of_axes_are_refused():
    with pytest.raises(GeometryError, match="2 or 3 axes"):
        topology(np.ones(3, np.bool_))
