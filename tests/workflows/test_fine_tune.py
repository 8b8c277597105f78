"""Fine-tuning through the flows, on phantoms and with a network of two stages."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from delineate.cli.main import main
from delineate.errors import Interrupted, ModelError, UsageError
from delineate.execution import Cancellation, Silent
from delineate.formats.datasets.phantom import write_phantom_dataset
from delineate.formats.model_package import ModelPackage, read_package
from delineate.formats.recipe_json import read_recipe, write_recipe
from delineate.phantoms import SCANNERS
from delineate.planning.plan import Architecture
from delineate.planning.presets import DEFAULT
from delineate.training.history import read_history
from delineate.workflows.exchange_models import export_for_nnunet
from delineate.workflows.fine_tune import first_weights, read_starting_point, start_from
from delineate.workflows.plan_dataset import facts_of
from delineate.workflows.planning_rule import planning_rule
from delineate.workflows.resume_run import open_run, train_run
from delineate.workflows.run_dataset import RunSettings, plan_run
from delineate.workflows.run_folder import RunFolder

STEPS = 20
NETWORK = Architecture(
    kind="plain_unet",
    dims=3,
    features=(6, 12),
    kernel_sizes=((3, 3, 3),) * 2,
    strides=((1, 1, 1), (2, 2, 2)),
    encoder_blocks=(1, 1),
    decoder_convs=(1,),
)


def shortened(folder: Path, **changes) -> None:
    """Edit the recipe of a planned run, as a person may, so that it takes seconds."""
    configuration, recipe = read_recipe(folder / "recipe.json")
    small = {"patch_size": (16, 16, 16), "batch_size": 2, "augmentation": "none", "deep_supervision": False}
    brief = {"iterations": STEPS, "iterations_per_epoch": STEPS, "validation_batches": 1, "warmup_iterations": 0}
    configuration = replace(configuration, patch_size=(16, 16, 16), **changes)
    write_recipe(folder / "recipe.json", configuration, replace(recipe, **small, **brief))


def loss_of(folder: Path) -> float:
    return float(read_history(folder / "fold_0")[0]["loss"])


@pytest.fixture(scope="module")
def unstarted(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was planned for liver and spleen, with prepared cases."""
    out = tmp_path_factory.mktemp("unstarted") / "run"
    plan_run(phantoms, out, RunSettings(budget_seconds=None))
    shortened(out, architecture=NETWORK)
    open_run(out).prepare()
    return out


@pytest.fixture(scope="module")
def source(unstarted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, trained."""
    out = tmp_path_factory.mktemp("source") / "run"
    shutil.copytree(unstarted, out)
    configuration, recipe = read_recipe(out / "recipe.json")
    quick = replace(recipe, iterations=80, optimizer="adamw", learning_rate=3e-3)
    write_recipe(out / "recipe.json", configuration, quick)
    train_run(out, folds=("0",))
    return out


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other patients with spleen and kidneys labelled."""
    folder = tmp_path_factory.mktemp("others") / "kidneys"
    structures = ("kidneys", "spleen")
    return write_phantom_dataset(
        folder, cases=4, held_out=0, seed=50, scale=2.0, scanners=SCANNERS[:1], structures=structures
    ).root


@pytest.fixture(scope="module")
def planned(source: Path, others: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run planned from the model and cut short."""
    out = tmp_path_factory.mktemp("planned") / "run"
    plan_run(others, out, RunSettings(budget_seconds=None, start_model=source))
    shortened(out)
    return out


@pytest.fixture(scope="module")
def tuned(planned: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModelPackage]:
    out = tmp_path_factory.mktemp("tuned") / "run"
    shutil.copytree(planned, out)
    return out, train_run(out, folds=("0",)).package


def test_the_plan_has_the_models_network_and_says_what_became_of_its_weights(source: Path, planned: Path) -> None:
    run, model = open_run(planned), read_package(source / "model")
    configuration = run.decision.configuration
    assert configuration.architecture == NETWORK
    assert configuration.spacing_mm == model.configuration.spacing_mm
    reasons = " ".join(run.decision.recipe.reasons)
    assert model.identity in reasons
    assert "The outputs for background, spleen are taken over." in reasons
    assert "The outputs for kidneys start at random." in reasons
    assert run.decision.recipe.learning_rate == pytest.approx(1e-3)


def test_fine_tuning_gets_further_than_training_from_scratch(tuned, planned: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "run"
    shutil.copytree(planned, scratch)
    (scratch / "origin.json").unlink()
    train_run(scratch, folds=("0",))
    assert loss_of(tuned[0]) < 0.8 * loss_of(scratch)


def test_the_package_names_the_model_it_comes_from(tuned, source: Path) -> None:
    origin = read_package(tuned[0] / "model").facts["origin"]
    assert origin["identity"] == read_package(source / "model").identity
    assert any("spleen" in sentence for sentence in origin["transfer"])
    assert origin["at_random"] == []


def test_a_resumed_fine_tuning_is_the_same_even_without_the_model(tuned, planned: Path, source: Path, tmp_path) -> None:
    class StopInTheMiddle(Silent):
        def advance(self, amount: int, note: str = "") -> None:
            self.count = getattr(self, "count", 0) + 1
            if self.count == STEPS // 2:
                cancellation.request()

    out, model = tmp_path / "run", tmp_path / "model"
    shutil.copytree(planned, out)
    shutil.copytree(source / "model", model)
    origin = json.loads((out / "origin.json").read_text())
    (out / "origin.json").write_text(json.dumps({**origin, "path": str(model)}))
    open_run(out).prepare()
    cancellation = Cancellation()
    with pytest.raises(Interrupted):
        train_run(out, folds=("0",), progress=StopInTheMiddle(), cancellation=cancellation)
    shutil.rmtree(model)
    weights = train_run(out, folds=("0",)).package.weights["0"]
    assert all(torch.equal(weights[name], tensor) for name, tensor in tuned[1].weights["0"].items())


def test_a_model_that_is_gone_or_another_one_now_is_refused(planned: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(planned, out)
    origin = json.loads((out / "origin.json").read_text())
    (out / "origin.json").write_text(json.dumps({**origin, "identity": "another"}))
    with pytest.raises(ModelError, match="Put the model back"):
        train_run(out, folds=("0",))
    (out / "origin.json").write_text(json.dumps({**origin, "path": str(tmp_path / "nowhere")}))
    with pytest.raises(ModelError):
        train_run(out, folds=("0",))


def test_a_planned_run_of_the_same_network_can_start_from_a_model(source: Path, unstarted: Path, tmp_path) -> None:
    out = tmp_path / "run"
    shutil.copytree(unstarted, out)
    assert main(["train", str(out), "--from", str(source / "model"), "-j", "1", "--plain-progress"]) == 0
    recipe = read_recipe(out / "recipe.json")[1]
    assert recipe.learning_rate == pytest.approx(1e-3)
    assert loss_of(out) < 0.8 * loss_of(source)
    train_run(out, folds=("0",), start_model=source)  # the same again: finished
    assert read_recipe(out / "recipe.json")[1] == recipe


def test_a_planned_run_of_another_network_cannot(source: Path, unstarted: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(unstarted, out)
    shortened(out, architecture=replace(NETWORK, features=(6, 14)))
    with pytest.raises(ModelError, match=r"Plan with the model's own network: .*--from"):
        train_run(out, folds=("0",), start_model=source)
    assert not RunFolder(root=out).origin.exists()


def test_the_second_stage_of_a_cascade_cannot_start_from_a_model(source: Path, unstarted: Path, tmp_path) -> None:
    run = open_run(unstarted)
    cascade = replace(run.decision.configuration, previous_stage="3d_lowres")
    with pytest.raises(UsageError, match="second stage"):
        start_from(
            read_starting_point(source), run.planned.dataset, RunFolder(root=tmp_path), cascade, run.decision.recipe
        )


def test_a_run_that_has_begun_does_not_change_its_beginning(tuned, source: Path, tmp_path: Path) -> None:
    begun = tmp_path / "run"
    shutil.copytree(tuned[0], begun)
    (begun / "origin.json").unlink()
    with pytest.raises(UsageError, match="begun already"):
        train_run(begun, folds=("0",), start_model=source)


def test_a_folder_belongs_to_one_origin(planned: Path, others: Path, source: Path) -> None:
    with pytest.raises(UsageError, match="origin"):
        plan_run(others, planned, RunSettings(budget_seconds=None))
    with pytest.raises(UsageError, match="--plan-of"):
        plan_run(others, planned, RunSettings(budget_seconds=None, start_model=source, plan_of=source))


def test_the_plan_of_another_dataset(others: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["plan", str(others), "-o", str(out), "--plan-of", str(source), "-j", "1", "--plain-progress"]
    assert main(command) == 0
    theirs, ours = (json.loads((folder / "plans.json").read_text()) for folder in (source, out))
    assert ours["dataset_name"] != theirs["dataset_name"]
    assert ours["plans_name"] == f"nnUNetPlans_from_{theirs['dataset_name']}"
    for name, configuration in theirs["configurations"].items():
        moved = ours["configurations"][name]
        assert moved["data_identifier"] == f"{ours['plans_name']}_{name}"
        assert {**moved, "data_identifier": ""} == {**configuration, "data_identifier": ""}
    statistics = "foreground_intensity_properties_per_channel"
    assert ours[statistics] == theirs[statistics]


@pytest.mark.parametrize("what", ["folder", "checkpoint"])
def test_a_model_of_nnunet_is_a_model_to_start_from(source: Path, unstarted: Path, tmp_path: Path, what) -> None:
    package = read_package(source / "model")
    folder = export_for_nnunet(package, tmp_path / "results")
    path = folder if what == "folder" else folder / "fold_0" / "checkpoint_final.pth"
    start, run = read_starting_point(path), open_run(unstarted)
    weights, report = first_weights(start, run.planned.dataset, run.decision.configuration, seed=0, fold="0")
    assert all(torch.equal(weights[name], tensor) for name, tensor in package.weights["0"].items())
    assert report.fresh == ()
    rule = planning_rule(path)
    plan = rule.decide(run.planned.fingerprint, facts_of(run.planned.dataset), DEFAULT)
    assert plan.configurations[0].architecture == NETWORK
