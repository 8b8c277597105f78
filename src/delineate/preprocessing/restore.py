"""From logits on the prepared grid back to labels on the image's own grid.

The result is that of resampling every head to full resolution and taking the largest, as nnU-Net does, but no head is
ever held at full resolution. The logits may come in slabs along the prepared z axis; as soon as all planes that some
output planes read are there, those are settled, and planes that nothing reads any more are forgotten. The grid is
worked through in tiles. Interpolated values lie between the smallest and the
largest logit that a tile reads, so a head whose largest is below another head's smallest cannot win anywhere in the
tile and is left out; most tiles are settled by this alone. Peak memory does not grow with the number of heads.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from delineate.case.image import LabelMap
from delineate.case.labels import LabelScheme
from delineate.case.prepared import Trace
from delineate.errors import ModelError
from delineate.geometry.crop import crop
from delineate.geometry.resample import Band, find_separate_axis, operator_bands

RestoreMode = Literal["exact", "nnunet"]
"""``exact``: float32 arithmetic. ``nnunet``: interpolated logits are rounded to float16 before they are compared, as
nnU-Net stores them; this changes about 5 of 10 000 voxels on noisy logits."""

TILE_EDGES = {32: 32, 16: 32, 8: 64, 4: 64, 2: 128, 1: 128}
"""Voxels of a tile of the full-resolution grid: along z, and the edge that goes with it along y and x."""
TILE_VOXELS = 32**3
"""Most voxels of a tile."""
SOURCE_BYTES = 128 * 2**20
"""About how many bytes of logits the tiles of one row along z may read, so that memory does not grow with the heads;
where the planes are large, the tiles are therefore flat."""
ROUNDING_MARGIN = {"exact": 2.0**-20, "nnunet": 2.0**-9}
"""Relative safety of the comparison that leaves heads out; covers the rounding of the interpolated values."""
FEW_VALUES = 255
"""With fewer foreground labels than this the label map is uint8, else uint16 (nnU-Net)."""
SIGN_BITS = 0x7FFF
NOT_FINITE = "The network gave logits that are not finite; use float32 precision or another checkpoint."


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Tile:
    """A tile of the cropped grid: the bands along (z, y, x) and the heads that may win in it."""

    bands: tuple[Band, ...]
    heads: NDArray[np.intp]

    @property
    def out(self) -> tuple[slice, ...]:
        return tuple(band.out for band in self.bands)


def restore_labels(logits: NDArray[Any], trace: Trace, scheme: LabelScheme, *, mode: RestoreMode = "exact") -> LabelMap:
    """Return the label map that the logits say, on the original grid.

    Parameters
    ----------
    logits
        (head, z, y, x) float16 or float32 on the prepared grid, an array or a memory map.
    trace
        How the prepared grid came about.
    scheme
        Label mode: the largest head wins, the lower one on a tie. Region mode: heads above 0 (probability above one
        half) are written in ``region_order``, later over earlier.
    mode
        See :data:`RestoreMode`.

    Returns
    -------
    LabelMap
        (z, y, x) or (y, x) uint8 or uint16; 0 outside the crop.

    Raises
    ------
    ModelError
        If the logits do not fit trace and scheme, or are not finite.
    """
    return restore_stream((_checked(logits, trace, scheme),), trace, scheme, mode=mode)


def restore_stream(
    slabs: Iterable[NDArray[Any]], trace: Trace, scheme: LabelScheme, *, mode: RestoreMode = "exact"
) -> LabelMap:
    """Return the label map that logits say which come slab by slab; the labels are those of :func:`restore_labels`.

    Parameters
    ----------
    slabs
        (head, planes, y, x) float16 or float32 each, consecutive along the prepared z axis; together they are the
        prepared volume. Each is taken when it is needed and let go when it is worked off.
    trace, scheme, mode
        As for :func:`restore_labels`.

    Returns
    -------
    LabelMap
        (z, y, x) or (y, x) uint8 or uint16; 0 outside the crop.

    Raises
    ------
    ModelError
        If the logits do not fit trace and scheme, or are not finite.
    """
    values = _values(scheme)
    result = np.zeros(_lifted_shape(trace), values.dtype)
    inside = crop(result.transpose(trace.transpose), trace.box)
    workspace = _Workspace(mode=mode, regions=scheme.has_regions)
    checked = _checked_slabs(slabs, trace, scheme)
    if tuple(trace.prepared_shape) == trace.cropped_shape:
        for plane, heads in enumerate(_planes(checked)):
            inside[plane] = workspace.settle_plane(heads, values)
    else:
        for slab, tile in _tiles(checked, trace, scheme, workspace):
            inside[tile.out] = workspace.settle(slab, tile, values)
    return LabelMap(array=result[0] if trace.is_plane else result, grid=trace.grid, scheme=scheme)


def restore_probabilities(logits: NDArray[Any], trace: Trace, scheme: LabelScheme) -> NDArray[np.float32]:
    """Return the probability of every head on the original grid.

    Parameters
    ----------
    logits, trace, scheme
        As for :func:`restore_labels`.

    Returns
    -------
    NDArray
        (head, z, y, x) or (head, y, x) float32: softmax over the heads (label mode) or the sigmoid of each (region
        mode). Outside the crop the background head is 1 (label mode) or all are 0 (region mode).

    Raises
    ------
    ModelError
        If the logits do not fit trace and scheme, or are not finite.
    """
    logits = _checked(logits, trace, scheme)
    result = np.zeros((logits.shape[0], *_lifted_shape(trace)), np.float32)
    if not scheme.has_regions:
        result[0] = 1
    inside = crop(result.transpose(0, *(axis + 1 for axis in trace.transpose)), trace.box)
    squash = _sigmoid if scheme.has_regions else _softmax
    everything = np.arange(logits.shape[0])
    for bands in itertools.product(*_axis_bands(trace)):
        tile = _Tile(bands=bands, heads=everything)
        with np.errstate(invalid="ignore"):  # told as an error, in the next line
            values = _upsampled(logits[:, tile.bands[0].source], tile)
        if not np.isfinite(values).all():
            raise ModelError(NOT_FINITE)
        inside[(slice(None), *tile.out)] = squash(values)
    return result[:, 0] if trace.is_plane else result


def _checked(logits: NDArray[Any], trace: Trace, scheme: LabelScheme) -> NDArray[Any]:
    expected = (scheme.head_count, *trace.prepared_shape)
    if logits.shape != expected or logits.dtype not in (np.float16, np.float32):
        raise _misfit(expected, f"{logits.shape} {logits.dtype}")
    return np.asarray(logits)


def _misfit(expected: tuple[int, ...], found: str) -> ModelError:
    return ModelError(
        f"Logits of shape {expected}, float16 or float32, were expected for this case; got {found}. The model does not "
        "belong to this plan and label scheme."
    )


def _values(scheme: LabelScheme) -> NDArray[Any]:
    """Return the label value written for each rank: heads in label mode, 0 and then the regions in region mode."""
    dtype = np.uint8 if len(scheme.values) < FEW_VALUES else np.uint16
    return np.array((0, *(scheme.region_order or scheme.values)) if scheme.has_regions else (0, *scheme.values), dtype)


def _lifted_shape(trace: Trace) -> tuple[int, ...]:
    return (1, *trace.grid.shape) if trace.is_plane else trace.grid.shape


def _axis_bands(trace: Trace, rows: int = max(TILE_EDGES)) -> tuple[tuple[Band, ...], ...]:
    """Return per axis the blocks of the operator from prepared to cropped size: linear, or nearest where separate.

    The blocks are ``rows`` output voxels long along z and :data:`TILE_EDGES` along y and x.
    """
    separate = find_separate_axis(trace.prepared_spacing_mm, trace.spacing_mm)
    lengths = (rows, TILE_EDGES[rows], TILE_EDGES[rows])
    return tuple(
        operator_bands(small, large, 0 if axis == separate else 1, lengths[axis])
        for axis, (small, large) in enumerate(zip(trace.prepared_shape, trace.cropped_shape, strict=True))
    )


def _rows_at_once(trace: Trace, heads: int) -> int:
    """Return how many output planes to settle together: few enough that what they read stays small."""
    small, y, x = trace.prepared_shape
    planes = SOURCE_BYTES // (4 * heads * y * x)
    fitting = [rows for rows in TILE_EDGES if math.ceil(rows * small / trace.cropped_shape[0]) + 1 <= planes]
    return max(fitting, default=min(TILE_EDGES))


def _tiles(
    slabs: Iterator[NDArray[Any]], trace: Trace, scheme: LabelScheme, workspace: _Workspace
) -> Iterator[tuple[NDArray[Any], _Tile]]:
    """Yield every tile with the slab of logits (head, z, y, x) that its z band reads."""
    bands_z, bands_y, bands_x = _axis_bands(trace, _rows_at_once(trace, scheme.head_count))
    for z, slab in _bands_with_sources(slabs, bands_z):
        possible = workspace.possible_heads(slab, bands_y, bands_x)
        for i, y in enumerate(bands_y):
            for j, x in enumerate(bands_x):
                yield slab, _Tile(bands=(z, y, x), heads=np.flatnonzero(possible[:, i, j]))
        del slab  # before the next one is made


def _checked_slabs(slabs: Iterable[NDArray[Any]], trace: Trace, scheme: LabelScheme) -> Iterator[NDArray[Any]]:
    """Hand on slabs that fit; together they must be the prepared volume."""
    planes = 0
    expected = (scheme.head_count, *trace.prepared_shape)
    for slab in slabs:
        planes += slab.shape[1] if slab.ndim == 4 else 0
        fits = slab.ndim == 4 and (slab.shape[0], *slab.shape[2:]) == (expected[0], *expected[2:])
        if not fits or planes > expected[1] or slab.dtype not in (np.float16, np.float32):
            raise _misfit(expected, f"a slab of shape {slab.shape} {slab.dtype} that ends at plane {planes}")
        yield slab
    if planes != expected[1]:
        raise _misfit(expected, f"slabs of {planes} planes")


def _planes(slabs: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """Yield the planes of slabs, (head, y, x) each."""
    for slab in slabs:
        yield from slab.swapaxes(0, 1)


def _bands_with_sources(slabs: Iterator[NDArray[Any]], bands: tuple[Band, ...]) -> Iterator[tuple[Band, NDArray[Any]]]:
    """Yield the bands along z, each with the planes (head, z, y, x) that it reads; take slabs no sooner than needed."""
    held: list[NDArray[Any]] = []
    first = stop = 0
    for band, following in itertools.zip_longest(bands, bands[1:]):
        while stop < band.source.stop:
            # too few slabs are told by their own iterator, as an error
            held.append(next(slabs))
            stop += held[-1].shape[1]
            first = _forget(held, first, band.source.start)
        yield band, _joined(held, band.source.start - first, band.source.stop - first)
        first = _forget(held, first, stop if following is None else following.source.start)
    for _ in slabs:  # planes that nothing reads; the checks at the end are wanted
        pass


def _forget(held: list[NDArray[Any]], first: int, needed: int) -> int:
    """Let go of leading slabs that end before plane ``needed``; return the first plane that is still held."""
    while held and first + held[0].shape[1] <= needed:
        first += held.pop(0).shape[1]
    return first


def _joined(held: list[NDArray[Any]], start: int, stop: int) -> NDArray[Any]:
    """Return planes ``start`` to ``stop`` of slabs that lie behind one another: a view if they are of one slab."""
    parts = []
    for slab in held:
        if start < slab.shape[1] and stop > 0:
            parts.append(slab[:, max(0, start) : stop])
        start, stop = start - slab.shape[1], stop - slab.shape[1]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


class _Workspace:
    """Settles tiles; holds the buffers that one tile after the other uses."""

    def __init__(self, *, mode: RestoreMode, regions: bool) -> None:
        self._mode = mode
        self._regions = regions
        size = TILE_VOXELS
        self._values = np.empty(size, np.float32)
        self._best = np.empty(size, np.float32)
        self._better = np.empty(size, bool)

    def possible_heads(
        self, slab: NDArray[Any], bands_y: tuple[Band, ...], bands_x: tuple[Band, ...]
    ) -> NDArray[np.bool_]:
        """Return (head, tile row, tile column) bool: whether the head may win a voxel of the tile."""
        lowest, highest = _bounds(slab, bands_y, bands_x)
        if not (np.isfinite(lowest).all() and np.isfinite(highest).all()):
            raise ModelError(NOT_FINITE)
        if self._regions:
            above: NDArray[np.bool_] = highest > 0
            return above
        surest = lowest.max(axis=0)
        margin = ROUNDING_MARGIN[self._mode] * np.maximum(np.abs(highest), np.abs(surest))
        possible: NDArray[np.bool_] = highest >= surest - margin
        return possible

    def settle(self, slab: NDArray[Any], tile: _Tile, values: NDArray[Any]) -> Any:
        """Return the labels of a tile, (z, y, x) of the dtype of ``values``, or a scalar if they are all alike."""
        if tile.heads.size == 0:
            return values[0]
        if tile.heads.size == 1 and not self._regions:
            return values[tile.heads[0]]
        flat = _upsampled_in_plane(slab, tile)
        shape = tuple(band.out.stop - band.out.start for band in tile.bands)
        weights = tile.bands[0].weights
        ranks = self._ranks(flat, len(weights) * flat.shape[2], weights)
        table = values[np.concatenate([[0], tile.heads + 1])] if self._regions else values[tile.heads]
        return table.take(ranks).reshape(shape)

    def settle_plane(self, heads: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
        """Return the labels (y, x) of a plane (head, y, x) that lies on the cropped grid already."""
        flat = heads.reshape(len(heads), -1)
        labels = np.empty(flat.shape[1], values.dtype)
        with np.errstate(invalid="ignore"):  # told as an error, in the next line
            finite = np.isfinite(flat.sum(dtype=np.float32))
        if not finite:
            raise ModelError(NOT_FINITE)
        for start in range(0, len(labels), TILE_VOXELS):
            part = flat[:, start : start + TILE_VOXELS]
            labels[start : start + TILE_VOXELS] = values.take(self._ranks(part, part.shape[1], None))
        return labels.reshape(heads.shape[1:])

    def _ranks(self, heads: NDArray[Any], count: int, weights: NDArray[np.float32] | None) -> NDArray[Any]:
        """Return for ``count`` voxels the winner's position among the heads (regions: plus one, 0 for none).

        The heads are (source z, y * x) each and still to be resampled along z with the weights, or one row of values.
        """
        value, best, better = self._values[:count], self._best[:count], self._better[:count]
        ranks = np.zeros(count, np.uint8 if len(heads) < 256 else np.uint16)
        step = np.empty_like(ranks)
        best[:] = 0 if self._regions else -np.inf
        for rank, head in enumerate(heads, start=1 if self._regions else 0):
            if weights is None:
                value[:] = head
            else:
                np.matmul(weights, head, out=value.reshape(len(weights), -1))
            if self._mode == "nnunet":
                value[:] = value.astype(np.float16)
            np.greater(value, best, out=better)
            if not self._regions:
                np.maximum(best, value, out=best)
            # ranks ascend, so the larger of old and new rank is the new one wherever the head is better
            np.multiply(better.view(np.uint8), ranks.dtype.type(rank), out=step)
            np.maximum(ranks, step, out=ranks)
        return ranks


def _upsampled_in_plane(slab: NDArray[Any], tile: _Tile) -> NDArray[np.float32]:
    """Return the heads of a tile resampled along y and x: (head, source z, y * x) float32."""
    _, y, x = tile.bands
    block = slab[tile.heads, :, y.source, x.source].astype(np.float32, copy=False)
    wide = np.matmul(block, x.weights.T)
    full: NDArray[np.float32] = np.matmul(y.weights, wide)
    return full.reshape(*full.shape[:2], -1)


def _upsampled(slab: NDArray[Any], tile: _Tile) -> NDArray[np.float32]:
    """Return the heads of a tile at full resolution: (head, z, y, x) float32."""
    flat: NDArray[np.float32] = np.matmul(tile.bands[0].weights, _upsampled_in_plane(slab, tile))
    return flat.reshape(len(flat), *(band.out.stop - band.out.start for band in tile.bands))


def _bounds(
    slab: NDArray[Any], bands_y: tuple[Band, ...], bands_x: tuple[Band, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the smallest and largest logit that each tile of the slab reads, (head, tile row, tile column) each."""
    lowest = np.empty((len(slab), *slab.shape[2:]), np.float32)
    highest = np.empty_like(lowest)
    for head, low, high in zip(slab, lowest, highest, strict=True):
        low[...], high[...] = _extremes(head)
    return _reduced(np.minimum, lowest, bands_y, bands_x), _reduced(np.maximum, highest, bands_y, bands_x)


def _extremes(head: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return smallest and largest along z; float16 is compared as integers of the same order, which is far faster."""
    if head.dtype != np.float16:
        return head.min(axis=0), head.max(axis=0)
    keys = _ordered(np.ascontiguousarray(head).view(np.int16))
    return _ordered(keys.min(axis=0)).view(np.float16), _ordered(keys.max(axis=0)).view(np.float16)


def _ordered(bits: NDArray[np.int16]) -> NDArray[np.int16]:
    """Map float16 bit patterns to integers of the same order, and back: negative numbers are counted downwards."""
    flipped = bits >> 15
    flipped &= SIGN_BITS
    flipped ^= bits
    return flipped


def _reduced(
    pick: np.ufunc, extremes: NDArray[np.float32], bands_y: tuple[Band, ...], bands_x: tuple[Band, ...]
) -> NDArray[np.float32]:
    rows = np.stack([pick.reduce(extremes[:, band.source], axis=1) for band in bands_y], axis=1)
    return np.stack([pick.reduce(rows[:, :, band.source], axis=2) for band in bands_x], axis=2)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = np.exp(logits - logits.max(axis=0))
    result /= result.sum(axis=0)
    return result


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    # exp of a non-positive number only: it cannot overflow
    small = np.exp(-np.abs(logits))
    result: NDArray[np.float32] = np.where(logits >= 0, np.float32(1), small)
    result /= 1 + small
    return result
