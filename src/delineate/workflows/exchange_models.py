"""Models in and out: whatever lies on the disk becomes a package, and a package becomes a model of nnU-Net.

Read are packages (folder or zip), the folder of a run, trained-model folders of nnU-Net, its results folders, and the
zips that it exports. A cascade of nnU-Net is two folders side by side; its package holds both stages. Nothing that a
foreign file carries is executed.
"""

from __future__ import annotations

import logging
import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from delineate import __version__
from delineate.errors import ModelError, UnsafeModelError, UsageError
from delineate.formats.model_package import DOCUMENT, ModelPackage, read_package, write_package
from delineate.formats.nnunet.dataset_json import dataset_json
from delineate.formats.nnunet.json_node import read_document
from delineate.formats.nnunet.model_zip import is_model_zip, unpacked_models, write_model_zip
from delineate.formats.nnunet.plans_json import plan_to_json
from delineate.formats.nnunet.statistics_json import statistics_to_json
from delineate.formats.nnunet.summary_json import summary_to_json
from delineate.formats.nnunet.trained_model import (
    FINAL_CHECKPOINT,
    TrainedModel,
    find_trained_folder,
    previous_stage_folder,
    read_trained_model,
    trained_folders,
)
from delineate.formats.nnunet.trained_model_writer import (
    Epoch,
    WrittenFold,
    WrittenModel,
    require_absent,
    write_trained_model,
)
from delineate.networks import check_architecture, check_patch, check_weights, from_nnunet, to_nnunet
from delineate.planning.plan import Configuration, NetworkKind, Plan
from delineate.planning.recipe import Recipe
from delineate.reports import training_picture
from delineate.training.history import Record, read_history
from delineate.workflows.run_folder import RunFolder

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

Form = Literal["nnunet", "nnunet-zip", "package", "package-zip"]
"""What a model can be written as."""

NETWORKS_OF_NNUNET: tuple[NetworkKind, ...] = ("plain_unet", "residual_unet")
ITERATIONS_PER_EPOCH = 250
STANDARD_EPOCHS = 1000
"""nnU-Net's (``nnUNetTrainer``)."""
TRAINER, TRAINER_WITHOUT_MIRRORING = "nnUNetTrainer", "nnUNetTrainerNoMirroring"
"""Trainers that every nnU-Net has; it looks for the class when it predicts."""
FREE_NUMBER = 900
"""Number for a data set that has none; nnU-Net's names begin with one."""

_NUMBERED = re.compile(r"Dataset\d{3}_[\w-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRecord:
    """What is known of the training of a fold beside its weights."""

    history: tuple[Record, ...] = ()
    """One record per validation, see :mod:`delineate.training.history`."""
    summary: Mapping[str, Any] | None = None
    """nnU-Net's ``summary.json`` of the fold's validation cases."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportSettings:
    """How a model is written for nnU-Net."""

    dataset_id: int | None = None
    """Number for the name of the data set; None: its own, or :data:`FREE_NUMBER` if it has none."""
    trainer: str | None = None
    """A trainer that nnU-Net has; None: its standard one, or the one without mirroring."""
    records: Mapping[str, TrainingRecord] = field(default_factory=dict)
    """By fold; what is missing is written as not recorded."""


# --- in


def read_model(
    path: Path,
    *,
    folds: Sequence[str] | None = None,
    checkpoint: str = FINAL_CHECKPOINT,
    configuration: str | None = None,
) -> ModelPackage:
    """Read a model of Delineate or of nnU-Net.

    A cascade of nnU-Net is read with its first stage if that lies beside it, of the same trainer and plans and with the
    same folds; otherwise the package has no ``previous``, and the label maps of that stage are needed to predict.

    Parameters
    ----------
    path
        A package (folder or zip), a run's folder, a trained-model folder of nnU-Net (or a folder that holds some), or
        a zip that nnU-Net exported.
    folds
        Which folds; None: all. Of nnU-Net's ``fold_all`` only if it is named or the only one.
    checkpoint
        nnU-Net only: which of a fold's checkpoints.
    configuration
        Which of several trained models to take, by configuration or whole folder name.

    Raises
    ------
    ModelError
        If there is no model, it is incomplete, damaged or of an unknown kind, or it is not clear which one is meant.
    UnsafeModelError
        If a checkpoint asks for code to be executed, or a zip's names lead out of it.
    """
    if is_model_zip(path):
        with unpacked_models(path, checkpoint=checkpoint) as folder:
            return _read_nnunet(folder, folds, checkpoint, configuration)
    if (path / "model" / DOCUMENT).is_file():
        path = RunFolder(root=path).model
    if not (path / DOCUMENT).is_file() and trained_folders(path):
        return _read_nnunet(path, folds, checkpoint, configuration)
    package = read_package(path, folds=folds)
    trained = package.configuration
    if configuration not in (None, trained.name, trained.inherits_from):
        raise ModelError(f"The model {path} is of configuration {trained.name}; asked for was '{configuration}'.")
    return package


def _read_nnunet(path: Path, folds: Sequence[str] | None, checkpoint: str, configuration: str | None) -> ModelPackage:
    folder = find_trained_folder(path, configuration=configuration)
    trained = read_trained_model(folder, folds=folds, checkpoint=checkpoint, translate=_translated)
    before = _read_previous_stage(trained)
    package = package_of_nnunet(trained)
    if before is None:
        return package
    return replace(package, previous=before, identity=f"{package.identity} after {before.identity}")


def _read_previous_stage(trained: TrainedModel) -> ModelPackage | None:
    """Return the first stage of a cascade that lies beside it; None, with a warning, if it lies there and does not fit.

    Raises
    ------
    UnsafeModelError
        If one of its checkpoints asks for code to be executed.
    """
    folder, folds = previous_stage_folder(trained), tuple(trained.folds)
    if folder is None or not folder.is_dir():
        return None
    try:
        stage = read_trained_model(folder, folds=folds, checkpoint=trained.checkpoint, translate=_translated)
        _check_stages(stage, trained)
    except UnsafeModelError:
        raise
    except ModelError as error:
        logger.warning(
            "The cascade %s is read without its first stage, so that it needs the label maps of that stage to predict: "
            "%s",
            trained.folder,
            error,
        )
        return None
    return package_of_nnunet(stage)


def _check_stages(first: TrainedModel, second: TrainedModel) -> None:
    expected = (second.configuration.previous_stage, second.declaration.channel_names, second.declaration.scheme)
    found = (first.configuration.name, first.declaration.channel_names, first.declaration.scheme)
    differing = [
        what
        for what, one, other in zip(("configuration", "channels", "labels"), found, expected, strict=True)
        if one != other
    ]
    if differing:
        raise ModelError(
            f"{first.folder} is not the first stage of {second.folder.name}: {' and '.join(differing)} differ. Put the "
            "folder there that the cascade was trained after."
        )


def _translated(
    weights: Mapping[str, Tensor], configuration: Configuration, *, in_channels: int, heads: int
) -> Mapping[str, Tensor]:
    check_architecture(configuration.architecture)
    check_patch(configuration.architecture, configuration.patch_size)
    own = from_nnunet(weights)
    check_weights(configuration.architecture, own, in_channels=in_channels, heads=heads)
    return own


def package_of_nnunet(trained: TrainedModel) -> ModelPackage:
    """Return a trained model of nnU-Net as a package; what nnU-Net does not record has nnU-Net's standard value."""
    epochs = [facts.epochs for facts in trained.folds.values() if facts.epochs]
    configuration, name = trained.configuration, trained.plan.dataset_name
    return ModelPackage(
        name=name,
        software=f"nnU-Net, {trained.trainer_name}",
        plan=trained.plan,
        configuration=configuration,
        recipe=Recipe(
            iterations=ITERATIONS_PER_EPOCH * max(epochs, default=STANDARD_EPOCHS),
            iterations_per_epoch=ITERATIONS_PER_EPOCH,
            batch_size=configuration.batch_size,
            patch_size=configuration.patch_size,
            mirror_axes=trained.mirror_axes,
            reasons=(f"trained by nnU-Net with {trained.trainer_name}; its standard settings are noted here",),
        ),
        scheme=trained.declaration.scheme,
        channel_names=trained.declaration.channel_names,
        file_ending=trained.declaration.file_ending,
        mirror_axes=trained.mirror_axes,
        weights=trained.weights,
        facts={
            "training_cases": trained.declaration.training_cases,
            "trainer": trained.trainer_name,
            "checkpoint": trained.checkpoint,
            "epochs": {fold: facts.epochs for fold, facts in trained.folds.items()},
            "pseudo_dice": {fold: facts.best_dice for fold, facts in trained.folds.items()},
        },
        fingerprint=trained.fingerprint,
        identity=f"{name} nnU-Net sha256:{trained.digest}",
    )


def import_model(
    path: Path,
    package: Path,
    *,
    folds: Sequence[str] | None = None,
    checkpoint: str = FINAL_CHECKPOINT,
    configuration: str | None = None,
) -> ModelPackage:
    """Write any model as a package (a zip if the name ends in ``.zip``); see :func:`read_model`.

    Raises
    ------
    ModelError
        If the model cannot be used.
    UsageError
        If the target holds other files.
    """
    model = read_model(path, folds=folds, checkpoint=checkpoint, configuration=configuration)
    return write_package(package, model)


# --- out


def export_model(
    path: Path, out: Path, form: Form, *, folds: Sequence[str] | None = None, dataset_id: int | None = None
) -> Path:
    """Write a model in another form.

    Parameters
    ----------
    path
        Anything that :func:`read_model` reads.
    out
        ``nnunet``: a results folder, below which ``DatasetXXX_Name/...`` appears; ``package``: a folder; else a file.
    form
        What to write.
    folds
        Which folds; None: all.
    dataset_id
        Number for the name of the data set.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    ModelError
        If the model cannot be used, or nnU-Net does not have its network.
    UsageError
        If the target exists, or its name does not fit the form.
    """
    if form.endswith("-zip") != (out.suffix == ".zip"):
        raise UsageError(
            f"A model as '{form}' needs {'a' if form.endswith('-zip') else 'no'} name ending in .zip: {out}."
        )
    package = read_model(path, folds=folds)
    if form in ("package", "package-zip"):
        write_package(out, package)
        return out
    settings = ExportSettings(dataset_id=dataset_id, records=training_records(path, tuple(package.weights)))
    if form == "nnunet":
        return export_for_nnunet(package, out, settings)
    with tempfile.TemporaryDirectory(prefix="delineate-export-") as results:
        export_for_nnunet(package, Path(results), settings)
        write_model_zip(out, trained_folders(Path(results)))
    return out


def export_for_nnunet(package: ModelPackage, results: Path, settings: ExportSettings | None = None) -> Path:
    """Write a package so that unmodified nnU-Net predicts with it, exports it and trains on.

    The first stage of a cascade gets a folder of its own beside the second one, under the same trainer and plans.

    Parameters
    ----------
    package
        A plain or residual-encoder U-Net.
    results
        nnU-Net's results folder.
    settings
        How; None: the defaults.

    Returns
    -------
    Path
        ``results/DatasetXXX_Name/TRAINER__PLANS__CONFIGURATION``; of a cascade that of the second stage.

    Raises
    ------
    ModelError
        If nnU-Net does not have the network.
    UsageError
        If a folder to write exists already; nothing is written then.
    """
    settings = settings or ExportSettings()
    models = _written_models(package, settings)
    require_absent(results, models)
    return [write_trained_model(results, model) for model in models][-1]


def _written_models(package: ModelPackage, settings: ExportSettings) -> tuple[WrittenModel, ...]:
    """Return the stages of a package, first to last, under one name of the data set, one plan and one trainer."""
    mirrored = package.mirror_axes or (package.previous is not None and package.previous.mirror_axes)
    trainer = settings.trainer or (TRAINER if mirrored else TRAINER_WITHOUT_MIRRORING)
    plan, configuration = plan_as_trained(package)
    if package.previous is None:
        return (_written_model(package, plan, configuration, replace(settings, trainer=trainer)),)
    plan, stage = plan_as_trained(package.previous, within=plan)
    return (
        _written_model(package.previous, plan, stage, replace(settings, trainer=trainer, records={})),
        _written_model(package, plan, configuration, replace(settings, trainer=trainer)),
    )


def _written_model(package: ModelPackage, plan: Plan, configuration: str, settings: ExportSettings) -> WrittenModel:
    _require_network_of_nnunet(package)
    name = numbered_name(plan.dataset_name, settings.dataset_id)
    return WrittenModel(
        plans=plan_to_json(replace(plan, dataset_name=name)),
        configuration=configuration,
        dataset=dataset_json(
            channel_names=package.channel_names,
            scheme=package.scheme,
            training_cases=int(package.facts.get("training_cases") or 0),
            file_ending=package.file_ending,
            name=name,
        ),
        fingerprint=package.fingerprint or _fingerprint_of(plan),
        trainer_name=settings.trainer or TRAINER,
        mirror_axes=package.mirror_axes,
        folds={fold: _written_fold(package, fold, settings.records.get(fold)) for fold in package.weights},
        notes={"written_by": f"delineate {__version__}", "model": package.identity, "software": package.software},
    )


def plan_as_trained(package: ModelPackage, *, within: Plan | None = None) -> tuple[Plan, str]:
    """Return the plan with the configuration as it was trained, under the name by which nnU-Net knows it.

    A budget may have trained a smaller patch or network under a name of its own; nnU-Net builds what its plans say.

    Parameters
    ----------
    package
        The model.
    within
        The plan to put the configuration in; None: the model's own.
    """
    plan, trained = within or package.plan, package.configuration
    planned = {c.name: c for c in plan.configurations}
    name = trained.inherits_from if trained.name not in planned and trained.inherits_from in planned else trained.name
    stood = planned.get(name or "", trained)
    changed = replace(
        trained,
        name=stood.name,
        batch_size=package.recipe.batch_size,
        previous_stage=stood.previous_stage,
        next_stage=stood.next_stage,
        inherits_from=stood.inherits_from if stood.inherits_from in planned else None,
    )
    kept = {**planned, stood.name: changed}
    return replace(plan, configurations=tuple(kept.values())), stood.name


def numbered_name(name: str, number: int | None) -> str:
    """Return a data set's name as nnU-Net wants it, ``DatasetXXX_Name``.

    Raises
    ------
    UsageError
        If the number does not have one to three digits.
    """
    if number is not None and not 0 < number < 1000:
        raise UsageError(f"The number of a data set lies between 1 and 999; got {number}.")
    if _NUMBERED.fullmatch(name) and number is None:
        return name
    bare = re.sub(r"^Dataset\d{3}_", "", name)
    words = re.sub(r"[^\w-]+", "_", bare).strip("_") or "Model"
    return f"Dataset{number or FREE_NUMBER:03d}_{words}"


def training_records(path: Path, folds: Sequence[str]) -> dict[str, TrainingRecord]:
    """Return what the run that a package lies in recorded of its folds; nothing if it lies elsewhere."""
    for root in (path, path.parent):
        run = RunFolder(root=root)
        if run.settings.is_file() and (run.model / DOCUMENT).is_file():
            return {fold: _record(run, fold) for fold in folds}
    return {}


def _record(run: RunFolder, fold: str) -> TrainingRecord:
    summary = run.validation(fold) / "summary.json"
    content = read_document(summary).value if summary.is_file() else None
    return TrainingRecord(history=read_history(run.fold(fold)), summary=content)


def _require_network_of_nnunet(package: ModelPackage) -> None:
    kind = package.configuration.architecture.kind
    if kind not in NETWORKS_OF_NNUNET:
        raise ModelError(
            f"The model {package.name} is a network that nnU-Net does not have ({kind}); it has only "
            f"{', '.join(NETWORKS_OF_NNUNET)}. Export it as a package, or train one of these."
        )


def _written_fold(package: ModelPackage, fold: str, record: TrainingRecord | None) -> WrittenFold:
    record = record or TrainingRecord()
    epochs = [_epoch(entry) for entry in record.history]
    own = {name: tensor.detach().float().contiguous() for name, tensor in package.weights[fold].items()}
    return WrittenFold(
        weights=to_nnunet(own),
        parameters=len(own),
        epochs=epochs,
        summary=record.summary or summary_to_json((), package.scheme),
        picture=training_picture([e.train_loss for e in epochs], [e.smoothed_dice for e in epochs]),
    )


def _epoch(entry: Record) -> Epoch:
    return Epoch(
        train_loss=_known(entry.get("loss")),
        dice_per_structure=tuple(_known(value) for value in entry.get("dice", {}).values()),
        mean_dice=_known(entry.get("mean_dice")),
        smoothed_dice=_known(entry.get("smoothed_dice")),
        learning_rate=_known(entry.get("learning_rate")),
        end_seconds=_known(entry.get("seconds")),
    )


def _known(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _fingerprint_of(plan: Plan) -> dict[str, Any]:
    """Return what the plan still tells of the data: the medians, as if of a single case."""
    return {
        "foreground_intensity_properties_per_channel": statistics_to_json(plan.intensities),
        "median_relative_size_after_cropping": 1.0,
        "shapes_after_crop": [[round(n) for n in plan.original_median_shape]],
        "spacings": [list(plan.original_median_spacing_mm)],
    }
