"""Arrays compressed into blosc2's frames, as nnU-Net stores them, without holding Python's lock.

``blosc2.asarray`` keeps the lock while it compresses, so that threads wait for each other. Its chunks do not: they are
laid out here block by block and compressed one at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

CODEC = blosc2.Codec.LZ4
COMPRESSION_LEVEL = 9
"""nnU-Net takes level 5 of LZ4HC, which is read by the same code and needs four to five times as long to write; files
are then 5 % (interpolated intensities) to 22 % (whole numbers) smaller (measured on Hippocampus)."""


def compressed_frame(
    array: NDArray[Any], chunks: Sequence[int], blocks: Sequence[int], *, byte_filter: blosc2.Filter
) -> bytes:
    """Return a contiguous frame that ``blosc2.open`` reads as an n-dimensional array.

    Parameters
    ----------
    array
        Any number of axes, C-contiguous.
    chunks, blocks
        Sizes per axis; a block is the least that is decompressed, a chunk what lies together.
    byte_filter
        What is done to the bytes before they are compressed.
    """
    blosc2.set_releasegil(True)
    parameters = {"codec": CODEC, "clevel": COMPRESSION_LEVEL, "filters": [byte_filter], "nthreads": 1}
    frame = blosc2.empty(
        array.shape, dtype=array.dtype, chunks=chunks, blocks=blocks, cparams=parameters, contiguous=True
    )
    starts = itertools.product(*(range(0, size, step) for size, step in zip(array.shape, chunks, strict=True)))
    for number, start in enumerate(starts):
        frame.schunk.update_data(number, _in_blocks(array, start, chunks, blocks), copy=True)
    packed: bytes = frame.to_cframe()
    return packed


def _in_blocks(
    array: NDArray[Any], start: Sequence[int], chunk: Sequence[int], block: Sequence[int]
) -> NDArray[np.generic]:
    """Return the chunk at ``start`` as blosc2 lays it out: whole blocks one after the other, zeros beyond the array."""
    part = array[tuple(slice(first, first + size) for first, size in zip(start, chunk, strict=True))]
    counts = [-(-size // step) for size, step in zip(chunk, block, strict=True)]
    padded = np.zeros([count * step for count, step in zip(counts, block, strict=True)], array.dtype)
    padded[tuple(map(slice, part.shape))] = part
    axes = range(array.ndim)
    split = padded.reshape([size for pair in zip(counts, block, strict=True) for size in pair])
    return np.ascontiguousarray(split.transpose([2 * axis for axis in axes] + [2 * axis + 1 for axis in axes]))
