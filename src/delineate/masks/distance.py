"""Exact Euclidean distances in millimetres: of points to points, and of every voxel to a mask.

Distances from surface to surface are asked at few places of a large box, so searching the other surface answers faster
than a distance transform of the box, and works in double precision: by rows where the compiled kernels are at hand
(``masks.surface_kernels``), by a k-d tree elsewhere. Either way the search gives whole numbers of voxels, and the
distance follows from these alone, so mirroring, shifting or exchanging axes changes no bit of it. The module knows
index positions, masks and spacing.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from delineate.errors import GeometryError
from delineate.masks.compiled import kernels, useful_threads
from delineate.masks.surfaces import KERNELS, Spacing, require_spacing

ROWS_AROUND = 256
"""Rows that are visited around a point, about; what is farther than these is found among tiles of rows."""

MOST_ROW_BYTES = 1 << 29
"""Tables of the search by rows; larger ones, of surfaces that fill huge volumes, are left to the tree."""

POINTS_PER_THREAD = 10_000
"""Fewer are asked of the tree before a thread has started."""

VOXELS_PER_PIECE = 32
"""Of a volume whose surface has so many pieces: tells work worth compiled kernels."""


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
    spacing = require_spacing(points.shape[1], spacing_mm)
    if len(points) == 0 or len(targets) == 0:
        return np.full(len(points), np.inf)
    return _lengths(_nearest_offsets(points, targets, spacing), spacing)


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


def _lengths(offsets: NDArray[np.int64], spacing: tuple[float, ...]) -> NDArray[np.float64]:
    # axes of one spacing are added as whole numbers, and the groups in the order of the spacing: no rounding depends on
    # which of several nearest targets was found, nor on the order of the axes
    total = np.zeros(offsets.shape[1])
    for width in sorted(set(spacing)):
        steps = np.sum([offsets[axis] ** 2 for axis, s in enumerate(spacing) if s == width], axis=0)
        total += steps * (width * width)
    return np.sqrt(total, out=total)


def _nearest_offsets(
    points: NDArray[np.int64], targets: NDArray[np.int64], spacing: tuple[float, ...]
) -> NDArray[np.int64]:
    low = np.array([t.min() for t in targets.T])
    extent = np.array([t.max() for t in targets.T]) - low + 1
    compiled = None
    if _searchable_by_rows(len(targets), extent):
        compiled = kernels(KERNELS, VOXELS_PER_PIECE * (len(points) + len(targets)))
    if compiled is None:
        return _offsets_by_tree(points, targets, np.array(spacing))
    dims = len(spacing)
    if dims == 2:
        points, targets = (np.pad(indices, ((0, 0), (1, 0))) for indices in (points, targets))
        low, extent, spacing = np.array([0, *low]), np.array([1, *extent]), (1.0, *spacing)
    rows = compiled.rows_of(targets, low, extent)
    offsets: NDArray[np.int64] = compiled.nearest_offsets(
        points, low, rows, compiled.tiles_of(rows[0]), _rows_around(spacing[0], spacing[1]), spacing
    )
    return offsets[-dims:]


def _searchable_by_rows(n_targets: int, extent: NDArray[np.int64]) -> bool:
    if len(extent) not in (2, 3) or extent[-1] >= np.iinfo(np.uint16).max:
        return False
    rows = int(np.prod(extent[:-1]))
    return 4 * rows + 2 * min(rows, n_targets) * int(extent[-1]) <= MOST_ROW_BYTES


@lru_cache(maxsize=64)
def _rows_around(slices_mm: float, rows_mm: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    # a disc: rows in the order of their squared distance, and that distance with the first one beyond at the end
    radius = np.sqrt(ROWS_AROUND * slices_mm * rows_mm / np.pi)
    far = [int(radius / side) + 1 for side in (slices_mm, rows_mm)]
    z, y = (axis.ravel() for axis in np.mgrid[-far[0] : far[0] + 1, -far[1] : far[1] + 1])
    squared = (z * slices_mm) ** 2 + (y * rows_mm) ** 2
    beyond = min((far[0] + 1) * slices_mm, (far[1] + 1) * rows_mm) ** 2
    order = np.argsort(squared, kind="stable")
    order = order[squared[order] < beyond]
    return np.stack([z[order], y[order]], axis=1), np.append(squared[order], beyond)


def _offsets_by_tree(
    points: NDArray[np.int64], targets: NDArray[np.int64], spacing: NDArray[np.float64]
) -> NDArray[np.int64]:
    offsets = np.zeros(points.T.shape, np.int64)
    apart = ~_contained(points, targets)
    if apart.any():
        # from a corner of their own, so that where the mask lies in the image changes no rounding
        low = targets.min(axis=0)
        tree = cKDTree((targets - low) * spacing, balanced_tree=False)
        asked = (points[apart] - low) * spacing
        nearest = tree.query(asked, workers=useful_threads() if len(asked) >= POINTS_PER_THREAD else 1)[1]
        offsets[:, apart] = (targets[nearest] - points[apart]).T
    return offsets


def _contained(points: NDArray[np.int64], targets: NDArray[np.int64]) -> NDArray[np.bool_]:
    # column by column: reducing over the long axis of (n, 3) is ten times slower
    low = [min(p.min(), t.min()) for p, t in zip(points.T, targets.T, strict=True)]
    points, targets = points - low, targets - low
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
