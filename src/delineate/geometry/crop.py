"""Cropping and padding of arrays, and the way back.

A box is one ``(start, stop)`` pair per spatial axis, half open. Spatial axes are the last axes of an array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.errors import GeometryError

Box = tuple[tuple[int, int], ...]
"""One half-open ``(start, stop)`` per axis."""


def nonzero_mask(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where any channel differs from zero, holes filled.

    Parameters
    ----------
    array
        (channel, z, y, x).

    Returns
    -------
    NDArray
        (z, y, x) bool. A hole is zero background that does not reach the border by steps along the axes.
    """
    mask = array[0] != 0
    for channel in array[1:]:
        mask |= channel != 0
    return fill_holes(mask)


def fill_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask with enclosed background filled, as ``scipy.ndimage.binary_fill_holes`` (face neighbours)."""
    background = ~mask
    if not any(face.any() for face in _faces(background)):
        return np.ones_like(mask)
    components, _ = ndimage.label(background)
    outside = np.unique(np.concatenate([face.ravel() for face in _faces(components)]))
    reaches_border = np.zeros(int(components.max()) + 1, bool)
    reaches_border[outside[outside > 0]] = True
    filled: NDArray[np.bool_] = ~reaches_border[components]
    return filled


def _faces(array: NDArray[Any]) -> list[NDArray[Any]]:
    return [array.take(end, axis=axis) for axis in range(array.ndim) for end in (0, -1)]


def bounding_box(mask: NDArray[np.bool_]) -> Box:
    """Return the smallest box that holds every True voxel; the whole array if there is none.

    Parameters
    ----------
    mask
        Bool array of any number of axes.

    Returns
    -------
    tuple
        One half-open ``(start, stop)`` per axis.
    """
    box = []
    for axis, size in enumerate(mask.shape):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        used = np.flatnonzero(mask.any(axis=others))
        box.append((int(used[0]), int(used[-1]) + 1) if used.size else (0, size))
    return tuple(box)


def box_slices(box: Box) -> tuple[slice, ...]:
    """Return the box as slices, to index the spatial axes of an array."""
    return tuple(slice(start, stop) for start, stop in box)


def crop(array: NDArray[Any], box: Box) -> NDArray[Any]:
    """Return the part of the array inside the box: a view; leading axes are kept whole."""
    inside: tuple[Any, ...] = (..., *box_slices(box))
    cut: NDArray[Any] = array[inside]
    return cut


def uncrop(array: NDArray[Any], box: Box, shape: Sequence[int], *, fill: float = 0) -> NDArray[Any]:
    """Put a cropped array back into an array of the given spatial shape, filled elsewhere.

    Parameters
    ----------
    array
        Leading axes, then the spatial axes with the sizes of the box.
    box, shape
        Where the array was cut from, and the spatial shape it was cut from.
    fill
        Value outside the box.

    Raises
    ------
    GeometryError
        If the array has not the size of the box, or the box leaves the shape.
    """
    sizes = tuple(stop - start for start, stop in box)
    inside = all(0 <= start < stop <= size for (start, stop), size in zip(box, shape, strict=True))
    if array.shape[-len(box) :] != sizes or not inside:
        raise GeometryError(
            f"An array of shape {array.shape} does not fit box {box} of an array of shape {tuple(shape)}."
        )
    result = np.full((*array.shape[: -len(box)], *shape), fill, array.dtype)
    crop(result, box)[...] = array
    return result


def pad_to(array: NDArray[Any], least_shape: Sequence[int], *, fill: float = 0) -> tuple[NDArray[Any], Box]:
    """Pad the spatial axes on both sides until none is smaller than ``least_shape``; the extra voxel goes behind.

    Parameters
    ----------
    array
        Leading axes, then as many spatial axes as ``least_shape`` has entries.
    least_shape
        Smallest size per spatial axis.
    fill
        Value of the padding.

    Returns
    -------
    tuple
        The padded array (the input itself if nothing is missing), and the box in which the input now lies;
        ``crop(padded, box)`` gives it back.
    """
    spatial = array.shape[array.ndim - len(least_shape) :]
    missing = [max(0, least - size) for least, size in zip(least_shape, spatial, strict=True)]
    box = tuple((gap // 2, gap // 2 + size) for gap, size in zip(missing, spatial, strict=True))
    if not any(missing):
        return array, box
    target = tuple(size + gap for size, gap in zip(spatial, missing, strict=True))
    return uncrop(array, box, target, fill=fill), box
