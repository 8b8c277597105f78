"""Summits that stand out: by hand, against the rule written down plainly, and in windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from delineate.masks import compiled, summits
from delineate.masks.summits import leading_from

Height = NDArray[np.float32]


def ways(height: Height, start: int, prominence: float, radius: int) -> set[int]:
    """Return the places that can be reached from a place without going down by the prominence."""
    rows, columns = height.shape
    y, x = divmod(start, columns)
    reached, waiting = {start}, [(y, x)]
    while waiting:
        here = waiting.pop()
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                row, column = here[0] + dy, here[1] + dx
                inside = 0 <= row < rows and 0 <= column < columns and max(abs(row - y), abs(column - x)) <= radius
                place = row * columns + column
                if inside and place not in reached and height[row, column] > height[y, x] - np.float32(prominence):
                    reached.add(place)
                    waiting.append((row, column))
    return reached


@pytest.fixture(params=[False, True], ids=["numpy", "compiled"], autouse=True)
def _kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param and not compiled.HAVE_NUMBA:
        pytest.skip("numba is not installed")
    monkeypatch.setattr(compiled, "HAVE_NUMBA", request.param)
    monkeypatch.setattr(compiled, "_LOADED", {})
    monkeypatch.setattr(summits, "PIXELS_PER_SUMMIT", compiled.LEAST_VOXELS)


def test_a_low_saddle_parts_two_summits_and_a_high_one_does_not() -> None:
    line = np.array([[0.0, 0.9, 0.7, 1.0, 0.5, 0.8, 0.0]], dtype=np.float32)
    tops = np.array([1, 3, 5])
    assert leading_from(line, tops, 0.1, 9).tolist() == [1, 3, 5]
    assert leading_from(line, tops, 0.25, 9).tolist() == [3, 3, 5]
    assert leading_from(line, tops, 0.35, 9).tolist() == [3, 3, 3]
    assert leading_from(line, tops, 0.35, 1).tolist() == [1, 3, 5]  # a higher one is too far away to be seen


def test_of_equal_summits_the_first_one_stands() -> None:
    flat = np.full((4, 4), 0.5, dtype=np.float32)
    assert set(leading_from(flat, np.arange(16), 0.1, 9).tolist()) == {0}
    apart = np.array([[0.5, -np.inf, 0.5]], dtype=np.float32)
    assert leading_from(apart, np.array([0, 2]), 0.9, 9).tolist() == [0, 2]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.05, 0.2, 0.5]), st.integers(1, 6))
def test_it_is_the_rule(seed: int, prominence: float, radius: int) -> None:
    generator = np.random.default_rng(seed)
    height = (generator.integers(0, 12, (9, 11)) / 12).astype(np.float32)
    height[generator.random(height.shape) < 0.2] = -np.inf
    places = np.flatnonzero(np.isfinite(height))
    flat = height.ravel()
    expected = [max(ways(height, int(p), prominence, radius), key=lambda q: (flat[q], -q)) for p in places]
    assert leading_from(height, places, prominence, radius).tolist() == expected


def test_a_window_that_holds_the_radius_says_the_same() -> None:
    height = np.random.default_rng(3).random((40, 50), dtype=np.float32)
    radius, (top, left) = 5, (11, 13)
    y, x = np.mgrid[20:25, 22:30].reshape(2, -1)
    whole = leading_from(height, y * 50 + x, 0.4, radius)
    part = height[top:34, left:43]
    there = leading_from(np.ascontiguousarray(part), (y - top) * part.shape[1] + x - left, 0.4, radius)
    assert (there // part.shape[1] + top).tolist() == (whole // 50).tolist()
    assert (there % part.shape[1] + left).tolist() == (whole % 50).tolist()
