"""The sliding window: logits of a whole volume from networks that see tiles. Knows no files, plans or label names.

References
----------
Isensee et al., nnU-Net, Nature Methods 18 (2021), online methods "inference"; numbers as nnunetv2 2.8.1, except that
everything is summed in float32 where nnU-Net sums in float16.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from delineate.errors import ResourceError, UsageError
from delineate.execution.progress import Cancellation, Progress, Silent
from delineate.inference.ensemble import Ensemble, make_ensemble
from delineate.inference.logits_volume import Filling, LogitsDtype, start_filling
from delineate.inference.mirroring import Flip, flip_sets, mirrored_mean
from delineate.inference.tiling import Index, TileGrid, Tiling, lay_tiles

LIMIT_BYTES = 2 * 2**30
"""Largest volume of logits that is kept in memory; a larger one goes to a temporary file."""

VOXELS_PER_BATCH = {"cpu": 2**20, "cuda": 2**22}
"""About how many voxels a forward pass takes when no batch size is given."""


def predict_logits(
    networks: Sequence[nn.Module] | Ensemble,
    array: NDArray[Any],
    tiling: Tiling,
    *,
    device: torch.device | str = "cpu",
    dtype: LogitsDtype = "float32",
    limit_bytes: int = LIMIT_BYTES,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> NDArray[Any]:
    """Return the logits of a prepared volume: mean over networks and flips, weighted mean over tiles.

    Parameters
    ----------
    networks
        Networks ``(B, C, *patch)`` to logits ``(B, head, *patch)``; those with deep supervision answer with their
        highest resolution. They are not changed. For many cases make the :class:`Ensemble` once
        (:func:`~delineate.inference.ensemble.make_ensemble`); device, precision and layout are then the ensemble's.
    array
        ``(channel, z, y, x)`` float, normalised and on the network's spacing; anything that can be sliced so and has a
        ``shape`` (a memory map, a prepared case) is read tile by tile.
    tiling
        Patch, overlap, mirroring, batch, precision. A patch of two axes runs plane by plane.
    device
        Where the networks run.
    dtype
        Number format of the returned volume. Sums are float32 either way as long as the window fits ``limit_bytes``.
    limit_bytes
        A volume of logits larger than this becomes a memory-mapped temporary file that vanishes with the array; its
        pages are given back while it is filled, so resident memory stays near that of one row of tiles.
    progress
        Told of every tile; None: nobody watches.
    cancellation
        Looked at between batches; None: never stopped.

    Returns
    -------
    ndarray
        ``(head, z, y, x)`` of ``dtype`` on the grid of ``array``.

    Raises
    ------
    UsageError
        If the array does not have four axes, or no network is given.
    ModelError
        If a network gives NaN or infinite logits.
    ResourceError
        If memory does not suffice for a single tile, or the disk not for the logits.
    Interrupted
        If a stop was requested.
    """
    if len(array.shape) != 4:
        raise UsageError(f"The volume to predict must be (channel, z, y, x); got shape {tuple(array.shape)}.")
    if not isinstance(networks, Ensemble):
        channels_last = tiling.channels_last
        networks = make_ensemble(networks, device=device, precision=tiling.precision, channels_last=channels_last)
    grid = lay_tiles(array.shape[1:], tiling)
    window = _Window(networks, array, tiling, grid)
    with torch.inference_mode():
        return _run(window, dtype, limit_bytes, progress or Silent(), cancellation or Cancellation())


class _Window:
    """A volume, its tiles and the networks; shrinks its batch when memory runs out."""

    def __init__(self, ensemble: Ensemble, array: NDArray[Any], tiling: Tiling, grid: TileGrid) -> None:
        self.ensemble, self.array, self.grid = ensemble, array, grid
        self.planar = tiling.dims == 2
        self.flips: tuple[Flip, ...] = flip_sets(tiling.mirror_axes)
        self.batch = tiling.batch_size or automatic_batch(grid.patch, ensemble.device)

    @property
    def tiles_at_once(self) -> int:
        return max(1, self.batch // len(self.flips))

    def predict(self, tiles: Sequence[Index]) -> Tensor:
        """Return the logits ``(T, head, *patch)`` of some tiles, three patch axes also for planar networks."""
        batch = torch.from_numpy(np.stack([cut_tile(self.array, self.grid, tile) for tile in tiles]))
        if self.planar:
            return mirrored_mean(self.ensemble, batch.squeeze(2), self.flips, self.batch).unsqueeze(2)
        return mirrored_mean(self.ensemble, batch, self.flips, self.batch)

    def shrink(self, error: Exception) -> None:
        """Halve the batch after memory ran out; any other error goes on its way."""
        if not is_out_of_memory(error):
            raise error
        if self.batch == 1:
            raise ResourceError(
                f"Memory on {self.ensemble.device} does not suffice for one tile of {self.grid.patch} voxels. "
                "Close other programs, predict with `bfloat16`, on the CPU, or with a model of a smaller patch."
            ) from error
        self.batch //= 2
        if self.ensemble.device.type == "cuda":
            torch.cuda.empty_cache()


def _run(
    window: _Window, dtype: LogitsDtype, limit_bytes: int, progress: Progress, cancellation: Cancellation
) -> NDArray[Any]:
    tiles = list(window.grid)
    filling: Filling | None = None
    progress.start("predict", len(tiles))
    done = 0
    while done < len(tiles):
        cancellation.check()
        group = tiles[done : done + window.tiles_at_once]
        try:
            logits = window.predict(group)
        except (MemoryError, RuntimeError) as error:
            window.shrink(error)
            continue
        filling = filling or start_filling(window.grid, logits.shape[1], dtype, logits.device, limit_bytes)
        for tile, values in zip(group, logits, strict=True):
            filling.add(tile, values)
        done += len(group)
        progress.advance(len(group))
    progress.finish()
    if filling is None:
        raise UsageError(f"There are no tiles to predict; the volume is {window.grid.shape}.")
    return filling.finish()


def cut_tile(array: NDArray[Any], grid: TileGrid, tile: Index) -> NDArray[np.float32]:
    """Return one tile ``(channel, *patch)`` float32 of a ``(channel, z, y, x)`` volume, zeros in the padding."""
    outside, inside = grid.boxes(tile)
    part = np.asarray(array[(slice(None), *outside)], dtype=np.float32)
    if part.shape[1:] == grid.patch:
        return part
    padded = np.zeros((part.shape[0], *grid.patch), np.float32)
    padded[(slice(None), *inside)] = part
    return padded


def automatic_batch(patch: Sequence[int], device: torch.device) -> int:
    """Return how many tiles of a patch to predict at once: enough to be busy, few enough to stay in the caches."""
    voxels = VOXELS_PER_BATCH.get(device.type, VOXELS_PER_BATCH["cpu"])
    return max(1, voxels // math.prod(patch))


def is_out_of_memory(error: Exception) -> bool:
    """Say whether an error means that memory on the host or the device ran out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)
