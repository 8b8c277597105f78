"""A dataset of phantoms, to try things on."""

from __future__ import annotations

from pathlib import Path

from delineate.execution import Progress
from delineate.formats.datasets import Dataset
from delineate.formats.datasets.phantom import write_phantom_dataset


def write_phantoms(
    folder: Path, *, cases: int, held_out: int, scale: float, seed: int, progress: Progress | None = None
) -> Dataset:
    """Write phantom torsos as an nnU-Net raw dataset; the same seed writes the same voxels.

    Raises
    ------
    UsageError
        If there is no case to write.
    ResourceError
        If the folder cannot be written.
    """
    return write_phantom_dataset(folder, cases=cases, held_out=held_out, scale=scale, seed=seed, progress=progress)
