import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from delineate.errors import GeometryError
from delineate.geometry.crop import bounding_box, box_slices, crop, fill_holes, nonzero_mask, pad_to, uncrop


@settings(max_examples=40, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 7)] * 3), density=st.floats(0, 1), seed=st.integers(0, 1000))
def test_filled_holes_are_scipys(shape, density, seed):
    mask = np.random.default_rng(seed).random(shape) < density
    np.testing.assert_array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))


def test_a_hollow_box_is_filled_and_a_cup_is_not():
    mask = np.zeros((5, 5, 5), bool)
    mask[1:4, 1:4, 1:4] = True
    mask[2, 2, 2] = False
    assert fill_holes(mask)[2, 2, 2]
    mask[1, 2, 2] = False
    assert not fill_holes(mask)[2, 2, 2]


def test_nonzero_in_any_channel_counts():
    array = np.zeros((2, 3, 3, 3))
    array[0, 0, 0, 0], array[1, 2, 2, 1] = 5, -1
    mask = nonzero_mask(array)
    assert mask.sum() == 2
    assert bounding_box(mask) == ((0, 3), (0, 3), (0, 2))


def test_the_box_of_nothing_is_everything():
    assert bounding_box(np.zeros((3, 4, 5), bool)) == ((0, 3), (0, 4), (0, 5))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_uncrop_undoes_crop(data):
    shape = data.draw(st.tuples(*[st.integers(1, 6)] * 3))
    starts = [data.draw(st.integers(0, size - 1)) for size in shape]
    box = tuple((s, data.draw(st.integers(s + 1, size))) for s, size in zip(starts, shape, strict=True))
    array = np.random.default_rng(0).random((2, *shape))
    back = uncrop(crop(array, box), box, shape, fill=-3)
    inside = (slice(None), *box_slices(box))
    np.testing.assert_array_equal(back[inside], array[inside])
    assert (back == -3).sum() == array.size - back[inside].size


def test_a_box_that_does_not_fit_is_refused():
    with pytest.raises(GeometryError, match="does not fit"):
        uncrop(np.zeros((2, 2, 2)), ((0, 2), (0, 2), (0, 3)), (4, 4, 4))
    with pytest.raises(GeometryError, match="does not fit"):
        uncrop(np.zeros((2, 2, 2)), ((0, 2), (3, 5), (0, 2)), (4, 4, 4))


@given(shape=st.tuples(*[st.integers(1, 6)] * 3), least=st.tuples(*[st.integers(1, 9)] * 3))
@settings(max_examples=30, deadline=None)
def test_padding_reaches_the_size_and_is_undone_by_its_box(shape, least):
    array = np.random.default_rng(0).random((2, *shape))
    padded, box = pad_to(array, least, fill=7)
    assert padded.shape[1:] == tuple(max(a, b) for a, b in zip(shape, least, strict=True))
    np.testing.assert_array_equal(crop(padded, box), array)


def test_padding_puts_the_odd_voxel_behind_and_leaves_large_arrays_alone():
    array = np.ones((1, 2, 5))
    padded, box = pad_to(array, (5, 5))
    assert box == ((1, 3), (0, 5))
    assert padded.sum() == array.sum()
    assert pad_to(array, (2, 2))[0] is array
