"""A dataset is opened and every file of it looked at."""

from __future__ import annotations

from pathlib import Path

from delineate.execution import Cancellation, Progress
from delineate.formats.datasets import Dataset, Verification, open_dataset, verify_dataset


def verify(
    source: Path,
    *,
    repairs: frozenset[str] = frozenset(),
    workers: int = 1,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> tuple[Dataset, Verification]:
    """Return the dataset and all its faults.

    Raises
    ------
    DatasetError
        If the folder's layout is not understood.
    UsageError
        If a repair is unknown.
    """
    dataset = open_dataset(source, repairs=repairs)
    return dataset, verify_dataset(dataset, workers=workers, progress=progress, cancellation=cancellation)
