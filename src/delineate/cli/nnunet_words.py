"""What nnU-Net's commands share: its folders, its numbers of workers, its scores in words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from delineate.metrics.summary import Summary
    from delineate.workflows.nnunet_workspace import NnunetFolders


def nnunet_folders() -> NnunetFolders:
    """Return nnU-Net's folders as the environment names them."""
    from delineate.workflows.nnunet_workspace import NnunetFolders

    raw, preprocessed, results = (
        Path(value) if (value := os.environ.get(f"nnUNet_{name}")) else None
        for name in ("raw", "preprocessed", "results")
    )
    return NnunetFolders(raw=raw, preprocessed=preprocessed, results=results)


def counted(wanted: int) -> int:
    """Return how many workers there are where so many were asked for: at most the cores."""
    return max(1, min(wanted, os.cpu_count() or 1))


def print_summary(summary: Summary) -> None:
    """Print mean Dice, of all and of each structure."""
    print(f"mean foreground Dice {summary.foreground_dice:.4f} over {summary.n_cases} cases")
    for structure in summary.structures:
        print(f"  {structure.name}  {structure.dice.mean:.4f}")
