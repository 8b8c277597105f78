"""Whether compiled kernels answer: only where numba is installed (the extra ``fast``) and the work is worth loading it.

Kernels give the numbers of the numpy code that stands in for them; they differ in time only.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

LEAST_VOXELS = 1 << 20
"""Loading numba and the kernels takes about half a second, numpy for a volume of this size about a tenth of that."""

MOST_THREADS = 4
"""Threads that share one case; more of them only wait for memory."""

_LOADED: dict[str, Any] = {}
# not sys.modules, where another thread sees a module before all of it is there


def kernels(module: str, voxels: int) -> Any | None:
    """Return a module of kernels, or None where numpy shall do the work.

    Parameters
    ----------
    module
        Full name of a module that needs numba.
    voxels
        Size of the work; small work uses kernels only if they are loaded already.
    """
    if module not in _LOADED and voxels >= LEAST_VOXELS and importlib.util.find_spec("numba") is not None:
        _LOADED[module] = importlib.import_module(module)
    return _LOADED.get(module)


def useful_threads() -> int:
    """Return the number of processors that this process may use, four at most."""
    affinity = getattr(os, "sched_getaffinity", None)
    return min(MOST_THREADS, len(affinity(0)) if affinity else (os.cpu_count() or 1))
