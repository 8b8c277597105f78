"""nnU-Net's training command on nnU-Net's folders: one fold from prepared cases to a model that nnU-Net can run.

train       training.fit on the prepared cases; its own state lies in fold_X/delineate
export      fold_X/checkpoint_final.pth and the files beside the folds
validate    fold_X/validation/{id}.nii.gz and summary.json; of a cascade's first stage also what the second one sees
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from delineate import __version__
from delineate.errors import ModelError, UsageError
from delineate.execution import Watched, staging_folder
from delineate.formats.datasets import Dataset
from delineate.formats.model_package import ModelPackage
from delineate.formats.nnunet.fingerprint_json import fingerprint_to_json, read_fingerprint
from delineate.formats.nnunet.plans_json import read_plan
from delineate.formats.nnunet.trained_model import FINAL_CHECKPOINT
from delineate.formats.nnunet.trainer_names import STANDARD_TRAINER, recipe_of_trainer
from delineate.formats.nnunet.workspace import NnunetDataset
from delineate.formats.prepared_store import PreparedStore
from delineate.metrics.summary import Summary
from delineate.networks import build_network, check_patch, load_weights
from delineate.planning.machine import Machine
from delineate.planning.plan import Configuration, Plan
from delineate.planning.recipe import Recipe
from delineate.planning.schedule import standard_recipe
from delineate.planning.splits import Split
from delineate.training import Assignment, Runtime, TrainedFold, TrainingCases, fit
from delineate.training.checkpoint import BEST_FILE, read_payload
from delineate.training.distributed import Place, join
from delineate.training.machine import find_machine
from delineate.training.ranks import Ranks
from delineate.workflows.compare_folders import compare_folders, declared_comparison
from delineate.workflows.exchange_models import ExportSettings, TrainingRecord, export_for_nnunet
from delineate.workflows.fine_tune import first_weights, read_starting_point
from delineate.workflows.model import Model, assemble, load_model
from delineate.workflows.nnunet_cascade import FirstStage, first_stage_of, next_stage_of, require_stage_labels, staged
from delineate.workflows.nnunet_workspace import open_prepared, split_of
from delineate.workflows.previous_stage import StagedStore
from delineate.workflows.score_cases import predict_prepared

if TYPE_CHECKING:
    from torch import Tensor

BEST_CHECKPOINT = "checkpoint_best.pth"
"""nnU-Net's file of the weights with the best smoothed pseudo-Dice."""

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
    best: bool = False
    """Validate the weights with the best smoothed pseudo-Dice instead of the final ones."""

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
    bench = _bench_to_train(order)
    with _state_folder(order) as folder:
        trained = learn(bench, folder, **watched)
        best = best_weights(folder)
    return _conclude(bench, trained, best, **watched)


def train_fold_in_place(order: TrainingOrder, place: Place, **watched: Unpack[Watched]) -> Summary | None:
    """Train a fold as one of several processes; the first one writes and validates, the others return None.

    Raises
    ------
    DelineateError
        Whatever training raises; all processes must see the same folders.
    """
    bench = _bench_to_train(replace(order, device=place.device(order.device)))
    with join(place, bench.machine.device) as ranks, _state_folder(order, ranks) as folder:
        trained = learn(bench, folder, ranks, **watched)
        best = best_weights(folder)
    return _conclude(bench, trained, best, **watched) if ranks.writes else None


def _bench_to_train(order: TrainingOrder) -> Bench:
    bench = open_bench(order)
    require_stage_labels(bench.cases, bench.first_stage, (*bench.split.train, *bench.split.validation))
    return bench


def _conclude(
    bench: Bench, trained: TrainedFold, best: Mapping[str, Tensor] | None, **watched: Unpack[Watched]
) -> Summary:
    """Write the model and validate it."""
    order, package = bench.order, package_of(bench, trained)
    better = None if best is None else replace(package, weights={order.fold: best})
    if order.keep:
        write_model(bench, package, trained)
        if better is not None:
            write_model(bench, better, trained, checkpoint=BEST_CHECKPOINT)
    if order.best and better is None:
        raise ModelError(f"Fold {order.fold} has no validation case by which a best checkpoint could be known.")
    chosen = better if order.best and better is not None else package
    return validate(bench, assemble(chosen, bench.machine, precision=bench.recipe.precision), **watched)


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
    model = load_model(
        order.model,
        folds=(order.fold,),
        device=order.device,
        precision=bench.recipe.precision,
        checkpoint=BEST_CHECKPOINT if order.best else FINAL_CHECKPOINT,
    )
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
    check_patch(configuration.architecture, configuration.patch_size)
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


def learn(bench: Bench, folder: Path, ranks: Ranks | None = None, **watched: Unpack[Watched]) -> TrainedFold:
    """Train the fold; its state is kept in ``folder``, and the processes ``ranks`` share the work.

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
        runtime=Runtime(
            device=bench.machine.device,
            prefetch=1 if bench.machine.is_gpu else 0,
            keep_best=True,
            ranks=ranks or Ranks(),
        ),
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


def best_weights(folder: Path) -> Mapping[str, Tensor] | None:
    """Return the weights with the best smoothed pseudo-Dice of a training; None if it had no validation case.

    Raises
    ------
    ModelError
        If the file is damaged.
    """
    file = folder / BEST_FILE
    if not file.is_file():
        return None
    weights: Mapping[str, Tensor] = read_payload(file)["network"]
    return weights


def write_model(
    bench: Bench, package: ModelPackage, trained: TrainedFold, *, checkpoint: str = FINAL_CHECKPOINT
) -> None:
    """Write the fold where nnU-Net looks for it; other folds of the model stay as they are.

    ``checkpoint`` is the file name of the weights.

    Raises
    ------
    ModelError
        If nnU-Net does not have the network.
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    order, target = bench.order, bench.order.model
    record = TrainingRecord(history=trained.records)
    with staging_folder(target.with_name(f"{target.name}-{order.fold}")) as results:
        settings = ExportSettings(trainer=order.trainer, records={order.fold: record})
        exported = export_for_nnunet(package, results, settings)
        files = [path for path in exported.rglob("*") if path.is_file()]
        for file in sorted(files, key=lambda path: path.suffix == ".pth"):  # a checkpoint means that the rest is there
            place = target / file.relative_to(exported)
            place = place.with_name(checkpoint) if file.name == FINAL_CHECKPOINT else place
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)


@contextmanager
def _state_folder(order: TrainingOrder, ranks: Ranks | None = None) -> Iterator[Path]:
    """Yield the folder of the training's state: a temporary one where nothing is to be kept, else emptied to begin.

    Of several processes the first one empties it.
    """
    ranks = ranks or Ranks()
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
    if ranks.writes and folder.exists() and not order.resume:
        shutil.rmtree(folder)
    ranks.wait()
    yield folder
