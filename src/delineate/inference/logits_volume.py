"""The volume of logits while it is being filled: in memory, or in a temporary file when it is large.

Two ways of filling it. :class:`InPlace` adds every tile to the volume itself. :class:`MovingWindow` adds tiles to a
window as thick as a patch that moves along z, on the network's device and in float32, and writes planes out as soon as
no later tile touches them; device memory is then independent of the length of the scan. Knows no networks.
"""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from delineate.errors import ResourceError
from delineate.inference.tiling import Index, TileGrid

LogitsDtype = Literal["float32", "float16"]

DEVICE_SHARE = 4
"""A window on a GPU may take at most one part in so many of the free memory; the rest is the network's."""


class Filling(Protocol):
    """How tiles become a volume. Tiles come in the order of the grid, z slowest."""

    def add(self, tile: Index, logits: Tensor) -> None:
        """Add the logits ``(head, *patch)`` of one tile."""

    def finish(self) -> NDArray[Any]:
        """Return the whole volume ``(head, z, y, x)``."""


class InPlace:
    """Tiles are weighed and added where they belong in the volume."""

    def __init__(self, volume: NDArray[Any], grid: TileGrid) -> None:
        self._volume = volume
        self._tensor = torch.from_numpy(volume)
        self._grid = grid
        self._row = 0

    def add(self, tile: Index, logits: Tensor) -> None:
        """Add the logits ``(head, *patch)`` of one tile."""
        if tile[0] != self._row:
            self._row = tile[0]
            _let_go(self._volume)
        values = logits.to(device="cpu", dtype=self._tensor.dtype)
        _add_tile(self._tensor, self._grid, tile, values, first_plane=0)

    def finish(self) -> NDArray[Any]:
        """Return the whole volume ``(head, z, y, x)``."""
        _let_go(self._volume)
        return self._volume


class MovingWindow:
    """Tiles are added to a float32 window along z; finished planes go to the volume at once."""

    def __init__(self, volume: NDArray[Any], grid: TileGrid, device: torch.device) -> None:
        self._volume = volume
        self._grid = grid
        heads, _, y, x = volume.shape
        planes = min(grid.patch[0], grid.shape[0])
        self._window = torch.zeros((heads, planes, y, x), dtype=torch.float32, device=device)
        self._first = 0

    def add(self, tile: Index, logits: Tensor) -> None:
        """Add the logits ``(head, *patch)`` of one tile."""
        (along_z, *_), _ = self._grid.boxes(tile)
        if along_z.start > self._first:
            self._move_to(along_z.start)
        _add_tile(self._window, self._grid, tile, logits.to(self._window), first_plane=self._first)

    def finish(self) -> NDArray[Any]:
        """Return the whole volume ``(head, z, y, x)``."""
        self._write(self._window)
        return self._volume

    def _move_to(self, plane: int) -> None:
        done = plane - self._first
        self._write(self._window[:, :done])
        kept = self._window[:, done:].clone()
        self._window.zero_()
        self._window[:, : kept.shape[1]] = kept
        self._first = plane

    def _write(self, planes: Tensor) -> None:
        self._volume[:, self._first : self._first + planes.shape[1]] = planes.cpu().numpy()
        _let_go(self._volume)


def start_filling(grid: TileGrid, heads: int, dtype: LogitsDtype, device: torch.device, limit_bytes: int) -> Filling:
    """Return where the tiles of a grid shall go; see the module for the two ways.

    Raises
    ------
    ResourceError
        If neither memory nor the temporary folder can hold the volume.
    """
    volume = new_volume((heads, *grid.shape), dtype, limit_bytes)
    moving = not grid.single and (device.type != "cpu" or dtype != "float32")
    if moving and _window_bytes(grid, heads) <= _window_limit(device, limit_bytes):
        return MovingWindow(volume, grid, device)
    return InPlace(volume, grid)


def new_volume(shape: tuple[int, ...], dtype: LogitsDtype, limit_bytes: int) -> NDArray[Any]:
    """Return zeros of ``shape`` (head, z, y, x): an array, or beyond ``limit_bytes`` a memory-mapped temporary file.

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


def _let_go(volume: NDArray[Any]) -> None:
    """Give the pages of a mapped volume back to the system; their content stays in the file."""
    base: object = volume.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def _add_tile(target: Tensor, grid: TileGrid, tile: Index, logits: Tensor, *, first_plane: int) -> None:
    (in_z, in_y, in_x), inside = grid.boxes(tile)
    view = target[:, in_z.start - first_plane : in_z.stop - first_plane, in_y, in_x]
    part = logits[(slice(None), *inside)]
    if grid.single:
        view.copy_(part)
    else:
        weight = torch.from_numpy(grid.weight(tile)[inside]).to(part)
        view.addcmul_(part, weight)


def _window_bytes(grid: TileGrid, heads: int) -> int:
    return heads * min(grid.patch[0], grid.shape[0]) * grid.shape[1] * grid.shape[2] * 4


def _window_limit(device: torch.device, limit_bytes: int) -> int:
    if device.type != "cuda":
        return limit_bytes
    return int(torch.cuda.mem_get_info(device)[0]) // DEVICE_SHARE
