"""A MedNeXt through the flows: planned, trained for a few steps, packed, loaded, used, refused by nnU-Net's format."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from delineate.errors import ModelError
from delineate.formats.model_package import read_package
from delineate.formats.recipe_json import read_recipe, write_recipe
from delineate.planning.presets import PRESETS
from delineate.training.history import read_history
from delineate.workflows.exchange_models import export_for_nnunet
from delineate.workflows.model import load_model
from delineate.workflows.resume_run import train_run
from delineate.workflows.run_dataset import RunSettings, plan_run


@pytest.fixture(scope="module")
def trained(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mednext") / "run"
    plan_run(phantoms, out, RunSettings(budget_seconds=None, preset=PRESETS["mednext-s"]))
    configuration, recipe = read_recipe(out / "recipe.json")
    narrow = tuple(width // 8 for width in configuration.architecture.features)
    configuration = replace(
        configuration,
        architecture=replace(configuration.architecture, features=narrow),
        patch_size=(16, 16, 16),
    )
    brief = {"iterations": 24, "iterations_per_epoch": 8, "validation_batches": 1, "augmentation": "light"}
    recipe = replace(recipe, **brief, patch_size=(16, 16, 16), optimizer="adamw", learning_rate=3e-3)
    write_recipe(out / "recipe.json", configuration, recipe)
    train_run(out, folds=("0",))
    return out


def test_it_learns(trained: Path) -> None:
    losses = [record["loss"] for record in read_history(trained / "fold_0")]
    assert len(losses) == 3
    assert losses[-1] < losses[0] - 0.1


def test_its_plan_says_what_it_is(trained: Path) -> None:
    network = json.loads((trained / "plans.json").read_text())["configurations"]["3d_fullres"]["architecture"]
    assert network["network_class_name"] == "delineate.networks.mednext.MedNeXt"
    assert set(network["arch_kwargs"]["expansion_ratios"]) == {2}


def test_the_package_predicts(trained: Path, phantoms: Path) -> None:
    package = read_package(trained / "model")
    assert package.configuration.architecture.kind == "mednext"
    assert "down_0.res_conv.weight" in package.weights["0"]
    image = next((phantoms / "imagesTs").glob("*.nii.gz"))
    result = load_model(trained / "model", device="cpu", mirroring=False, precision="float32").predict(image)
    assert set(torch.from_numpy(result.labels.array.astype("int64")).unique().tolist()) <= {0, 1, 2}


def test_it_cannot_be_written_for_nnunet(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nnU-Net"):
        export_for_nnunet(read_package(trained / "model"), tmp_path)
