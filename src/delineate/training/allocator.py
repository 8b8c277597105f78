"""Memory that training takes and keeps, and what is said when there is not enough of it.

Knows nothing of networks or patches.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from delineate.errors import ResourceError

M_TRIM_THRESHOLD = -1
"""``mallopt`` parameter: free memory at the top of the heap above which it goes back to the kernel (glibc malloc.h)."""
M_TOP_PAD = -2
"""``mallopt`` parameter: how much more than needed the heap grows by (glibc malloc.h)."""
M_MMAP_THRESHOLD = -3
"""``mallopt`` parameter: size from which a block is mapped on its own and unmapped when freed (glibc malloc.h)."""
KEPT_BYTES = 1 << 30
"""Blocks below this size stay with the process; activations of one layer are smaller on every CPU plan."""
KEPT_BYTES_PREDICTING = 64 << 20
"""In prediction larger blocks go back at once: with patches of 128x128x128 and more, heaps of them do not fit into the
holes that others left (measured: a tenth less peak memory for a tenth more of the network's time)."""
HEAP_STEP_BYTES = 64 << 20
"""The heap grows in steps of this size."""
DYNAMIC_LIMIT_BYTES = 32 << 20
"""The largest M_MMAP_THRESHOLD that older glibc versions accept."""

_SHORTAGE_WORDS = ("not enough memory", "can't allocate memory", "out of memory", "cannot allocate memory")


def keep_memory(largest_block: int = KEPT_BYTES) -> bool:
    """Let the process keep freed memory instead of giving it back to the kernel after every step.

    A training step allocates the same large blocks again and again; by default glibc maps each of them anew and the
    kernel clears every page (measured: a third of a step's time). The effect is process-wide and lasts: freed memory
    below ``largest_block`` bytes per block stays with the process. Does nothing where the C library is not glibc.

    Returns
    -------
    bool
        Whether the C library took the settings.
    """
    library = _glibc()
    if library is None:
        return False
    mapped = library.mallopt(M_MMAP_THRESHOLD, largest_block) or library.mallopt(M_MMAP_THRESHOLD, DYNAMIC_LIMIT_BYTES)
    trimmed = library.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
    padded = library.mallopt(M_TOP_PAD, HEAP_STEP_BYTES)
    return bool(mapped and trimmed and padded)


def release_memory(above: int = 0) -> None:
    """Give freed memory back to the kernel once, so that a measurement of memory starts from the true level.

    Parameters
    ----------
    above
        Only if the process holds more bytes than that.
    """
    library = _glibc()
    if library is not None and psutil.Process().memory_info().rss > above:
        library.malloc_trim(0)


@contextmanager
def shortage_explained(advice: str) -> Iterator[None]:
    """Turn any way of running out of device or main memory into one clear error.

    Parameters
    ----------
    advice
        What the person can do about it; ends the sentence.

    Raises
    ------
    ResourceError
        If memory ran out inside the block.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        raise ResourceError(f"Memory ran out ({_first_line(error)}). {advice}") from error


def is_shortage(error: BaseException) -> bool:
    """Say whether an error of torch or Python means that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SHORTAGE_WORDS)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
