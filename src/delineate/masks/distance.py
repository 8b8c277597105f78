"""Exact Euclidean distances in millimetres: of points to points, and of every voxel to a mask.

Distances from surface to surface are asked at few places of a large box, so a k-d tree over the surface answers faster
than a distance transform of the box, needs no box at all (a stray voxel far away costs nothing), and works in double
precision. The module knows index positions, masks and spacing.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from delineate.errors import GeometryError
from delineate.masks.surfaces import Spacing, require_spacing

MOST_THREADS = 4
"""Threads that ask the tree; the distances do not depend on it."""


def nearest_distances(
    points: NDArray[np.int64], targets: NDArray[np.int64], spacing_mm: Spacing
) -> NDArray[np.float64]:
    """Return the distance from each point to the nearest target.

    Parameters
    ----------
    points, targets
        (point, axis) array indices.
    spacing_mm
        Millimetres per axis, in the order of the axes.

    Returns
    -------
    (point,) float64
        Millimetres; infinite if there are no targets.

    Raises
    ------
    GeometryError
        If the spacing does not fit.
    """
    spacing = np.array(require_spacing(points.shape[1], spacing_mm))
    if len(points) == 0 or len(targets) == 0:
        return np.full(len(points), np.inf)
    # from a corner of their own, so that where the mask lies in the image changes no rounding
    low = np.array([min(p.min(), t.min()) for p, t in zip(points.T, targets.T, strict=True)])
    points, targets = points - low, targets - low
    distances = np.zeros(len(points))
    apart = ~_contained(points, targets)
    if apart.any():
        distances[apart] = cKDTree(targets * spacing, balanced_tree=False).query(
            points[apart] * spacing, workers=_threads()
        )[0]
    return distances


def distance_map(mask: NDArray[np.bool_], spacing_mm: Spacing) -> NDArray[Any]:
    """Return the distance of each voxel's centre to the nearest voxel centre of the mask.

    Uses the package ``edt`` where it is installed (the extra ``fast``), else scipy.

    Parameters
    ----------
    mask
        Bool, (z, y, x) or (y, x).
    spacing_mm
        Millimetres per axis, in the order of the axes.

    Returns
    -------
    NDArray
        Millimetres in the shape of ``mask``, float32 of seven digits with ``edt``, float64 with scipy; 0 in the mask,
        infinite everywhere if the mask is empty.

    Raises
    ------
    GeometryError
        If the mask has neither 2 nor 3 axes, or the spacing does not fit.

    References
    ----------
    P. Felzenszwalb, D. Huttenlocher, Distance transforms of sampled functions, Theory of Computing 8 (2012).
    """
    if mask.ndim not in (2, 3):
        raise GeometryError(f"A distance map needs a mask of 2 or 3 axes; got shape {mask.shape}.")
    spacing = require_spacing(mask.ndim, spacing_mm)
    if not mask.any():
        return np.full(mask.shape, np.inf)
    try:
        edt: Any = importlib.import_module("edt")
    except ImportError:
        return np.asarray(ndimage.distance_transform_edt(~mask, sampling=spacing))
    outside = np.ascontiguousarray(~mask).view(np.uint8)
    return np.asarray(edt.edt(outside, anisotropy=spacing, black_border=False, parallel=1))


def _threads() -> int:
    # of the processors that this process may use; more threads than a few only wait for memory
    affinity = getattr(os, "sched_getaffinity", None)
    return min(MOST_THREADS, len(affinity(0)) if affinity else (os.cpu_count() or 1))


def _contained(points: NDArray[np.int64], targets: NDArray[np.int64]) -> NDArray[np.bool_]:
    # column by column: reducing over the long axis of (n, 3) is ten times slower
    extent = tuple(int(max(p.max(), t.max())) + 1 for p, t in zip(points.T, targets.T, strict=True))
    known = np.sort(np.ravel_multi_index(tuple(targets.T), extent))
    asked = np.ravel_multi_index(tuple(points.T), extent)
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    contained: NDArray[np.bool_] = known[place] == asked
    return contained


def distances_to_rim(instances: NDArray[Any]) -> NDArray[np.float32]:
    """Return, for every pixel of every instance, the distance to the nearest pixel that is not of that instance.

    Uses the package ``edt`` where it is installed (the extra ``fast``), else scipy, one instance after the other.

    Parameters
    ----------
    instances
        (y, x) or (z, y, x) integer, 0 is background; the end of the array is no rim.

    Returns
    -------
    NDArray
        Pixels (not millimetres), float32, 0 in the background.
    """
    labels = np.ascontiguousarray(instances, dtype=np.int32)
    try:
        edt = importlib.import_module("edt")
    except ImportError:
        return _rim_by_instance(labels)
    found: NDArray[np.float32] = edt.edt(labels, black_border=False)
    return np.where(np.isfinite(found), found, 0).astype(np.float32)


def _rim_by_instance(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    distances = np.zeros(labels.shape, dtype=np.float32)
    numbers, dense = np.unique(labels, return_inverse=True)
    dense = dense.reshape(labels.shape) + (1 if numbers[0] != 0 else 0)
    for value, box in enumerate(ndimage.find_objects(dense), start=1):
        if box is None:
            continue
        wide = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)
        mine = dense[wide] == value
        distances[wide][mine] = ndimage.distance_transform_edt(mine)[mine]
    return distances
