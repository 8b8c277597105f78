"""Probabilities of one case as ``{id}.npz`` with the key ``probabilities``, read one head at a time.

A compressed array cannot be read at a place, but it can be read in order; heads come first, so one head after the other
costs the memory of one. Both ours and nnU-Net's files have this form. The pickle that nnU-Net writes beside them is
never read.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from delineate.errors import ImageReadError
from delineate.execution.atomic import atomic_path

MEMBER = "probabilities.npy"


@contextmanager
def opened_probabilities(path: Path) -> Iterator[tuple[tuple[int, ...], Iterator[NDArray[np.float32]]]]:
    """Open a file; give the shape (head, *grid) and an iterator over the heads, (*grid) float32 each.

    Raises
    ------
    ImageReadError
        If the file is missing, damaged or holds no probabilities.
    """
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(stack.enter_context(zipfile.ZipFile(path)).open(MEMBER))
        except (OSError, zipfile.BadZipFile, KeyError) as error:
            raise _damaged(path, error) from error
        shape, dtype = _header(path, stream)
        yield shape, _heads(path, stream, shape, dtype)


def written_while_read(
    path: Path, shape: tuple[int, ...], heads: Iterable[NDArray[np.float32]]
) -> Iterator[NDArray[np.float32]]:
    """Yield the heads and write each to ``path`` on the way, as float16 like every file of probabilities here.

    The file appears when the last head was taken.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(MEMBER, "w", force_zip64=True) as stream:
            header = {"descr": np.dtype(np.float16).str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            for head in heads:
                stream.write(np.ascontiguousarray(head, np.float16).tobytes())
                yield head


def _damaged(path: Path, error: Exception) -> ImageReadError:
    return ImageReadError(
        f"{path}: expected probabilities, as `predict --probabilities` writes them; {error}. Predict the case again."
    )


def _header(path: Path, stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.floating]]:
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except ValueError as error:
        raise ImageReadError(f"{path}: {MEMBER} is no numpy array: {error}.") from error
    if fortran or dtype not in (np.float16, np.float32, np.float64) or len(shape) not in (3, 4):
        raise ImageReadError(f"{path}: expected floats (head, z, y, x); found {dtype} of shape {shape}.")
    return shape, dtype


def _heads(
    path: Path, stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[np.floating]
) -> Iterator[NDArray[np.float32]]:
    size = int(np.prod(shape[1:])) * dtype.itemsize
    for _ in range(shape[0]):
        try:
            data = stream.read(size)
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise _damaged(path, error) from error
        if len(data) != size:
            raise ImageReadError(f"{path} is cut short. Predict the case again.")
        head = np.frombuffer(data, dtype).reshape(shape[1:]).astype(np.float32)
        if not np.isfinite(head).all():
            raise ImageReadError(f"{path} holds NaN or infinite probabilities. Predict the case again.")
        yield head
