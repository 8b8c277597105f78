"""What kind of data a folder holds, and what is wrong with pictures with instances."""

from __future__ import annotations

from pathlib import Path

from delineate.execution import Cancellation, Progress
from delineate.formats.datasets.instance_dataset import is_instance_dataset, open_instance_dataset
from delineate.formats.datasets.verify_instances import InstanceVerification, verify_instances


def holds_instances(folder: Path) -> bool:
    """Say whether a folder is a data set of instances rather than one of label maps."""
    return is_instance_dataset(folder)


def verify_instance_folder(
    folder: Path, *, progress: Progress | None = None, cancellation: Cancellation | None = None
) -> InstanceVerification:
    """Open a folder of pictures with instances and read all of it.

    Raises
    ------
    DatasetError
        If a file cannot be used; names all faults.
    Interrupted
        If a stop was requested.
    """
    return verify_instances(open_instance_dataset(folder), progress=progress, cancellation=cancellation)
