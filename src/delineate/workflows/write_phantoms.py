"""A dataset of phantoms, to try things on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from delineate.errors import UsageError
from delineate.execution import Progress
from delineate.formats.datasets import Dataset
from delineate.formats.datasets.phantom import write_phantom_dataset
from delineate.phantoms import SCANNERS


def write_phantoms(
    folder: Path,
    *,
    cases: int,
    held_out: int,
    scale: float,
    seed: int,
    scanners: Sequence[str] = (),
    one_scanner: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """Write phantom torsos as an nnU-Net raw dataset; the same seed writes the same voxels.

    ``scanners`` names those to use, all if empty; with ``one_scanner`` no patient is examined on two of them.

    Raises
    ------
    UsageError
        If there is no case to write, or a scanner is unknown.
    ResourceError
        If the folder cannot be written.
    """
    by_name = {scanner.name: scanner for scanner in SCANNERS}
    if unknown := [name for name in scanners if name not in by_name]:
        raise UsageError(f"Unknown scanner {', '.join(unknown)}; there are: {', '.join(by_name)}.")
    chosen = tuple(by_name[name] for name in scanners) or SCANNERS
    return write_phantom_dataset(
        folder,
        cases=cases,
        held_out=held_out,
        scale=scale,
        seed=seed,
        scanners=chosen,
        one_scanner=one_scanner,
        progress=progress,
    )
