"""Several configurations of one dataset under one root, asked for by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cascade_run import SETTINGS

from delineate.cli.main import main
from delineate.errors import PlanError, UsageError
from delineate.formats.datasets import Dataset, open_dataset
from delineate.formats.datasets.phantom import write_phantom_dataset
from delineate.phantoms import SCANNERS
from delineate.planning.machine import StepCost
from delineate.planning.presets import RESENC_M
from delineate.training.machine import find_machine
from delineate.workflows import decide_training as deciding
from delineate.workflows.claim_folder import claim_folder
from delineate.workflows.decide_training import decide_training
from delineate.workflows.plan_dataset import plan_dataset
from delineate.workflows.resume_run import open_run
from delineate.workflows.run_folder import RunFolder


def test_without_a_name_everything_stands_in_the_root_as_before(tmp_path: Path) -> None:
    folder = RunFolder(root=tmp_path)
    assert folder.recipe == tmp_path / "recipe.json"
    assert folder.fold("0") == tmp_path / "fold_0"
    assert folder.model == tmp_path / "model"
    named = replace(folder, configuration="2d")
    assert named.plan == folder.plan
    assert named.prepared == folder.prepared
    assert named.splits == folder.splits
    assert named.model == tmp_path / "2d" / "model"
    assert named.settings == tmp_path / "2d" / "run.json"


def test_an_unknown_configuration_is_told_with_those_there_are(
    configurations: Path, dataset: Dataset, tmp_path: Path
) -> None:
    planned = plan_dataset(dataset, RunFolder(root=configurations))
    with pytest.raises(PlanError, match="2d, 3d_lowres"):
        decide_training(planned, RunFolder(root=tmp_path, configuration="4d"), find_machine("cpu"), budget_seconds=None)
    assert main(["train", str(tmp_path / "run"), "--configuration", "2d"]) == 2


@pytest.mark.parametrize("name", ["2d", "3d_lowres", "3d_cascade_fullres"])
def test_a_budget_shrinks_the_configuration_that_was_asked_for(
    configurations: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asked = []

    def measure(configuration, recipe, *, in_channels, **_):  # type: ignore[no-untyped-def]
        asked.append((configuration.name, in_channels))
        return StepCost(seconds=0.02, peak_bytes=1)

    monkeypatch.setattr(deciding, "measure_step", measure)
    planned = plan_dataset(dataset, RunFolder(root=configurations))
    folder = RunFolder(root=tmp_path / "run", configuration=name)
    decision = decide_training(planned, folder, find_machine("cpu"), budget_seconds=120.0)
    assert decision.configuration.name in (name, f"{name}_budget")
    assert decision.configuration.previous_stage == planned.plan.configuration(name).previous_stage
    assert asked
    assert {each.removesuffix("_budget") for each, _ in asked} == {name}
    assert {channels for _, channels in asked} == {3 if name == "3d_cascade_fullres" else 1}
    assert folder.recipe == tmp_path / "run" / name / "recipe.json"
    assert folder.recipe.is_file()


def test_one_root_holds_one_dataset(configurations: Path, dataset: Dataset, tmp_path: Path) -> None:
    folder = RunFolder(root=configurations, configuration="3d_new")
    with pytest.raises(UsageError, match="preset"):
        claim_folder(folder, dataset, RESENC_M, None)
    other = tmp_path / "other"
    write_phantom_dataset(other, cases=2, held_out=0, scale=4.0, scanners=SCANNERS[:1], structures=("liver",))
    with pytest.raises(UsageError, match="dataset"):
        claim_folder(RunFolder(root=configurations), open_dataset(other), SETTINGS.preset, None)


def test_a_configuration_that_was_not_planned_says_how(configurations: Path) -> None:
    with pytest.raises(UsageError, match="--configuration 3d_other"):
        open_run(configurations, configuration="3d_other")
