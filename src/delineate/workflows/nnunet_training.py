"""nnU-Net's training command on nnU-Net's folders: one fold from prepared cases to a model that nnU-Net can run.

train       training.fit on the prepared cases; its own state lies in fold_X/delineate
export      fold_X/checkpoint_final.pth and the files beside the folds
validate    fold_X/validation/{id}.nii.gz and summary.json; of a cascade's first stage also what the second one sees
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from delineate import __version__
from delineate.errors import ModelError, UsageError
from delineate.execution import Watched
from delineate.formats.datasets import Dataset
from delineate.formats.model_package import ModelPackage
from delineate.formats.nnunet.fingerprint_json import fingerprint_to_json, read_fingerprint
from delineate.formats.nnunet.plans_json import read_plan
from delineate.formats.nnunet.trainer_names import STANDARD_TRAINER, recipe_of_trainer
from delineate.formats.nnunet.workspace import NnunetDataset
from delineate.formats.prepared_store import PreparedStore
from delineate.metrics.summary import Summary
from delineate.networks import build_network, load_weights
from delineate.planning.machine import Machine
from delineate.planning.plan import Configuration, Plan
from delineate.planning.recipe import Recipe
from delineate.planning.schedule import standard_recipe
from delineate.planning.splits import Split
from delineate.training import Assignment, Runtime, TrainedFold, TrainingCases, fit
from delineate.training.machine import find_machine
from delineate.workflows.compare_folders import compare_folders, declared_comparison
from delineate.workflows.exchange_models import ExportSettings, TrainingRecord, export_for_nnunet
from delineate.workflows.fine_tune import first_weights, read_starting_point
from delineate.workflows.model import Model, assemble, load_model
from delineate.workflows.nnunet_cascade import FirstStage, first_stage_of, next_stage_of, require_stage_labels, staged
from delineate.workflows.nnunet_workspace import open_prepared, split_of
from delineate.workflows.previous_stage import StagedStore
from delineate.workflows.score_cases import predict_prepared

_log = logging.getLogger(__name__)

STATE_FOLDER = "delineate"
"""Checkpoints of the training itself, beside nnU-Net's files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingOrder:
    """What the user asked for."""

    place: NnunetDataset
    configuration: str
    fold: str
    """``0``, ``1``, ... or ``all``."""
    trainer: str = STANDARD_TRAINER
    plans_name: str = "nnUNetPlans"
    device: str = "cuda"
    start: Path | None = None
    """A checkpoint or model whose weights training begins with; None: random ones."""
    resume: bool = False
    """Go on where an interrupted training stopped; otherwise training begins anew."""
    keep: bool = True
    """Write checkpoints and the model; without, only the validation remains."""
    probabilities: bool = False
    """Also write the probabilities of the validation cases."""

    @property
    def model(self) -> Path:
        """The folder of the trained model."""
        return self.place.model(self.trainer, self.plans_name, self.configuration)

    @property
    def fold_folder(self) -> Path:
        """The folder of this fold."""
        return self.model / f"fold_{self.fold}"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bench:
    """Everything that training and validation work with."""

    order: TrainingOrder
    plan: Plan
    configuration: Configuration
    dataset: Dataset
    cases: PreparedStore | StagedStore
    """A cascade's with what its first stage said of them."""
    split: Split
    recipe: Recipe
    machine: Machine

    @property
    def first_stage(self) -> FirstStage | None:
        """Of a cascade; None for other configurations."""
        return first_stage_of(self.order.place, self.order.trainer, self.order.plans_name, self.configuration)


def train_fold(order: TrainingOrder, **watched: Unpack[Watched]) -> Summary:
    """Train a fold, write the model in nnU-Net's layout, predict and score the validation cases.

    Raises
    ------
    DelineateError
        Whatever preparing, training or validating raises; an interrupted training can be continued.
    """
    bench = open_bench(order)
    require_stage_labels(bench.cases, bench.first_stage, (*bench.split.train, *bench.split.validation))
    with _state_folder(order) as folder:
        trained = learn(bench, folder, **watched)
    package = package_of(bench, trained)
    if order.keep:
        write_model(bench, package, trained)
    return validate(bench, assemble(package, bench.machine, precision=bench.recipe.precision), **watched)


def validate_fold(order: TrainingOrder, **watched: Unpack[Watched]) -> Summary:
    """Validate a trained fold again.

    Raises
    ------
    ModelError
        If the fold has no model.
    UsageError
        If validation cases of a cascade lack the label map of their first stage.
    SomeCasesFailed
        If cases cannot be scored.
    """
    bench = open_bench(order)
    require_stage_labels(bench.cases, bench.first_stage, bench.split.validation)
    model = load_model(order.model, folds=(order.fold,), device=order.device, precision=bench.recipe.precision)
    return validate(bench, model, **watched)


def open_bench(order: TrainingOrder) -> Bench:
    """Read plan, prepared cases and splits, and turn the trainer's name into a recipe.

    Raises
    ------
    UsageError
        If the trainer is unknown, no case is prepared, or a cascade is to start from another model.
    PlanError
        If plan or configuration do not exist.
    ResourceError
        If the device does not exist.
    """
    plan = read_plan(order.place.plan(order.plans_name))
    configuration = plan.configuration(order.configuration)
    stage = first_stage_of(order.place, order.trainer, order.plans_name, configuration)
    if stage is not None and order.start is not None:
        raise UsageError(
            f"{configuration.name}, the second stage of a cascade, cannot start from another model, because its input "
            "channels are its own. Train it without -pretrained_weights."
        )
    machine = find_machine(order.device)
    recipe = recipe_of_trainer(order.trainer, standard_recipe(configuration, machine))
    dataset, store = open_prepared(order.place, plan, configuration)
    return Bench(
        order=order,
        plan=plan,
        configuration=configuration,
        dataset=dataset,
        cases=staged(store, stage, configuration),
        split=split_of(order.place, order.fold, store.case_ids()),
        recipe=recipe,
        machine=machine,
    )


def learn(bench: Bench, folder: Path, **watched: Unpack[Watched]) -> TrainedFold:
    """Train the fold; its state is kept in ``folder``.

    Raises
    ------
    DelineateError
        Whatever training raises.
    """
    split, recipe, fold = bench.split, bench.recipe, bench.order.fold
    network = build_network(
        bench.configuration.architecture,
        in_channels=bench.configuration.input_channels(bench.dataset.scheme),
        heads=bench.dataset.scheme.head_count,
        seed=recipe.seed,
    )
    if bench.order.start is not None:
        start = read_starting_point(bench.order.start)
        weights, report = first_weights(start, bench.dataset, bench.configuration, seed=recipe.seed, fold=fold)
        load_weights(network, weights)
        for sentence in report.sentences():
            _log.warning("%s", sentence)
    seed = recipe.seed + (int(fold) if fold.isdigit() else 0)
    return fit(
        network,
        TrainingCases(training=split.train, validation=split.validation, open=bench.cases.open),
        Assignment(configuration=bench.configuration, recipe=replace(recipe, seed=seed), scheme=bench.dataset.scheme),
        folder,
        runtime=Runtime(device=bench.machine.device, prefetch=1 if bench.machine.is_gpu else 0),
        **watched,
    )


def package_of(bench: Bench, trained: TrainedFold) -> ModelPackage:
    """Return the trained fold as a model."""
    dataset, order = bench.dataset, bench.order
    return ModelPackage(
        name=dataset.name,
        software=f"delineate {__version__}",
        plan=bench.plan,
        configuration=bench.configuration,
        recipe=bench.recipe,
        scheme=dataset.scheme,
        channel_names=dataset.channel_names,
        file_ending=dataset.file_ending,
        mirror_axes=bench.recipe.mirror_axes,
        weights={order.fold: trained.weights},
        facts=_facts(bench, trained),
        fingerprint=fingerprint_to_json(read_fingerprint(order.place.fingerprint)),
    )


def _facts(bench: Bench, trained: TrainedFold) -> dict[str, Any]:
    fold = bench.order.fold
    return {
        "trainer": bench.order.trainer,
        "training_cases": len(bench.dataset.training),
        "steps": {fold: trained.steps},
        "seconds": {fold: round(trained.seconds, 1)},
        "pseudo_dice": {fold: trained.smoothed_dice},
    }


def validate(bench: Bench, model: Model, **watched: Unpack[Watched]) -> Summary:
    """Predict the validation cases of the fold from the prepared cases and score them against the copied masks.

    If another stage follows, the cases are also written for it.

    Raises
    ------
    SomeCasesFailed
        If cases cannot be scored.
    Interrupted
        If a stop was requested.
    """
    folder, order = bench.order.fold_folder / "validation", bench.order
    if folder.exists():  # of an earlier training
        shutil.rmtree(folder)
    following = next_stage_of(order.model, order.place, bench.plan, bench.configuration)
    predict_prepared(
        model,
        bench.cases,
        bench.dataset,
        bench.split.validation,
        folder,
        probabilities=order.probabilities,
        use_logits=None if following is None else following.write,
        **watched,
    )
    references = order.place.references
    comparison = declared_comparison(references, folder, order.place.declaration, some=True)
    return compare_folders(comparison, **watched)


def write_model(bench: Bench, package: ModelPackage, trained: TrainedFold) -> None:
    """Write the fold where nnU-Net looks for it; other folds of the model stay as they are.

    Raises
    ------
    ModelError
        If nnU-Net does not have the network.
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    order, target = bench.order, bench.order.model
    record = TrainingRecord(history=trained.records)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=target.parent) as results:
        settings = ExportSettings(trainer=order.trainer, records={order.fold: record})
        exported = export_for_nnunet(package, Path(results), settings)
        files = [path for path in exported.rglob("*") if path.is_file()]
        for file in sorted(files, key=lambda path: path.suffix == ".pth"):  # a checkpoint means that the rest is there
            place = target / file.relative_to(exported)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)


@contextmanager
def _state_folder(order: TrainingOrder) -> Iterator[Path]:
    """Yield the folder of the training's state: a temporary one where nothing is to be kept, else emptied to begin."""
    if not order.keep:
        with tempfile.TemporaryDirectory(prefix="delineate-") as name:
            yield Path(name)
        return
    folder = order.fold_folder / STATE_FOLDER
    if order.resume and not folder.exists() and any(order.fold_folder.glob("checkpoint_*.pth")):
        raise ModelError(
            f"{order.fold_folder} holds a training of nnU-Net, whose optimiser state is not taken over. Go on with "
            "it in nnU-Net, or train without --c to begin anew."
        )
    if folder.exists() and not order.resume:
        shutil.rmtree(folder)
    yield folder
