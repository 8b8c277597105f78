"""Resampling that keeps the centres of the corner voxels in place: the numbers of ``scipy.ndimage.zoom``.

TotalSegmentator resamples images and label maps in this way, and its weights were trained on such images; nnU-Net's own
resampling (:mod:`delineate.geometry.resample`) keeps the corners of the corner voxels instead. Sums run in double
precision in the axis order x, y, z, because a later cast to whole numbers would turn a last-bit difference into one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.errors import GeometryError


def zoomed_shape(shape: Sequence[int], spacing_mm: Sequence[float], new_spacing_mm: Sequence[float]) -> tuple[int, ...]:
    """Return the shape after resampling: size times old over new spacing, rounded, at least 1."""
    return tuple(
        max(1, round(size * (old / new))) for size, old, new in zip(shape, spacing_mm, new_spacing_mm, strict=True)
    )


def zoom_linear(array: NDArray[Any], new_shape: Sequence[int]) -> NDArray[np.float64]:
    """Interpolate a volume linearly at another number of voxels.

    Parameters
    ----------
    array
        (z, y, x), any real dtype.
    new_shape
        (z, y, x) wanted.

    Returns
    -------
    NDArray
        (*new_shape) float64.

    Raises
    ------
    GeometryError
        If the array is not 3-D or the new shape has not three positive sizes.
    """
    target = _checked(array, new_shape)
    result = np.empty(target, np.float64)
    factors = [new / old for new, old in zip(target[::-1], array.shape[::-1], strict=True)]
    ndimage.zoom(array.T, factors, output=result.T, order=1, mode="nearest")
    return result


def zoom_nearest(labels: NDArray[Any], new_shape: Sequence[int]) -> NDArray[Any]:
    """Take the nearest voxel of a label map at another number of voxels.

    Parameters
    ----------
    labels
        (z, y, x), any dtype.
    new_shape
        (z, y, x) wanted.

    Returns
    -------
    NDArray
        (*new_shape), the dtype of ``labels``; the input itself if the shape is already right.

    Raises
    ------
    GeometryError
        If the array is not 3-D or the new shape has not three positive sizes.
    """
    target = _checked(labels, new_shape)
    if labels.shape == target:
        return labels
    result = labels
    for axis, (old, new) in enumerate(zip(labels.shape, target, strict=True)):
        if old != new:
            result = result.take(_nearest(old, new), axis=axis)
    return result


@lru_cache(maxsize=64)
def _nearest(old: int, new: int) -> NDArray[np.intp]:
    index: NDArray[np.intp] = np.empty(new, np.intp)
    ndimage.zoom(np.arange(old), new / old, output=index, order=0, mode="nearest")
    index.setflags(write=False)
    return index


def _checked(array: NDArray[Any], new_shape: Sequence[int]) -> tuple[int, ...]:
    target = tuple(int(size) for size in new_shape)
    if array.ndim != 3 or len(target) != 3 or min(target) < 1:
        raise GeometryError(f"A volume (z, y, x) is resampled to three positive sizes; got {array.shape} to {target}.")
    return target
