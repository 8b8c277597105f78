from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from delineate.geometry.grid import Grid
from delineate.metrics.case_statistics import input_statistics, output_statistics

GRID = Grid.regular((4, 10, 20), (3.0, 1.0, 0.5))


def test_inputs() -> None:
    array = np.random.default_rng(0).gamma(2, 30, size=(2, 4, 10, 20)).astype(np.float32)
    array[1, 0, 0, 0] = np.nan
    found = input_statistics(array, GRID)
    assert (found["spacing_x_mm"], found["spacing_z_mm"], found["size_x"], found["size_z"]) == (0.5, 3.0, 20, 4)
    assert found["extent_ml"] == pytest.approx(800 * 1.5 / 1000)
    assert found["channel_0.p50"] == pytest.approx(np.median(array[0]))
    known = array[1][np.isfinite(array[1])].astype(float)
    assert found["channel_1.p99"] == pytest.approx(np.percentile(known, 99))
    assert found["channel_1.skewness"] == pytest.approx(stats.skew(known))
    assert (found["orientation"], found["dtype"], found["channels"]) == ("LPS", "float32", "2")


def test_a_constant_plane_and_an_image_without_numbers() -> None:
    plane = Grid.regular((5, 6))
    found = input_statistics(np.full((1, 5, 6), 7), plane)
    assert (found["p50"], found["range"], found["skewness"], found["orientation"]) == (7.0, 0.0, 0.0, "plane")
    assert "size_z" not in found
    assert "p50" not in input_statistics(np.full((1, 5, 6), np.nan), plane)


def test_outputs() -> None:
    labels = np.zeros((4, 10, 20), np.uint8)
    labels[1, 2:4, 5:9] = 1
    labels[3, 8, 19] = 1
    found = output_statistics(labels, GRID, [("a", (1,)), ("both", (1, 2)), ("b", (2,))])
    assert found["a.volume_ml"] == pytest.approx(9 * 1.5 / 1000)
    assert (found["a.components"], found["a.touches_border"], found["a.empty"]) == (2.0, True, False)
    x = np.concatenate([np.tile(np.arange(5, 9), 2), [19]])
    assert found["a.centre_x"] == pytest.approx((x.mean() + 0.5) / 20)
    assert found["both.volume_ml"] == found["a.volume_ml"]
    assert (found["b.volume_ml"], found["b.empty"]) == (0.0, True)
    assert "b.components" not in found
    turned = output_statistics(labels[:, :, ::-1], GRID, [("a", (1,))])
    assert turned["a.centre_x"] == pytest.approx(1 - found["a.centre_x"])
