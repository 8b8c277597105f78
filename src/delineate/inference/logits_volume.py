"""Where the answers of tiles are summed: a window along z that hands out planes as soon as they are finished.

The window is as thick as a patch and holds ``(plane, y, x, channel)`` float32, a ring along z. A plane is finished when
no later tile touches it; it is then handed out and its place used again, so memory does not depend on the length of
the scan. The window lies on the networks' device while that has room, else in memory, else in a temporary file. Knows
no networks.
"""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from delineate.errors import ResourceError
from delineate.inference.tiling import Index, TileGrid
from delineate.networks.weighted_sum import add_weighted

LogitsDtype = Literal["float32", "float16"]

DEVICE_SHARE = 4
"""A window on a GPU may take at most one part in so many of the free memory; the rest is the network's."""


class MovingWindow:
    """The sums of the tiles that are not finished yet.

    Parameters
    ----------
    grid
        The tiles; they come in its order, z slowest.
    channels
        Logits or features per voxel.
    device
        Where the networks run.
    limit_bytes
        A larger window lies in a temporary file.
    holes
        Whether tiles may be left out; the window then also sums the weights and divides by them.

    Raises
    ------
    ResourceError
        If neither memory nor the temporary folder can hold the window.
    """

    def __init__(
        self, grid: TileGrid, channels: int, *, device: torch.device, limit_bytes: int, holes: bool = False
    ) -> None:
        self.channels = channels
        self._grid = grid
        self._depth = min(grid.patch[0], grid.shape[0])
        shape = (self._depth, *grid.shape[1:], channels)
        self._file: NDArray[Any] | None = None
        if device.type != "cpu" and math.prod(shape) * 4 <= _device_limit(device, limit_bytes):
            self._sums = torch.zeros(shape, dtype=torch.float32, device=device)
        else:
            self._file = new_volume(shape, "float32", limit_bytes)
            self._sums = torch.from_numpy(self._file)
        self._weights = torch.zeros(shape[:3], dtype=torch.float32, device=self._sums.device) if holes else None
        self._first = 0

    def add(self, tile: Index, values: Tensor) -> None:
        """Add the answer ``(channel, *patch)`` of one tile, weighed."""
        (in_z, in_y, in_x), (of_z, of_y, of_x) = self._grid.boxes(tile)
        whole_z, whole_plane = self._grid.plane_weight(tile)
        along_z, in_plane = torch.from_numpy(whole_z[of_z]), torch.from_numpy(whole_plane[of_y, of_x])
        answer = values[:, of_z, of_y, of_x]
        for part, planes in self._stretches(in_z):
            add_weighted(self._sums[planes, in_y, in_x], answer[:, part], along_z[part], in_plane)
            if self._weights is not None:
                self._weights[planes, in_y, in_x] += (along_z[part, None, None] * in_plane).to(self._weights)
        if self._file is not None:
            let_go(self._file)

    def _stretches(self, planes: slice) -> Iterator[tuple[slice, slice]]:
        """Cut planes of the volume where the ring closes; yield which of them, and where they lie in the ring."""
        done = planes.start
        while done < planes.stop:
            place = done % self._depth
            count = min(planes.stop - done, self._depth - place)
            yield slice(done - planes.start, done - planes.start + count), slice(place, place + count)
            done += count

    def finished(self, before: int, most: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Hand out the planes up to ``before``, at most ``most`` at a time, and forget them.

        Yields
        ------
        tuple
            ``(plane, y, x, channel)`` float32, valid until the next step, and where tiles were left out the sum of the
            weights ``(plane, y, x)``, which the first is not yet divided by; else None.
        """
        while self._first < before:
            place = self._first % self._depth
            count = min(most, before - self._first, self._depth - place)
            planes = slice(place, place + count)
            yield self._sums[planes], None if self._weights is None else self._weights[planes]
            self._sums[planes] = 0
            if self._weights is not None:
                self._weights[planes] = 0
            self._first += count
            if self._file is not None:
                let_go(self._file)


def new_volume(shape: tuple[int, ...], dtype: LogitsDtype, limit_bytes: int) -> NDArray[Any]:
    """Return zeros of ``shape``: an array, or beyond ``limit_bytes`` a memory-mapped temporary file.

    The file has no name any more (on POSIX) and vanishes when the array does. It lies in the folder for temporary files
    (``TMPDIR``); a folder that itself lives in memory saves none.

    Raises
    ------
    ResourceError
        If neither memory nor the temporary folder can hold the volume.
    """
    needed = math.prod(shape) * np.dtype(dtype).itemsize
    try:
        return np.zeros(shape, dtype) if needed <= limit_bytes else _mapped_volume(shape, dtype, needed)
    except (MemoryError, OSError) as error:
        raise ResourceError(
            f"The logits {shape} {dtype} need {needed / 2**30:.1f} GiB, which {tempfile.gettempdir()} cannot hold. "
            "Free space there, point TMPDIR to a larger disk, or store the logits in float16."
        ) from error


def _mapped_volume(shape: tuple[int, ...], dtype: LogitsDtype, needed: int) -> NDArray[Any]:
    with tempfile.TemporaryFile(prefix="delineate-logits-") as file:
        _reserve(file, needed)
        return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def _reserve(file: IO[bytes], needed: int) -> None:
    """Take the space now: a full disk found while writing to a map would kill the process instead of raising."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, needed)
        return
    if shutil.disk_usage(Path(tempfile.gettempdir())).free < needed:
        raise MemoryError("the temporary folder is too small")
    file.truncate(needed)


def let_go(volume: NDArray[Any]) -> None:
    """Give the pages of a mapped volume back to the system; their content stays in the file."""
    base: object = volume.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def _device_limit(device: torch.device, limit_bytes: int) -> int:
    if device.type != "cuda":
        return limit_bytes
    return int(torch.cuda.mem_get_info(device)[0]) // DEVICE_SHARE
