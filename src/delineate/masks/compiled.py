"""Whether compiled kernels answer: only where numba is installed (the extra ``fast``) and the work is worth loading it.

Kernels give the numbers of the numpy code that stands in for them; they differ in time only.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

HAVE_NUMBA = importlib.util.find_spec("numba") is not None
"""Whether kernels can be loaded at all."""

LEAST_VOXELS = 1 << 24
"""Work that a process asks for before kernels are loaded: loading takes about as long as numpy for that much, 0.5 s."""

MOST_THREADS = 4
"""Threads that share one case; more of them only wait for memory."""

_LOADED: dict[str, Any] = {}
# not sys.modules, where another thread sees a module before all of it is there
_ASKED: dict[str, int] = {}


def kernels(module: str, voxels: int) -> Any | None:
    """Return a module of kernels, or None where numpy shall do the work.

    Parameters
    ----------
    module
        Full name of a module that needs numba.
    voxels
        Size of the work. Kernels answer from the call on at which all work so far was worth loading them: one large
        volume, or some dozens of small ones.
    """
    if HAVE_NUMBA and module not in _LOADED:
        _ASKED[module] = _ASKED.get(module, 0) + voxels
        if _ASKED[module] >= LEAST_VOXELS:
            _LOADED[module] = importlib.import_module(module)
    return _LOADED.get(module)


def useful_threads() -> int:
    """Return the number of processors that this process may use, four at most."""
    affinity = getattr(os, "sched_getaffinity", None)
    return min(MOST_THREADS, len(affinity(0)) if affinity else (os.cpu_count() or 1))
