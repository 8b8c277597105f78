"""From polygons to masks: which voxel centres lie inside.

The module knows polygons in index coordinates of a plane; it knows no millimetres and no DICOM.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from delineate.errors import GeometryError


def fill_even_odd(polygons: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the voxels whose centre lies inside an odd number of polygons.

    Parameters
    ----------
    polygons
        Each (n, 2) vertices (y, x) in voxel indices, closed by its first vertex. Parts outside the plane are cut off;
        bridges that run forth and back cancel.
    shape
        Rows and columns of the plane.

    Returns
    -------
    (rows, columns) bool
        A centre on an edge belongs to the voxel below and to the right of the edge only, so that neighbouring polygons
        share no voxel.

    Raises
    ------
    GeometryError
        If a polygon has other axes or numbers that are not finite.
    """
    checked = [_checked(polygon) for polygon in polygons]
    inside = np.zeros(shape, dtype=bool)
    box = _box_of([polygon for polygon in checked if len(polygon) > 2], shape)
    if box is None:
        return inside
    top, left, rows, columns = box
    flips = np.zeros((rows, columns + 1), dtype=np.int64)
    for polygon in checked:
        _add_flips(flips, polygon - (top, left))
    inside[top : top + rows, left : left + columns] = np.cumsum(flips, axis=1)[:, :-1] & 1
    return inside


def fill_union(polygons: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the voxels whose centre lies inside any polygon; see :func:`fill_even_odd`."""
    inside = np.zeros(shape, dtype=bool)
    for polygon in polygons:
        inside |= fill_even_odd([polygon], shape)
    return inside


def _checked(polygon: NDArray[np.float64]) -> NDArray[np.float64]:
    vertices = np.asarray(polygon, dtype=np.float64)
    if vertices.ndim != 2 or vertices.shape[1] != 2 or not np.isfinite(vertices).all():
        raise GeometryError(f"A polygon needs finite vertices (n, 2); got shape {vertices.shape}.")
    return vertices


def _box_of(polygons: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Return top, left, rows and columns of the part of a plane that polygons reach; None if they reach none."""
    if not polygons:
        return None
    low = np.min([polygon.min(axis=0) for polygon in polygons], axis=0)
    high = np.max([polygon.max(axis=0) for polygon in polygons], axis=0)
    top, left = (int(v) for v in np.clip(np.ceil(low), 0, shape))
    bottom, right = (int(v) for v in np.clip(np.floor(high) + 1, 0, shape))
    return (top, left, bottom - top, right - left) if bottom > top and right > left else None


def _add_flips(flips: NDArray[np.int64], polygon: NDArray[np.float64]) -> None:
    """Count, per row, where a walk from the left along the row's centres crosses the polygon."""
    if len(polygon) < 3:
        return
    after = np.roll(polygon, -1, axis=0)
    upper = np.where((polygon[:, 0] <= after[:, 0])[:, None], polygon, after)
    lower = np.where((polygon[:, 0] <= after[:, 0])[:, None], after, polygon)
    # an edge crosses the rows whose centre is at or below its upper end and above its lower end
    first = np.clip(np.ceil(upper[:, 0]), 0, flips.shape[0]).astype(np.int64)
    stop = np.clip(np.ceil(lower[:, 0]), 0, flips.shape[0]).astype(np.int64)
    counts = np.maximum(stop - first, 0)
    edge = np.repeat(np.arange(len(polygon)), counts)
    row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    slope = (lower[edge, 1] - upper[edge, 1]) / (lower[edge, 0] - upper[edge, 0])
    column = upper[edge, 1] + (row - upper[edge, 0]) * slope
    place = np.clip(np.ceil(column), 0, flips.shape[1] - 1).astype(np.int64)
    np.add.at(flips, (row, place), 1)
