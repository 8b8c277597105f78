"""Files of a run that were cut short or changed by hand are named, with what is wrong in them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from delineate.cli.main import main
from delineate.errors import ModelError, PlanError, ResourceError
from delineate.formats.recipe_json import read_recipe
from delineate.training.history import METRICS_FILE, read_history
from delineate.workflows.find_best import find_best


@pytest.fixture
def root(configurations: Path, tmp_path: Path) -> Path:
    shutil.copytree(configurations, tmp_path / "run")
    return tmp_path / "run"


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("name", ["2d/run.json", "2d/recipe.json", "plans.json"])
def test_a_file_that_was_cut_short_is_named(root: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    cut(root / name)
    assert main(["train", str(root), "--configuration", "2d"]) == PlanError.exit_code
    assert f"{root / name} is not valid JSON" in capsys.readouterr().err


def test_settings_of_the_folder_that_were_cut_short_are_named(
    root: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut(root / "dataset_of_run.json")
    assert main(["plan", str(phantoms), "-o", str(root), "--configuration", "2d"]) == PlanError.exit_code
    assert "dataset_of_run.json is not valid JSON" in capsys.readouterr().err


@pytest.mark.parametrize(("key", "value"), [("batch_size", 0), ("iterations", 0), ("patch_size", [0, 16])])
def test_impossible_numbers_in_a_recipe_are_named(root: Path, key: str, value: object) -> None:
    path = root / "2d" / "recipe.json"
    content = json.loads(path.read_text())
    content["recipe"][key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(PlanError, match=f"{key}.*from 1, found"):
        read_recipe(path)


def test_a_damaged_history_is_named(tmp_path: Path) -> None:
    (tmp_path / METRICS_FILE).write_text('{"step": 1}\n{"st\n')
    with pytest.raises(ModelError, match="damaged"):
        read_history(tmp_path)


def test_an_output_that_is_no_folder_is_told_before_anything_is_predicted(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ResourceError, match="Could not write"):
        find_best([root], tmp_path / "file")
    assert not list(root.glob("*/fold_*/validation/*.nii.gz"))
