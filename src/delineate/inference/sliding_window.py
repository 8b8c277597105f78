"""The sliding window: logits of a whole volume from networks that see tiles. Knows no files, plans or label names.

References
----------
Isensee et al., nnU-Net, Nature Methods 18 (2021), online methods "inference"; numbers as nnunetv2 2.8.1, except that
everything is summed in float32 where nnU-Net sums in float16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from delineate.errors import ResourceError, UsageError
from delineate.execution.progress import Cancellation, Progress, Silent
from delineate.inference.ensemble import Ensemble, make_ensemble
from delineate.inference.linear_head import HeadlessEnsemble, without_heads
from delineate.inference.logits_volume import LogitsDtype, MovingWindow, let_go, new_volume
from delineate.inference.mirroring import Flip, flip_sets, mirrored_mean
from delineate.inference.observer import Observer
from delineate.inference.tiling import Box, Index, Summed, TileGrid, Tiling, lay_tiles

LIMIT_BYTES = 2 * 2**30
"""Largest volume of logits that is kept in memory; a larger one goes to a temporary file."""

WINDOW_BYTES = 512 * 2**20
"""Largest window of unfinished planes that is kept in memory; of a larger one, in a temporary file, only the part under
the present tile is resident."""

SLAB_BYTES = 64 * 2**20
"""About how large a slab of finished logits is; one plane of it may be larger."""

VOXELS_PER_BATCH = {"cpu": 2**20, "cuda": 2**22}
"""About how many voxels a forward pass takes when no batch size is given."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EmptyTiles:
    """Tiles that need not be predicted because it is known without a network that they show nothing.

    A voxel's logits are the weighted mean over those tiles that see it and were predicted. Where no such tile is left,
    they are ``background``.
    """

    is_empty: Callable[[Box], bool]
    """Says of the box ``(z, y, x)`` of the prepared volume that a tile sees whether it is left out."""
    background: tuple[float, ...]
    """One logit per head."""


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
    """Return the logits of a prepared volume as one array; :func:`stream_logits` hands out the same in slabs.

    Parameters
    ----------
    networks, array, tiling, device, progress, cancellation
        As for :func:`stream_logits`.
    dtype
        Number format of the returned volume. Sums are float32 either way.
    limit_bytes
        A volume of logits larger than this becomes a memory-mapped temporary file that vanishes with the array; its
        pages are given back while it is filled, so resident memory stays near that of the window of unfinished tiles.

    Returns
    -------
    ndarray
        ``(head, z, y, x)`` of ``dtype`` on the grid of ``array``.

    Raises
    ------
    UsageError, ModelError, ResourceError, Interrupted
        As for :func:`stream_logits`.
    """
    slabs = stream_logits(
        networks,
        array,
        tiling,
        device=device,
        limit_bytes=min(limit_bytes, WINDOW_BYTES),
        progress=progress,
        cancellation=cancellation,
    )
    return gather_logits(slabs, array.shape[1:], dtype=dtype, limit_bytes=limit_bytes)


def gather_logits(
    slabs: Iterable[NDArray[Any]],
    shape: Sequence[int],
    *,
    dtype: LogitsDtype = "float32",
    limit_bytes: int = LIMIT_BYTES,
) -> NDArray[Any]:
    """Return the slabs of :func:`stream_logits` as one array.

    Parameters
    ----------
    slabs
        ``(head, planes, y, x)`` each, consecutive along z.
    shape
        ``(z, y, x)`` of the whole volume.
    dtype, limit_bytes
        As for :func:`predict_logits`.

    Returns
    -------
    ndarray
        ``(head, z, y, x)`` of ``dtype``.

    Raises
    ------
    ResourceError
        If neither memory nor the temporary folder can hold the volume.
    """
    volume, plane = np.empty(0), 0
    for slab in slabs:
        if plane == 0:
            volume = new_volume((len(slab), *shape), dtype, limit_bytes)
        volume[:, plane : plane + slab.shape[1]] = slab
        plane += slab.shape[1]
        let_go(volume)
    return volume


def stream_logits(  # noqa: PLR0913 - one keyword per choice of a prediction
    networks: Sequence[nn.Module] | Ensemble,
    array: NDArray[Any],
    tiling: Tiling,
    *,
    device: torch.device | str = "cpu",
    limit_bytes: int = WINDOW_BYTES,
    skip: EmptyTiles | None = None,
    observer: Observer | None = None,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Hand out the logits of a prepared volume from its first plane to its last, each slab as soon as it is finished.

    The logits are the mean over networks and flips and the weighted mean over tiles. Only the planes that a later tile
    may still touch are kept, at most as many as the patch has.

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
    limit_bytes
        A window of unfinished planes larger than this becomes a memory-mapped temporary file.
    skip
        Which tiles need not be predicted; None: every tile is.
    observer
        Who looks at the networks' answers (:func:`delineate.inference.observer.observed`, of this very ensemble); the
        logits are then summed, never the features.
    progress
        Told of every tile; None: nobody watches.
    cancellation
        Looked at between batches; None: never stopped.

    Yields
    ------
    ndarray
        ``(head, planes, y, x)`` float32: the next planes along z, at least one. The array is the caller's.

    Raises
    ------
    UsageError
        If the array does not have four axes, or no network is given.
    ModelError
        If a network gives NaN or infinite logits.
    ResourceError
        If memory does not suffice for a single tile, or the disk not for the window.
    Interrupted
        If a stop was requested.
    """
    if len(array.shape) != 4:
        raise UsageError(f"The volume to predict must be (channel, z, y, x); got shape {tuple(array.shape)}.")
    if not isinstance(networks, Ensemble):
        channels_last = tiling.channels_last
        networks = make_ensemble(networks, device=device, precision=tiling.precision, channels_last=channels_last)
    window = _Window(networks, array, tiling, skip, observer)
    return _run(window, limit_bytes, progress or Silent(), cancellation or Cancellation())


class _Window:
    """A volume, its tiles and the networks; shrinks its batch when memory runs out."""

    def __init__(
        self,
        ensemble: Ensemble,
        array: NDArray[Any],
        tiling: Tiling,
        skip: EmptyTiles | None,
        observer: Observer | None,
    ) -> None:
        self.device, self.array, self.grid, self.skip = ensemble.device, array, lay_tiles(array.shape[1:], tiling), skip
        self.observer = observer
        self.headless = _headless(ensemble, tiling.summed if observer is None else "logits")
        self.forward: Callable[[Tensor], Tensor] = self.headless or (observer.ensemble if observer else ensemble)
        self.planar = tiling.dims == 2
        self.flips: tuple[Flip, ...] = flip_sets(tiling.mirror_axes)
        self.batch = tiling.batch_size or automatic_batch(self.grid.patch, ensemble.device)

    @property
    def tiles_at_once(self) -> int:
        return max(1, self.batch // len(self.flips))

    def tiles(self) -> list[Index]:
        """Return the tiles that are to be predicted, z slowest."""
        if self.skip is None:
            return list(self.grid)
        return [tile for tile in self.grid if not self.skip.is_empty(self.grid.boxes(tile)[0])]

    def first_plane(self, tile: Index) -> int:
        along_z, *_ = self.grid.boxes(tile)[0]
        return int(along_z.start)

    def predict(self, tiles: Sequence[Index]) -> Tensor:
        """Return what is summed ``(T, channel, *patch)`` of some tiles, three patch axes also for planar networks."""
        batch = torch.from_numpy(np.stack([cut_tile(self.array, self.grid, tile) for tile in tiles]))
        announce = None
        if self.observer is not None:
            self.observer.begin(self.grid, tiles, len(self.flips))
            announce = self.observer.next
        with torch.inference_mode():
            if self.planar:
                return mirrored_mean(self.forward, batch.squeeze(2), self.flips, self.batch, announce).unsqueeze(2)
            return mirrored_mean(self.forward, batch, self.flips, self.batch, announce)

    def logits(self, sums: Tensor, weights: Tensor | None) -> NDArray[np.float32]:
        """Return the logits ``(head, plane, y, x)`` of finished sums ``(plane, y, x, channel)``."""
        rows = sums.flatten(0, 2)
        with torch.inference_mode():
            if weights is not None:
                rows = rows / weights.reshape(-1, 1).clamp_min(torch.finfo(torch.float32).tiny)
            logits = rows.T.contiguous() if self.headless is None else self.headless.logits(rows)
            if weights is not None and self.skip is not None:
                background = torch.tensor(self.skip.background, dtype=torch.float32, device=logits.device)
                logits = torch.where(weights.flatten() > 0, logits, background[:, None])
        return logits.reshape(-1, *sums.shape[:3]).cpu().numpy()

    def open(self, channels: int, limit_bytes: int, *, holes: bool) -> MovingWindow:
        return MovingWindow(self.grid, channels, device=self.device, limit_bytes=limit_bytes, holes=holes)

    def finished(self, sums: MovingWindow, before: int) -> Iterator[NDArray[np.float32]]:
        """Hand out the logits of the planes that no tile from plane ``before`` on touches."""
        heads = sums.channels if self.headless is None else self.headless.heads
        most = max(1, SLAB_BYTES // (4 * heads * math.prod(self.grid.shape[1:])))
        for planes, weights in sums.finished(before, most):
            yield self.logits(planes, weights)

    def nothing(self) -> Iterator[NDArray[np.float32]]:
        """Hand out the logits of a volume of which no tile was predicted."""
        background = np.array(self.skip.background if self.skip else (), np.float32).reshape(-1, 1, 1, 1)
        for _ in range(self.grid.shape[0]):
            yield np.broadcast_to(background, (len(background), 1, *self.grid.shape[1:]))

    def shrink(self, error: Exception) -> None:
        """Halve the batch after memory ran out; any other error goes on its way."""
        if not is_out_of_memory(error):
            raise error
        if self.batch == 1:
            raise ResourceError(
                f"Memory on {self.device} does not suffice for one tile of {self.grid.patch} voxels. "
                "Close other programs, predict with `bfloat16`, on the CPU, or with a model of a smaller patch."
            ) from error
        self.batch //= 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _headless(ensemble: Ensemble, summed: Summed) -> HeadlessEnsemble | None:
    """Return the ensemble taken apart if its features are to be summed, else None."""
    if summed == "logits":
        return None
    headless = without_heads(ensemble)
    if headless is None and summed == "features":
        raise UsageError("Features can only be summed of networks that end in a layer of 1x1 convolutions.")
    if headless is None or (summed == "auto" and headless.heads <= headless.features):
        return None
    return headless


def _run(
    window: _Window, limit_bytes: int, progress: Progress, cancellation: Cancellation
) -> Iterator[NDArray[np.float32]]:
    tiles = window.tiles()
    sums: MovingWindow | None = None
    progress.start("predict", len(tiles))
    done = 0
    while done < len(tiles):
        cancellation.check()
        group = tiles[done : done + window.tiles_at_once]
        try:
            values = window.predict(group)
        except (MemoryError, RuntimeError) as error:
            window.shrink(error)
            continue
        sums = sums or window.open(values.shape[1], limit_bytes, holes=len(tiles) < len(window.grid))
        for position, tile in enumerate(group):
            yield from window.finished(sums, window.first_plane(tile))
            sums.add(tile, values[position])
        del values  # not needed while the slabs are worked on, and large
        done += len(group)
        progress.advance(len(group))
        yield from window.finished(sums, window.first_plane(tiles[done]) if done < len(tiles) else window.grid.shape[0])
    progress.finish()
    if sums is None:
        yield from window.nothing()


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
