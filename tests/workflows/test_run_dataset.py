from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from delineate.errors import DatasetError, Interrupted, PlanError, UsageError
from delineate.execution import Cancellation, Silent
from delineate.formats.datasets import Dataset
from delineate.formats.images import read_labels
from delineate.formats.nnunet.plans_json import read_plan
from delineate.training import Extension
from delineate.workflows.resume_run import open_run, report_run, train_run
from delineate.workflows.run_dataset import RunOutcome, RunSettings, plan_run, run_dataset


def test_a_run_learns_and_leaves_everything_behind(finished: RunOutcome, dataset: Dataset) -> None:
    folder = finished.folder
    assert finished.validation.foreground_dice > 0.4
    assert finished.test is not None
    assert finished.test.foreground_dice > 0.4
    for path in (
        folder.plan,
        folder.recipe,
        folder.splits,
        folder.report,
        folder.model / "model.json",
        folder.settings,
    ):
        assert path.is_file(), path
    assert (folder.fold("0") / "metrics.jsonl").read_text().count("\n") >= 2
    held_out = json.loads(folder.splits.read_text())[0]["val"]
    assert {p.name for p in folder.validation("0").glob("*.nii.gz")} == {f"{i}.nii.gz" for i in held_out}


def test_a_run_ends_in_its_budget(finished: RunOutcome) -> None:
    # training obeys the clock; what follows it is estimated, so a loaded machine may overrun a little
    assert finished.seconds < 45.0 * 1.5


def test_predictions_lie_on_the_grid_of_their_image(finished: RunOutcome, dataset: Dataset) -> None:
    case = dataset.testing[0]
    predicted = read_labels(finished.folder.test_predictions / f"{case.case_id}.nii.gz")
    loaded = dataset.load(case)
    assert predicted.grid.matches(loaded.image.grid)
    assert set(np.unique(predicted.array)) <= {0, 1, 2}


def test_report_shows_the_held_out_cases_and_loads_nothing(finished: RunOutcome) -> None:
    page = finished.folder.report.read_text(encoding="utf-8")
    assert "liver" in page
    assert "<svg" in page
    assert 'src="http' not in page
    assert "@import" not in page


def test_the_same_command_again_changes_nothing(finished: RunOutcome, phantoms: Path) -> None:
    weights = finished.folder.model / "fold_0.safetensors"
    before = weights.read_bytes()
    again = run_dataset(phantoms, finished.folder.root, RunSettings(budget_seconds=45.0))
    assert weights.read_bytes() == before
    assert again.validation.foreground_dice == finished.validation.foreground_dice


def test_other_settings_in_the_same_folder_are_refused(finished: RunOutcome, phantoms: Path) -> None:
    with pytest.raises(UsageError, match="budget_seconds"):
        run_dataset(phantoms, finished.folder.root, RunSettings(budget_seconds=60.0))


def test_plan_file_is_nnunets(finished: RunOutcome) -> None:
    plan = read_plan(finished.folder.plan)
    assert plan.plans_name == "nnUNetPlans"
    assert {c.name for c in plan.configurations} >= {"2d", "3d_fullres"}


def test_single_steps_go_on_from_the_folder(finished: RunOutcome, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(finished.folder.root, copied)
    run = open_run(copied)
    assert run.decision.recipe.iterations == finished.decision.recipe.iterations
    trained = train_run(copied, folds=("0",))
    assert trained.package.facts["steps"]["0"] > 0
    conclusion = report_run(copied, mirroring=False)
    assert conclusion.validation.n_cases == finished.validation.n_cases


def test_folds_trained_in_turn_are_all_in_the_model(finished: RunOutcome, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(finished.folder.root, copied)
    recipe = json.loads((copied / "recipe.json").read_text(encoding="utf-8"))
    recipe["recipe"]["budget_seconds"] = 5.0
    shutil.rmtree(copied / "fold_0")
    (copied / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    train_run(copied, folds=("0",))
    both = train_run(copied, folds=("1",))
    assert set(both.package.weights) == {"0", "1"}
    assert set(both.package.facts["steps"]) == {"0", "1"}


def test_a_model_that_was_trained_longer_is_scored_anew(finished: RunOutcome, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(finished.folder.root, copied)
    before = (copied / "fold_0" / "validation" / "made_by.json").read_text()
    train_run(copied, folds=("0",), extension=Extension(seconds=3.0))
    report_run(copied)
    assert (copied / "fold_0" / "validation" / "made_by.json").read_text() != before


def test_a_budget_that_was_too_short_can_be_corrected(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError):
        plan_run(phantoms, tmp_path / "run", RunSettings(budget_seconds=9.0))
    decision, words = plan_run(phantoms, tmp_path / "run", RunSettings(budget_seconds=60.0))
    assert decision.recipe.iterations > 0
    assert words


def test_a_folder_without_a_plan_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="delineate plan"):
        open_run(tmp_path)


def test_a_stop_keeps_what_was_done(phantoms: Path, tmp_path: Path) -> None:
    class StopAtTraining(Silent):
        def start(self, what: str, total: int | None) -> None:
            if what == "training":
                cancellation.request()

    cancellation = Cancellation()
    settings = RunSettings(budget_seconds=28.0)
    with pytest.raises(Interrupted):
        run_dataset(phantoms, tmp_path / "run", settings, progress=StopAtTraining(), cancellation=cancellation)
    assert (tmp_path / "run" / "recipe.json").is_file()
    outcome = run_dataset(phantoms, tmp_path / "run", settings)
    assert outcome.validation.n_cases > 0


def test_a_budget_of_nothing_is_refused_with_advice(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="too short"):
        run_dataset(phantoms, tmp_path / "run", RunSettings(budget_seconds=5.0))


def test_faults_of_a_dataset_are_told_at_once_and_can_be_dropped(phantoms: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(phantoms, broken)
    first, second = sorted((broken / "imagesTr").glob("*.nii.gz"))[:2]
    first.write_bytes(first.read_bytes()[:200])
    second.write_bytes(b"")
    with pytest.raises(DatasetError) as caught:
        run_dataset(broken, tmp_path / "run", RunSettings(budget_seconds=45.0))
    told = caught.value.diagnostics()
    assert first.name in told
    assert second.name in told
    assert "drop-faulty-cases" in told
    assert not (tmp_path / "run" / "plans.json").exists()


def test_an_unknown_device_is_refused_before_any_work(phantoms: Path, tmp_path: Path) -> None:
    settings = replace(RunSettings(budget_seconds=45.0), device="quantum")
    with pytest.raises(UsageError, match="quantum"):
        run_dataset(phantoms, tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()
