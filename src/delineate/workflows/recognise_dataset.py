"""What kind of data a folder holds."""

from __future__ import annotations

from pathlib import Path

from delineate.formats.datasets.instance_dataset import is_instance_dataset


def holds_instances(folder: Path) -> bool:
    """Say whether a folder is a data set of instances rather than one of label maps."""
    return is_instance_dataset(folder)
