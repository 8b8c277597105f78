"""Resampling of volumes by one matrix per axis.

Spline interpolation on a regular grid is separable: a volume is resampled by one small linear operator per axis. The
numbers are those of ``skimage.transform.resize(..., mode="edge", clip=True, anti_aliasing=False)``, which nnU-Net uses;
the operators are applied as banded blocks of matrix products in single precision. This module knows nothing of what
intensities or labels mean; labels are resampled in :mod:`delineate.geometry.resample_labels`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.errors import GeometryError

ANISOTROPY_THRESHOLD = 3.0
"""Ratio of largest to smallest spacing above which the coarse axis is treated apart (nnU-Net's ANISO_THRESHOLD)."""
NEGLIGIBLE_WEIGHT = 1e-9
"""Operator entries below this are dropped: cubic weights decay as 0.268^distance and would end as slow denormals."""
BLOCK_ROWS = 32
"""Output samples per block of a banded operator; small enough that a block's input range is mostly band."""
PRODUCT_LIMIT = 1_000_000
"""Largest rows x columns x depth of one matrix product; larger ones make BLAS start threads, which starve one another
where several processes work at once."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Band:
    """A block of rows of an axis operator with the input range they need."""

    out: slice
    source: slice
    weights: NDArray[np.float32]
    """(rows, inputs) float32."""


@lru_cache(maxsize=128)
def axis_operator(n_in: int, n_out: int, order: int) -> NDArray[np.float64]:
    """Return the matrix that resamples one axis.

    Parameters
    ----------
    n_in, n_out
        Number of voxels before and after, along the axis.
    order
        Spline order: 0 nearest, 1 linear, 3 cubic; voxel centres at half-integers, edges continued.

    Returns
    -------
    NDArray
        (n_out, n_in) float64, read-only; every row sums to 1.

    Raises
    ------
    GeometryError
        If a size is not positive.
    """
    if n_in < 1 or n_out < 1:
        raise GeometryError(f"An axis needs at least one voxel before and after resampling; got {n_in} and {n_out}.")
    if n_in == n_out:
        operator = np.eye(n_in)
    else:
        # the factor is spelt as skimage spells it, so that coordinates round in the same way
        operator = ndimage.zoom(np.eye(n_in), (1 / (n_in / n_out), 1), order=order, mode="nearest", grid_mode=True)
    operator.setflags(write=False)
    return operator


@lru_cache(maxsize=128)
def nearest_index(n_in: int, n_out: int) -> NDArray[np.intp]:
    """Return for every output voxel of an axis the nearest input voxel: (n_out,) indices."""
    index: NDArray[np.intp] = np.argmax(axis_operator(n_in, n_out, 0), axis=1)
    index.setflags(write=False)
    return index


@lru_cache(maxsize=256)
def operator_bands(n_in: int, n_out: int, order: int, rows: int = BLOCK_ROWS) -> tuple[Band, ...]:
    """Cut an axis operator into blocks of ``rows`` output voxels, each with the input range that it reads."""
    operator = axis_operator(n_in, n_out, order)
    kept = np.where(np.abs(operator) < NEGLIGIBLE_WEIGHT, 0.0, operator).astype(np.float32)
    return tuple(_band(kept, start, min(start + rows, n_out)) for start in range(0, n_out, rows))


def _band(operator: NDArray[np.float32], start: int, stop: int) -> Band:
    used = np.flatnonzero(operator[start:stop].any(axis=0))
    source = slice(int(used[0]), int(used[-1]) + 1)
    return Band(out=slice(start, stop), source=source, weights=np.ascontiguousarray(operator[start:stop, source]))


def resampled_shape(
    shape: Sequence[int], spacing_mm: Sequence[float], new_spacing_mm: Sequence[float]
) -> tuple[int, ...]:
    """Return the shape after resampling: round(old / new * size) per axis, at least 1 (nnU-Net's rule)."""
    return tuple(
        max(1, round(old / new * size)) for old, new, size in zip(spacing_mm, new_spacing_mm, shape, strict=True)
    )


def find_separate_axis(spacing_mm: Sequence[float], new_spacing_mm: Sequence[float]) -> int | None:
    """Return the axis that is resampled apart from the other two because the grid is anisotropic along it.

    nnU-Net's rule: the current spacing decides if its ratio of largest to smallest exceeds 3, else the new spacing; no
    axis is treated apart if several share the largest spacing.
    """
    for spacing in (spacing_mm, new_spacing_mm):
        if max(spacing) / min(spacing) > ANISOTROPY_THRESHOLD:
            coarse = [axis for axis, size in enumerate(spacing) if size == max(spacing)]
            return coarse[0] if len(coarse) == 1 else None
    return None


def resample(
    array: NDArray[Any], new_shape: Sequence[int], order: int, *, separate_axis: int | None = None
) -> NDArray[np.float32]:
    """Resample every channel of a volume to a new shape and clip it to the range it had.

    Parameters
    ----------
    array
        (channel, z, y, x), any real dtype.
    new_shape
        (z, y, x) wanted.
    order
        Spline order (0, 1 or 3).
    separate_axis
        Axis of (z, y, x) along which the nearest voxel is taken instead, or None. The slices across it are then
        resampled, and clipped, each on its own.

    Returns
    -------
    NDArray
        (channel, *new_shape) float32; the input itself, as float32, if the shape is already right.

    Raises
    ------
    GeometryError
        If the array is not 4-D or the new shape has not three positive sizes.
    """
    target = _checked_shape(array, new_shape)
    if array.shape[1:] == target:
        return array.astype(np.float32, copy=False)
    result = np.empty((array.shape[0], *target), np.float32)
    for channel, out in zip(array, result, strict=True):
        _resample_channel(channel.astype(np.float32, copy=False), out, order, separate_axis)
    return result


def _checked_shape(array: NDArray[Any], new_shape: Sequence[int]) -> tuple[int, ...]:
    target = tuple(int(size) for size in new_shape)
    if array.ndim != 4 or len(target) != 3 or min(target) < 1:
        raise GeometryError(
            f"Resampling takes a (channel, z, y, x) array to three positive sizes; got {array.shape} to {target}."
        )
    return target


def _resample_channel(
    volume: NDArray[np.float32], out: NDArray[np.float32], order: int, separate_axis: int | None
) -> None:
    across = None if separate_axis is None else tuple(axis for axis in range(3) if axis != separate_axis)
    lowest, highest = volume.min(axis=across, keepdims=True), volume.max(axis=across, keepdims=True)
    centre = np.float32(_far_centre(float(lowest.min()), float(highest.max())))
    axes = _cheapest_order(volume.shape, out.shape, order, separate_axis)
    result = volume - centre if centre else volume
    for position, axis in enumerate(axes):
        last = position == len(axes) - 1 and separate_axis is None
        result = apply_operator(result, axis, out.shape[axis], order, out=out if last else None)
    if separate_axis is not None:
        # the slices across the axis keep their own ranges, so those are taken along
        nearest = nearest_index(volume.shape[separate_axis], out.shape[separate_axis])
        result.take(nearest, axis=separate_axis, out=out)
        lowest, highest = lowest.take(nearest, axis=separate_axis), highest.take(nearest, axis=separate_axis)
    if centre:
        out += centre
    if order > 0:
        np.clip(out, lowest, highest, out=out)


def _far_centre(lowest: float, highest: float) -> float:
    """Return the middle of the range if it is far from zero, where float32 would lose digits; else 0."""
    middle = (lowest + highest) / 2
    return middle if math.isfinite(middle) and abs(middle) > highest - lowest else 0.0


def _cheapest_order(
    shape: tuple[int, ...], target: tuple[int, ...], order: int, separate_axis: int | None
) -> tuple[int, ...]:
    """Return the axes that change, in the order that needs the fewest multiplications."""
    changing = [axis for axis in range(3) if shape[axis] != target[axis] and axis != separate_axis]
    return min(itertools.permutations(changing), key=lambda axes: _cost(shape, target, order, axes))


def _cost(shape: tuple[int, ...], target: tuple[int, ...], order: int, axes: tuple[int, ...]) -> float:
    sizes, total = list(shape), 0.0
    for axis in axes:
        bands = operator_bands(sizes[axis], target[axis], order)
        per_line = sum(band.weights.size for band in bands) + sizes[axis] + target[axis]
        total += per_line * math.prod(sizes) / sizes[axis]
        sizes[axis] = target[axis]
    return total


def apply_operator(
    volume: NDArray[np.float32], axis: int, size: int, order: int, *, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Resample one axis of a (z, y, x) float32 volume to ``size`` voxels, without clipping; into ``out`` if given."""
    shape = list(volume.shape)
    shape[axis] = size
    result = np.empty(shape, np.float32) if out is None else out
    for band in operator_bands(volume.shape[axis], size, order):
        if axis == 2:
            _multiply_rows(volume[..., band.source], band.weights, result[..., band.out])
        else:
            source, target = np.moveaxis(volume, axis, 1), np.moveaxis(result, axis, 1)
            _multiply_columns(band.weights, source[:, band.source], target[:, band.out])
    return result


def _multiply_rows(source: NDArray[np.float32], weights: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    step = max(1, PRODUCT_LIMIT // weights.size)
    for start in range(0, source.shape[1], step):
        rows = slice(start, start + step)
        np.matmul(source[:, rows], weights.T, out=out[:, rows])


def _multiply_columns(weights: NDArray[np.float32], source: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    step = max(1, PRODUCT_LIMIT // weights.size)
    for start in range(0, source.shape[2], step):
        columns = slice(start, start + step)
        np.matmul(weights, source[..., columns], out=out[..., columns])
