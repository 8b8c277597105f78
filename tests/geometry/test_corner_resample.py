from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from delineate.errors import GeometryError
from delineate.geometry.corner_resample import zoom_linear, zoom_nearest, zoomed_shape

SIDES = st.tuples(*[st.integers(1, 9)] * 3)


@given(npst.arrays(np.int16, SIDES, elements=st.integers(-2000, 2000)), SIDES)
def test_linear_is_scipys_zoom_to_the_last_bit(array: np.ndarray, target: tuple[int, ...]) -> None:
    factors = np.array(target[::-1]) / np.array(array.shape[::-1])
    expected = ndimage.zoom(array.T.astype(np.float64), factors, mode="nearest", order=1)
    assert expected.shape == target[::-1]
    np.testing.assert_array_equal(zoom_linear(array, target), expected.T)


@given(npst.arrays(np.uint8, SIDES, elements=st.integers(0, 117)), SIDES)
def test_nearest_is_scipys_zoom(labels: np.ndarray, target: tuple[int, ...]) -> None:
    factors = np.array(target[::-1]) / np.array(labels.shape[::-1])
    expected = ndimage.zoom(labels.T.astype(np.float64), factors, mode="nearest", order=0)
    np.testing.assert_array_equal(zoom_nearest(labels, target), expected.T.astype(np.uint8))


@given(SIDES, SIDES)
def test_corners_stay(shape: tuple[int, ...], target: tuple[int, ...]) -> None:
    ramp = np.add.outer(np.add.outer(np.arange(shape[0]) * 100, np.arange(shape[1]) * 10), np.arange(shape[2]))
    result = zoom_linear(ramp, target)
    last = tuple(new - 1 if new > 1 else 0 for new in target)
    same = tuple(old - 1 if new > 1 else 0 for old, new in zip(shape, target, strict=True))
    assert result[0, 0, 0] == ramp[0, 0, 0]
    assert result[last] == pytest.approx(ramp[same])


def test_sizes_follow_the_spacing() -> None:
    assert zoomed_shape((20, 512, 512), (2.0, 0.9765625, 0.9765625), (1.5, 1.5, 1.5)) == (27, 333, 333)
    assert zoomed_shape((1, 3, 5), (0.1, 1.5, 3.0), (6.0, 1.5, 1.5)) == (1, 3, 10)


def test_the_array_itself_where_nothing_changes() -> None:
    labels = np.ones((2, 3, 4), np.uint8)
    assert zoom_nearest(labels, (2, 3, 4)) is labels


def test_planes_are_refused() -> None:
    with pytest.raises(GeometryError, match="three positive sizes"):
        zoom_linear(np.zeros((3, 3)), (3, 3))
    with pytest.raises(GeometryError, match="three positive sizes"):
        zoom_nearest(np.zeros((3, 3, 3)), (3, 0, 3))
