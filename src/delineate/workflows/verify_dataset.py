"""A dataset is opened and every file of it looked at."""

from __future__ import annotations

from pathlib import Path

from delineate.execution import Cancellation, Progress
from delineate.formats.datasets import Dataset, Verification, open_dataset, verified, verify_dataset


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


def without_faulty_cases(dataset: Dataset, verification: Verification) -> Dataset:
    """Return what can be used: everything, or with the repair ``drop-faulty-cases`` what is sound.

    Raises
    ------
    DatasetError
        If errors remain.
    """
    return verified(dataset, verification)
