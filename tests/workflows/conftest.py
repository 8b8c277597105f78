"""One small phantom dataset and one short run for all tests of the flows."""

from __future__ import annotations

from pathlib import Path

import pytest

from delineate.formats.datasets import Dataset
from delineate.formats.datasets.phantom import write_phantom_dataset
from delineate.phantoms import SCANNERS
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
