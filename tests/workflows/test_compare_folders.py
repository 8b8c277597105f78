from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from delineate.case import LabelMap
from delineate.errors import InputError, SomeCasesFailed, UsageError
from delineate.execution import Cancellation, Silent, Watched
from delineate.formats.images import write_labels
from delineate.geometry.grid import Grid
from delineate.workflows.compare_folders import compare_folders, declared_comparison, labelled_comparison

WATCHED = Watched(progress=Silent(), cancellation=Cancellation())
SHAPE = (3, 4, 5)


def write(folder: Path, name: str, array: np.ndarray, origin: float = 0.0) -> None:
    folder.mkdir(exist_ok=True)
    grid = Grid.regular(array.shape, (2.0, 1.0, 1.0))
    moved = Grid(shape=grid.shape, spacing_mm=grid.spacing_mm, origin_mm=(origin, 0, 0), direction=grid.direction)
    write_labels(folder / f"{name}.nii.gz", LabelMap(array=array.astype(np.uint8), grid=moved, scheme=None))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    generator = np.random.default_rng(1)
    for name in ("a", "b"):
        write(tmp_path / "references", name, generator.integers(0, 6, SHAPE))
        write(tmp_path / "predictions", name, generator.integers(0, 6, SHAPE))
    return tmp_path / "references", tmp_path / "predictions"


def test_any_labels_are_scored_against_plain_counts(pair: tuple[Path, Path]) -> None:
    from delineate.formats.images import read_labels

    summary = compare_folders(labelled_comparison(*pair, [0, 2, 4], ignore=5), **WATCHED)
    written = json.loads((pair[1] / "summary.json").read_text())
    for entry, name in zip(written["metric_per_case"], ("a", "b"), strict=True):
        reference, predicted = (read_labels(folder / f"{name}.nii.gz").array for folder in pair)
        seen = reference != 5
        for label in (0, 2, 4):
            both = np.sum((reference == label) & (predicted == label) & seen)
            total = np.sum((reference == label) & seen) + np.sum((predicted == label) & seen)
            assert entry["metrics"][str(label)]["Dice"] == pytest.approx(2 * both / total)
        assert entry["reference_file"] == str(pair[0] / f"{name}.nii.gz")
    mean = written["mean"]
    assert written["foreground_mean"]["Dice"] == pytest.approx((mean["2"]["Dice"] + mean["4"]["Dice"]) / 2)
    assert summary.n_cases == 2


def test_files_without_counterpart_are_all_told(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (pair[1] / "a.nii.gz").rename(pair[1] / "c.nii.gz")
    with pytest.raises(InputError) as told:
        compare_folders(labelled_comparison(*pair, [1]), **WATCHED)
    assert "c.nii.gz has no reference" in str(told.value)
    assert "a.nii.gz has no prediction" in str(told.value)
    (pair[1] / "c.nii.gz").unlink()
    with pytest.raises(InputError, match=r"a\.nii\.gz has no prediction"):
        compare_folders(labelled_comparison(*pair, [1]), **WATCHED)
    assert compare_folders(labelled_comparison(*pair, [1], some=True), tmp_path / "s.json", **WATCHED).n_cases == 1


def test_another_shape_is_a_failure_and_nothing_is_written(pair: tuple[Path, Path]) -> None:
    write(pair[1], "b", np.zeros((3, 4, 6)))
    with pytest.raises(SomeCasesFailed) as told:
        compare_folders(labelled_comparison(*pair, [1]), **WATCHED)
    assert "b.nii.gz: expected equal shapes" in told.value.diagnostics()
    assert not (pair[1] / "summary.json").exists()


def test_another_place_in_space_is_told_and_compared(pair: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    write(pair[1], "b", np.zeros(SHAPE), origin=4.0)
    assert compare_folders(labelled_comparison(*pair, [1]), **WATCHED).n_cases == 2
    assert "b.nii.gz: compared voxel by voxel, though the two differ in origin" in caplog.text


def test_the_declaration_gives_labels_ignore_and_ending(pair: tuple[Path, Path], tmp_path: Path) -> None:
    labels = {"background": 0, "all": [1, 2, 3, 4], "core": 2, "ignore": 5}
    declaration = {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "regions_class_order": [1, 2],
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (tmp_path / "dataset.json").write_text(json.dumps(declaration))
    compare_folders(declared_comparison(*pair, tmp_path / "dataset.json"), **WATCHED)
    assert set(json.loads((pair[1] / "summary.json").read_text())["mean"]) == {"(1, 2, 3, 4)", "2"}


def test_wrong_outputs_and_empty_folders_are_told(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.json"):
        compare_folders(labelled_comparison(*pair, [1]), tmp_path / "scores.txt", **WATCHED)
    with pytest.raises(InputError, match="nowhere"):
        compare_folders(labelled_comparison(tmp_path / "nowhere", pair[1], [1]), **WATCHED)
