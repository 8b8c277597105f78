"""Longest diameters of a mask, voxels taken as boxes.

The longest distance between two points of a set lies between two corners of its convex hull; the hull of boxes is the
hull of their corners, of which only the first and last on each line of voxels can matter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist

_CHUNK = 2000
"""Points compared at once: bounds the memory of distances."""


def longest_diameter(mask: NDArray[Any], spacing_mm: tuple[float, ...]) -> float:
    """Return the largest distance, in mm, of two points of a mask (z, y, x) or (y, x); 0 for an empty mask.

    Parameters
    ----------
    mask
        Non-zero inside.
    spacing_mm
        Voxel size in the order of the array's axes; the axes are perpendicular.
    """
    if not mask.any():
        return 0.0
    corners = _outer_corners(np.asarray(mask, dtype=bool)) * np.asarray(spacing_mm)
    hull = corners[ConvexHull(corners).vertices]
    return max(float(cdist(hull[i : i + _CHUNK], hull).max()) for i in range(0, len(hull), _CHUNK))


def longest_diameter_in_plane(mask: NDArray[Any], spacing_mm: tuple[float, float, float]) -> tuple[float, int | None]:
    """Return the largest distance, in mm, within one plane of a mask (z, y, x), and that plane; (0, None) if empty."""
    best: tuple[float, int | None] = (0.0, None)
    for plane in np.flatnonzero(np.asarray(mask).any(axis=(1, 2))).tolist():
        length = longest_diameter(mask[plane], spacing_mm[1:])
        if length > best[0]:
            best = (length, int(plane))
    return best


def _outer_corners(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the first and last corner (in voxels, from 0) on every line of corners along the last axis."""
    lines = mask
    for axis in range(mask.ndim - 1):  # a line of corners touches the voxels on both of its sides
        before = np.pad(lines, [(1, 0) if a == axis else (0, 0) for a in range(lines.ndim)])
        after = np.pad(lines, [(0, 1) if a == axis else (0, 0) for a in range(lines.ndim)])
        lines = before | after
    places = np.argwhere(lines.any(axis=-1))
    hit = lines[tuple(places.T)]
    first = hit.argmax(axis=1)
    last = hit.shape[1] - hit[:, ::-1].argmax(axis=1)
    return np.concatenate([np.column_stack([places, first]), np.column_stack([places, last])]).astype(np.float64)
