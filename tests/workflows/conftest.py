"""One small phantom dataset and one short run for all tests of the flows."""

from __future__ import annotations

from pathlib import Path

import pytest
from cascade_run import plan_tiny, use_two_folds

from delineate.formats.datasets import Dataset
from delineate.formats.datasets.phantom import write_phantom_dataset
from delineate.phantoms import SCANNERS
from delineate.workflows.resume_run import train_run
from delineate.workflows.run_dataset import RunOutcome, RunSettings, run_dataset

SCALE = 2.0
"""Voxels twice as long as the demo's: an eighth of the work."""


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "torsos"
    write_phantom_dataset(
        folder, cases=6, held_out=2, scale=SCALE, scanners=SCANNERS[:2], structures=("liver", "spleen")
    )
    return folder


@pytest.fixture(scope="session")
def dataset(phantoms: Path) -> Dataset:
    from delineate.formats.datasets import open_dataset

    return open_dataset(phantoms)


@pytest.fixture(scope="session")
def finished(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> RunOutcome:
    """A whole run within the shortest budget."""
    out = tmp_path_factory.mktemp("runs") / "run"
    return run_dataset(phantoms, out, RunSettings(budget_seconds=45.0))


@pytest.fixture(scope="session")
def configurations(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with tiny 2d, 3d_fullres and 3d_lowres trained on two folds, and 3d_cascade_fullres planned."""
    root = tmp_path_factory.mktemp("configurations") / "run"
    plan_tiny(phantoms, root, "2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres")
    use_two_folds(root)
    for name in ("2d", "3d_fullres", "3d_lowres"):
        train_run(root, folds=("0", "1"), configuration=name, device="cpu")
    return root
