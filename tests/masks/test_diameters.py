"""Longest diameters against the distances of all corners."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from delineate.masks.diameters import longest_diameter, longest_diameter_in_plane

masks = arrays(np.bool_, st.tuples(*[st.integers(1, 5)] * 3))
spacings = st.tuples(*[st.floats(0.3, 4.0)] * 3)


def slow(mask: NDArray[Any], spacing: tuple[float, ...]) -> float:
    corners = [index + np.array(offset) for index in np.argwhere(mask) for offset in np.ndindex(*(2,) * mask.ndim)]
    return float(pdist(np.array(corners) * np.array(spacing)).max()) if corners else 0.0


@settings(max_examples=60, deadline=None)
@given(mask=masks, spacing=spacings)
def test_equals_the_distances_of_all_corners(mask: NDArray[np.bool_], spacing: tuple[float, float, float]) -> None:
    assert longest_diameter(mask, spacing) == pytest.approx(slow(mask, spacing), rel=1e-9)
    in_plane, plane = longest_diameter_in_plane(mask, spacing)
    lengths = [slow(one, spacing[1:]) for one in mask]
    assert in_plane == pytest.approx(max(lengths), rel=1e-9)
    assert plane is None if not mask.any() else lengths[plane] == pytest.approx(in_plane, rel=1e-9)


def test_a_ball() -> None:
    z, y, x = np.mgrid[-12:13, -25:26, -25:26]
    ball = (2 * z) ** 2 + y**2 + x**2 <= 24**2
    assert longest_diameter(ball, (2.0, 1.0, 1.0)) == pytest.approx(49, abs=2.0)
