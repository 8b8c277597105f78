"""Resampling of label maps: interpolate every label's indicator linearly and let the heaviest label win.

The result is that of resizing one one-hot volume per label, as nnU-Net does, but no such volume is made: where all
corners of an interpolation cell agree the answer is known, and the other voxels are settled from their eight corners,
whatever the number of labels. Weights are summed in double precision in scipy's order, so that ties are the same ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from delineate.errors import GeometryError
from delineate.geometry.resample import axis_operator, nearest_index

LabelRule = Literal["majority", "threshold"]
"""``majority``: the label of largest weight; on a tie the nearest voxel's label if it is tied too, else the lowest
(nnU-Net 2.8.1 with batchgenerators 0.25.5). ``threshold``: the highest label whose weight is at least 0.5, else 0
(nnU-Net with older batchgenerators)."""

SLAB_VOXELS = 1 << 22
"""Output voxels settled at a time."""
POINTS_AT_A_TIME = 1 << 16
"""Mixed voxels whose corners are gathered at a time."""
CLEAR_MAJORITY = 1e-9
"""Above a weight of one half by this much a label has won whatever the rounding."""
CORNERS = tuple((z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Axis:
    """Linear interpolation along one axis: two neighbours, their weights, and the nearest voxel."""

    neighbours: NDArray[np.intp]
    """(2, n_out) lower and upper input index."""
    weights: NDArray[np.float64]
    """(2, n_out)."""
    nearest: NDArray[np.intp]
    """(n_out,)."""


def resample_labels(
    labels: NDArray[Any],
    new_shape: Sequence[int],
    *,
    separate_axis: int | None = None,
    rule: LabelRule = "majority",
) -> NDArray[Any]:
    """Resample a label map to a new shape.

    Parameters
    ----------
    labels
        (z, y, x), an integer dtype; negative values are labels like any other.
    new_shape
        (z, y, x) wanted.
    separate_axis
        Axis along which the nearest slice is taken (see :func:`delineate.geometry.resample.find_separate_axis`).
    rule
        Who wins a voxel, see :data:`LabelRule`.

    Returns
    -------
    NDArray
        (*new_shape), the dtype of ``labels``; the input itself if the shape is already right.

    Raises
    ------
    GeometryError
        If the array is not 3-D or the new shape has not three positive sizes.
    """
    target = tuple(int(size) for size in new_shape)
    if labels.ndim != 3 or len(target) != 3 or min(target) < 1:
        raise GeometryError(f"Labels (z, y, x) are resampled to three positive sizes; got {labels.shape} to {target}.")
    if labels.shape == target:
        return labels
    labels = np.ascontiguousarray(labels)
    axes = tuple(_axis(labels.shape[i], target[i], nearest=i == separate_axis) for i in range(3))
    mixed = _mixed_cells(labels)
    result = np.empty(target, labels.dtype)
    rows = max(1, SLAB_VOXELS // (target[1] * target[2]))
    for start in range(0, target[0], rows):
        _fill_slab(result, labels, mixed, axes, slice(start, min(start + rows, target[0])), rule)
    return result


def _axis(n_in: int, n_out: int, *, nearest: bool) -> _Axis:
    index = nearest_index(n_in, n_out)
    if nearest:
        ones = np.ones(n_out)
        return _Axis(neighbours=np.stack([index, index]), weights=np.stack([ones, 0 * ones]), nearest=index)
    operator = axis_operator(n_in, n_out, 1)
    lower = np.argmax(operator > 0, axis=1)
    upper = np.minimum(lower + 1, n_in - 1)
    rows = np.arange(n_out)
    first = operator[rows, lower]
    second = np.where(upper > lower, operator[rows, upper], 0.0)
    return _Axis(neighbours=np.stack([lower, upper]), weights=np.stack([first, second]), nearest=index)


def _mixed_cells(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return (z, y, x) bool: whether the voxel and its upper neighbours, diagonal ones too, hold different labels."""
    lowest, highest = labels, labels
    for axis in range(3):
        lowest = _with_next(np.minimum, lowest, axis)
        highest = _with_next(np.maximum, highest, axis)
    return np.asarray(lowest != highest)


def _with_next(pick: np.ufunc, array: NDArray[Any], axis: int) -> NDArray[Any]:
    result = array.copy()
    head = [slice(None)] * 3
    tail = [slice(None)] * 3
    head[axis], tail[axis] = slice(None, -1), slice(1, None)
    pick(array[tuple(head)], array[tuple(tail)], out=result[tuple(head)])
    return result


def _fill_slab(
    result: NDArray[Any],
    labels: NDArray[Any],
    mixed: NDArray[np.bool_],
    axes: tuple[_Axis, ...],
    rows: slice,
    rule: LabelRule,
) -> None:
    """Fill ``result[rows]``: nearest labels first, then the voxels of mixed cells."""
    z, y, x = axes
    slab = _gather(labels, z.nearest[rows], y.nearest, x.nearest)
    inside = _gather(mixed, z.neighbours[0, rows], y.neighbours[0], x.neighbours[0])
    points = np.flatnonzero(inside)
    flat = slab.reshape(-1)
    for start in range(0, points.size, POINTS_AT_A_TIME):
        some = points[start : start + POINTS_AT_A_TIME]
        index = np.unravel_index(some, slab.shape)
        flat[some] = _settle(labels, axes, (index[0] + rows.start, index[1], index[2]), flat[some], rule)
    result[rows] = slab


def _gather(array: NDArray[Any], z: NDArray[np.intp], y: NDArray[np.intp], x: NDArray[np.intp]) -> NDArray[Any]:
    return array.take(z, axis=0).take(y, axis=1).take(x, axis=2)


def _settle(
    labels: NDArray[Any],
    axes: tuple[_Axis, ...],
    index: tuple[NDArray[np.intp], ...],
    nearest: NDArray[Any],
    rule: LabelRule,
) -> NDArray[Any]:
    """Return the winning label of each point; ``index`` are three (n,) arrays of output indices."""
    corner_labels, corner_weights = _corners(labels, axes, index)
    own = (corner_weights * (corner_labels == nearest)).sum(axis=0)
    open_points = np.flatnonzero(own <= 0.5 + CLEAR_MAJORITY)
    winners = nearest.copy()
    winners[open_points] = _vote(
        corner_labels[:, open_points], corner_weights[:, open_points], nearest[open_points], rule
    )
    return winners


def _vote(
    corner_labels: NDArray[Any], corner_weights: NDArray[np.float64], nearest: NDArray[Any], rule: LabelRule
) -> NDArray[Any]:
    # per corner the weight of its label: the sum over the corners that carry the same label, in scipy's order
    scores = np.zeros_like(corner_weights)
    for label, weight in zip(corner_labels, corner_weights, strict=True):
        scores += np.where(corner_labels == label, weight, 0.0)
    if rule == "threshold":
        return _highest_reaching(corner_labels, scores >= 0.5)
    leading = scores == scores.max(axis=0)
    lowest = np.where(leading, corner_labels, np.iinfo(corner_labels.dtype).max).min(axis=0)
    return np.where(((corner_labels == nearest) & leading).any(axis=0), nearest, lowest)


def _highest_reaching(corner_labels: NDArray[Any], reached: NDArray[np.bool_]) -> NDArray[Any]:
    smallest = np.iinfo(corner_labels.dtype).min
    highest = np.where(reached, corner_labels, smallest).max(axis=0)
    return np.where(reached.any(axis=0), highest, 0)


def _corners(
    labels: NDArray[Any], axes: tuple[_Axis, ...], index: tuple[NDArray[np.intp], ...]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return labels and weights of the eight corners, (8, n) each."""
    strides = (labels.shape[1] * labels.shape[2], labels.shape[2], 1)
    z, y, x = (axis.neighbours[:, i] * step for axis, i, step in zip(axes, index, strides, strict=True))
    wz, wy, wx = (axis.weights[:, i] for axis, i in zip(axes, index, strict=True))
    flat = labels.reshape(-1)
    found = np.stack([flat.take(z[k] + y[j] + x[i]) for k, j, i in CORNERS])
    products = np.stack([wz[k] * wy[j] * wx[i] for k, j, i in CORNERS])
    return found, products
