"""Pictures on other grids: any window is that of the whole, and shapes keep their place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from delineate.errors import InputError, UsageError
from delineate.preprocessing.pictures import Stretch, Zoom, sampling_step, stretch_of, stretch_of_sample


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 100), factor=st.floats(0.2, 4.0), top=st.integers(0, 20), left=st.integers(0, 20))
def test_a_window_is_that_of_the_whole(seed: int, factor: float, top: int, left: int) -> None:
    picture = np.random.default_rng(seed).random((57, 73, 3), dtype=np.float32)
    zoom = Zoom.by((57, 73), factor)
    whole = zoom.picture(picture)
    rows = slice(min(top, zoom.zoomed[0] - 1), zoom.zoomed[0])
    columns = slice(min(left, zoom.zoomed[1] - 1), min(left + 9, zoom.zoomed[1]))
    part = zoom.read(lambda r, c: picture[r, c], rows, columns)
    assert whole.shape == (*zoom.zoomed, 3)
    assert np.array_equal(part, whole[rows, columns])


def test_twice_as_large_is_linear_interpolation() -> None:
    picture = np.random.default_rng(0).random((20, 30, 1), dtype=np.float32)
    place = np.clip((np.arange(60) + 0.5) / 2 - 0.5, 0, 29)
    rows = np.clip((np.arange(40) + 0.5) / 2 - 0.5, 0, 19)
    expected = ndimage.map_coordinates(picture[..., 0], np.meshgrid(rows, place, indexing="ij"), order=1)
    assert np.allclose(Zoom.by((20, 30), 2.0).picture(picture)[..., 0], expected, atol=1e-6)


def test_a_coarser_grid_keeps_the_mean() -> None:
    picture = np.zeros((200, 200, 1), dtype=np.float32)
    picture[::2] = 1  # stripes that picking single rows would miss
    small = Zoom.by((200, 200), 0.25).picture(picture)
    assert small.shape == (50, 50, 1)
    assert abs(float(small.mean()) - 0.5) < 0.02
    assert small.std() < 0.1


@pytest.mark.parametrize("factor", [0.4, 1.0, 1.7])
def test_labels_keep_their_place(factor: float) -> None:
    labels = np.zeros((90, 80), dtype=np.int32)
    labels[20:60, 30:50] = 7
    zoom = Zoom.by((90, 80), factor)
    back = zoom.labels(labels)[np.ix_(zoom.nearest(0), zoom.nearest(1))]
    both = ((labels > 0) & (back > 0)).sum() / ((labels > 0) | (back > 0)).sum()
    assert both > (0.85 if factor < 1 else 0.99)


def test_impossible_factors_are_refused() -> None:
    for factor in (0.0, 100.0, float("nan")):
        with pytest.raises(UsageError, match="32 times"):
            Zoom.by((10, 10), factor)


def test_the_stretch_of_a_large_picture_is_that_of_its_thinned_rows() -> None:
    picture = np.random.default_rng(2).integers(0, 255, (3200, 3000), dtype=np.uint8)
    every = sampling_step((3200, 3000))
    assert stretch_of(picture) == stretch_of_sample(picture[::every, ::every])
    with pytest.raises(InputError, match="not finite"):
        stretch_of_sample(np.array([1.0, np.nan]))


def stained(dtype: type = np.uint8, brightness: float = 1.0) -> np.ndarray:
    """Purple and pink on white."""
    picture = np.full((40, 50, 3), (240, 235, 242), dtype=float)
    picture[5:30, 5:30] = (210, 150, 200)
    picture[10:20, 10:20] = (90, 50, 130)
    return (picture * brightness).astype(dtype)


def test_stained_tissue_in_eight_bits_is_taken_as_it_is() -> None:
    picture = stained()
    assert stretch_of(picture) == Stretch(low=0.0, high=255.0)
    np.testing.assert_allclose(stretch_of(picture).applied(picture), picture / 255, atol=1e-6)


@pytest.mark.parametrize(
    "picture",
    [
        stained(np.uint16),
        stained().mean(axis=2, keepdims=True).astype(np.uint8),  # grey
        np.repeat(stained().mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2),  # grey in three colours
        255 - stained(),  # colours on black: fluorescence
    ],
    ids=["deep", "grey", "grey in colours", "fluorescence"],
)
def test_all_other_pictures_are_stretched(picture: np.ndarray) -> None:
    low, high = np.percentile(picture, (0.5, 99.8))
    assert stretch_of(picture) == Stretch(low=float(low), high=float(high))
