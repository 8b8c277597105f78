"""Probabilities on the image's own grid, slab by slab: memory is bounded by the slab, whatever the size of the image.

The numbers are those of :func:`delineate.preprocessing.restore.restore_probabilities`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.case.labels import LabelScheme
from delineate.case.prepared import Trace
from delineate.errors import ModelError
from delineate.geometry.resample import Band, find_separate_axis, operator_bands

SLAB_BYTES = 1 << 27
"""About how much a slab of probabilities may take."""


def planes_per_slab(trace: Trace, heads: int, limit_bytes: int = SLAB_BYTES) -> int:
    """Return how many planes along the first axis of the image a slab may have, at least 1."""
    shape = _lifted(trace)
    return max(1, min(shape[0], limit_bytes // (4 * heads * math.prod(shape[1:]))))


def probability_slabs(
    logits: NDArray[Any], trace: Trace, scheme: LabelScheme, *, planes: int
) -> Iterator[NDArray[np.float32]]:
    """Yield the probability of every head, slab after slab along the first axis of the image.

    Parameters
    ----------
    logits
        (head, z, y, x) float16 or float32 on the prepared grid.
    trace
        How the prepared grid came about.
    scheme
        Label mode: softmax over the heads; region mode: the sigmoid of each.
    planes
        Planes per slab; the last may have fewer.

    Yields
    ------
    NDArray
        (head, planes, y, x) float32; a plane image is one slab (head, 1, y, x). Outside the crop the background head is
        1 (label mode) or all are 0 (region mode).

    Raises
    ------
    ModelError
        If the logits do not fit trace and scheme, or are not finite.
    """
    expected = (scheme.head_count, *trace.prepared_shape)
    if logits.shape != expected:
        raise ModelError(f"Logits of shape {expected} were expected for this case; got {logits.shape}.")
    shape = _lifted(trace)
    axis = trace.transpose.index(0)
    start, stop = trace.box[axis]
    for first in range(0, shape[0], planes):
        last = min(first + planes, shape[0])
        slab = np.zeros((len(logits), last - first, *shape[1:]), np.float32)
        if not scheme.has_regions:
            slab[0] = 1
        low, high = max(first, start), min(last, stop)
        if low < high:
            values = _probabilities(logits, trace, scheme, axis, slice(low - start, high - start))
            _insert(slab, values, trace, axis, slice(low - first, high - first))
        yield slab


def _lifted(trace: Trace) -> tuple[int, ...]:
    return (1, *trace.grid.shape) if trace.is_plane else trace.grid.shape


def _insert(slab: NDArray[np.float32], values: NDArray[np.float32], trace: Trace, axis: int, place: slice) -> None:
    """Put probabilities (head, *prepared axis order) of the crop at their place in a slab of the image."""
    inside = slab.transpose(0, *(a + 1 for a in trace.transpose))
    where = [slice(start, stop) for start, stop in trace.box]
    where[axis] = place
    inside[(slice(None), *where)] = values


def _probabilities(
    logits: NDArray[Any], trace: Trace, scheme: LabelScheme, axis: int, wanted: slice
) -> NDArray[np.float32]:
    """Return the probabilities of the crop, but for ``axis`` only the ``wanted`` planes, in prepared axis order."""
    bands = _bands(trace, axis, wanted)
    values = logits[(slice(None), *(band.source for band in bands))].astype(np.float32)
    for a in sorted(range(3), key=lambda a: bands[a].weights.shape[0] / bands[a].weights.shape[1]):
        values = np.moveaxis(np.tensordot(bands[a].weights, values, (1, a + 1)), 0, a + 1)
    if not np.isfinite(values).all():
        raise ModelError("The network gave logits that are not finite; use float32 precision or another checkpoint.")
    return _squashed(values, regions=scheme.has_regions)


def _bands(trace: Trace, axis: int, wanted: slice) -> list[Band]:
    """Return per prepared axis the operator to the cropped size, of ``axis`` the rows ``wanted`` only."""
    separate = find_separate_axis(trace.prepared_spacing_mm, trace.spacing_mm)
    bands = []
    for a, (small, large) in enumerate(zip(trace.prepared_shape, trace.cropped_shape, strict=True)):
        (band,) = operator_bands(small, large, 0 if a == separate else 1, large)
        if a == axis:
            rows = band.weights[wanted]
            used = np.flatnonzero(rows.any(axis=0))
            first, last = int(used[0]), int(used[-1]) + 1
            source = slice(band.source.start + first, band.source.start + last)
            band = Band(out=wanted, source=source, weights=np.ascontiguousarray(rows[:, first:last]))
        bands.append(band)
    return bands


def _squashed(values: NDArray[np.float32], *, regions: bool) -> NDArray[np.float32]:
    if regions:
        small = np.exp(-np.abs(values))  # of a non-positive number only: it cannot overflow
        return np.asarray(np.where(values >= 0, np.float32(1), small) / (1 + small), np.float32)
    result = np.exp(values - values.max(axis=0))
    return np.asarray(result / result.sum(axis=0), np.float32)
