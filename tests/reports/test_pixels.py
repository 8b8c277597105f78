"""Windows and PNG."""

import io

import numpy as np
import pytest
from PIL import Image as Pillow

from delineate.reports.pixels import png, to_bytes, window_of


def test_a_window_runs_from_black_to_white():
    shown = to_bytes(np.array([-500.0, -160, 40, 240, 3000, np.nan, np.inf, -np.inf]), (-160.0, 240.0))
    assert shown.tolist() == [0, 0, 128, 255, 255, 0, 255, 0]


@pytest.mark.parametrize("values", [np.zeros(5), np.full(3, 7, np.int16), np.array([np.nan, np.inf]), np.empty(0)])
def test_images_without_contrast_have_a_window(values):
    low, high = window_of(values)
    assert high > low


def test_outliers_do_not_decide_the_window():
    values = np.concatenate([np.linspace(0, 1, 1000), [1e9, np.nan]])
    low, high = window_of(values)
    assert 0 <= low < 0.01
    assert 0.98 < high <= 1.0


def test_rare_values_still_get_a_window():
    values = np.zeros(10_000)
    values[0] = 5
    assert window_of(values) == (0.0, 5.0)


@pytest.mark.parametrize("shape", [(8, 12), (8, 12, 3)])
def test_png_keeps_the_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(Pillow.open(io.BytesIO(png(pixels, 100)))), pixels)


def test_large_pictures_are_averaged_down():
    pixels = np.tile(np.array([[0, 200]], np.uint8), (40, 100))
    small = np.asarray(Pillow.open(io.BytesIO(png(pixels, 100))))
    assert small.shape == (20, 100)
    assert np.all(small == 100)
