"""Label maps of any size as tiled TIFF, written from rows as they are finished."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from delineate.errors import GeometryError
from delineate.execution.atomic import atomic_path

TILE = 256
BIG_TIFF_BYTES = 1 << 31
"""Uncompressed size from which offsets of 64 bits are used."""
UM_PER_CM = 10_000.0


def write_label_tiff(
    path: Path, shape: tuple[int, int], blocks: Iterable[NDArray[np.int32]], *, pixel_um: float | None = None
) -> None:
    """Write a label map as uint32.

    Parameters
    ----------
    path
        ``.tif``; it appears whole or not at all.
    shape
        Rows and columns.
    blocks
        Parts (row, x) from top to bottom, as high as they come.
    pixel_um
        Micrometres per pixel, stored as the TIFF's resolution; None: not known.

    Raises
    ------
    GeometryError
        If the blocks are not as many rows and columns as the shape says.
    ResourceError
        If the file cannot be written.
    """
    side = TILE if min(shape) >= TILE else max(16, -(-max(shape) // 16) * 16 if max(shape) < TILE else TILE)
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            _tiles(shape, blocks, side, path),
            shape=shape,
            dtype=np.uint32,
            tile=(side, side),
            compression="zlib",
            photometric="minisblack",
            metadata=None,
            bigtiff=shape[0] * shape[1] * 4 > BIG_TIFF_BYTES,
            resolution=None if pixel_um is None else (UM_PER_CM / pixel_um, UM_PER_CM / pixel_um),
            resolutionunit=None if pixel_um is None else "CENTIMETER",
        )


def _tiles(
    shape: tuple[int, int], blocks: Iterable[NDArray[np.int32]], side: int, path: Path
) -> Iterator[NDArray[np.uint32]]:
    for strip in _strips(shape, blocks, side, path):
        for left in range(0, shape[1], side):
            part = strip[:, left : left + side]
            tile = np.zeros((side, side), dtype=np.uint32)
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def _strips(
    shape: tuple[int, int], blocks: Iterable[NDArray[np.int32]], side: int, path: Path
) -> Iterator[NDArray[np.int32]]:
    held, rows = np.zeros((0, shape[1]), dtype=np.int32), 0
    for block in blocks:
        if block.ndim != 2 or block.shape[1] != shape[1]:
            raise GeometryError(f"{path}: expected rows of {shape[1]} pixels; got a block of shape {block.shape}.")
        rows += len(block)
        held = np.concatenate([held, block])
        while len(held) >= side:
            yield held[:side]
            held = held[side:]
    if rows != shape[0]:
        raise GeometryError(f"{path}: expected {shape[0]} rows; got {rows}.")
    if len(held):
        yield held
