"""Arrays on their own, as nnU-Net keeps probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.execution import atomic_path


def write_probabilities(path: Path, probabilities: NDArray[Any]) -> None:
    """Write (head, z, y, x) float16 probabilities to ``{id}.npz`` under nnU-Net's key ``probabilities``, atomically.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, probabilities=probabilities.astype(np.float16))
