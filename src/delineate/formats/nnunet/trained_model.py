"""Trained models of nnU-Net v2 as they lie on the disk, read without running anything of them.

    nnUNet_results/DatasetXXX_Name/TRAINER__PLANS__CONFIGURATION/
        plans.json  dataset.json  dataset_fingerprint.json
        fold_0 ... fold_4, fold_all/checkpoint_final.pth, checkpoint_best.pth, checkpoint_latest.pth

As in nnU-Net 2.8.1 (``inference/predict_from_raw_data.py``) the configuration and the mirror axes come from the
checkpoint, everything else from the two JSON files beside the folds; the trainer's name is not interpreted. Knows no
networks: whether weights belong to the network of the plan is asked of a function that the caller passes.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from delineate.case.labels import LabelScheme
from delineate.errors import DelineateError, ModelError, PlanError, UnsafeModelError, UsageError
from delineate.formats.nnunet.dataset_json import scheme_from_json
from delineate.formats.nnunet.json_node import Node, read_document
from delineate.formats.nnunet.plans_json import plan_from_json
from delineate.planning.plan import Configuration, Plan

if TYPE_CHECKING:
    from torch import Tensor

    from delineate.formats.torch_checkpoint import NnunetCheckpoint

logger = logging.getLogger(__name__)

PLANS_FILE = "plans.json"
DATASET_FILE = "dataset.json"
FINGERPRINT_FILE = "dataset_fingerprint.json"
READERS = (
    "NaturalImage2DIO",
    "SimpleITKIO",
    "SimpleITKIOWithReorient",
    "Tiff3DIO",
    "NibabelIO",
    "NibabelIOWithReorient",
)
"""nnU-Net's own (2.8.1); what those with ``WithReorient`` turn is turned here too."""
FINAL_CHECKPOINT = "checkpoint_final.pth"
ALL_CASES = "all"
"""nnU-Net's name of the fold that is trained on every case."""

SEPARATOR = "__"
"""Between trainer, plans and configuration in the name of the folder."""
LEVELS = 3
"""How deep a trained model may lie below the folder that is given: results, data set, and the root of a zip."""

_FOLD_FOLDER = re.compile(r"fold_(\d+|all)")
_CHECKPOINT_NAME = re.compile(r"[A-Za-z0-9_.-]+\.pth")
_T = TypeVar("_T")


class Translate(Protocol):
    """Turns nnU-Net's weights into those of the caller's network.

    Raises
    ------
    ModelError
        If the weights are not of the network that configuration, channels and heads describe.
    """

    def __call__(
        self, weights: Mapping[str, Tensor], configuration: Configuration, *, in_channels: int, heads: int
    ) -> Mapping[str, Tensor]:
        """Return the translated weights."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Declaration:
    """What ``dataset.json`` says of the images and labels."""

    channel_names: tuple[str, ...]
    scheme: LabelScheme
    file_ending: str
    training_cases: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldFacts:
    """What a checkpoint says of its training; None where it does not say."""

    epochs: int | None
    best_dice: float | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainedModel:
    """A trained model of nnU-Net: values only."""

    folder: Path
    trainer_name: str
    checkpoint: str
    """File name of the checkpoints."""
    plan: Plan
    configuration: Configuration
    declaration: Declaration
    mirror_axes: tuple[int, ...]
    """Patch axes that may be flipped in prediction; empty where the checkpoint names none."""
    weights: Mapping[str, Mapping[str, Tensor]]
    """Fold -> translated parameter name -> tensor on the CPU."""
    folds: Mapping[str, FoldFacts]
    fingerprint: Mapping[str, Any]
    """``dataset_fingerprint.json``; empty if there is none."""
    digest: str
    """SHA-256 over plans, declaration and checkpoints, hexadecimal."""


def trained_folders(path: Path) -> list[Path]:
    """Return the trained models at or below a folder: those of the first level that has any, complete or not."""
    if not path.is_dir():
        return []
    level = [path]
    for _ in range(LEVELS + 1):
        if found := [folder for folder in level if _looks_trained(folder)]:
            return found
        level = [child for folder in level for child in _children(folder)]
    return []


def find_trained_folder(path: Path, *, configuration: str | None = None) -> Path:
    """Return the folder of the one trained model in ``path``.

    Parameters
    ----------
    path
        A trained model's folder, a folder of a data set with several of them, or nnU-Net's results folder.
    configuration
        Which one to take: a configuration (``3d_fullres``) or a whole folder name; None if there is only one.

    Raises
    ------
    ModelError
        If there is none, or it is not clear which one is meant; names those that are there.
    """
    found = trained_folders(path)
    if not found:
        raise ModelError(
            f"There is no trained model of nnU-Net in {path}: expected a folder TRAINER__PLANS__CONFIGURATION with "
            f"{PLANS_FILE}, {DATASET_FILE} and fold_0 to fold_4."
        )
    wanted = [folder for folder in found if configuration in (None, folder.name, _configuration_part(folder))]
    # a model that was given directly may lie in a folder of any name; its checkpoint tells the configuration
    if found == [path] and not wanted and SEPARATOR not in path.name:
        wanted = found
    if len(wanted) == 1:
        return wanted[0]
    there = ", ".join(str(folder.relative_to(path)) if folder != path else folder.name for folder in found)
    asked = f"'{configuration}' fits {len(wanted)} of them" if configuration else "several"
    raise ModelError(
        f"{path} holds these trained models of nnU-Net: {there} ({asked}). Choose one by its configuration or by the "
        "whole name of its folder (`configuration=`, `--configuration`), or give its folder."
    )


def previous_stage_folder(trained: TrainedModel) -> Path | None:
    """Return where the stage before a cascade lies if it was trained in the same results folder; None if nowhere.

    nnU-Net looks for it under the same trainer and plans (2.8.1, ``nnUNetTrainer.__init__``).
    """
    stage, parts = trained.configuration.previous_stage, trained.folder.absolute().name.split(SEPARATOR)
    if stage is None or len(parts) != 3:
        return None
    return trained.folder.absolute().with_name(SEPARATOR.join((*parts[:2], stage)))


def read_trained_model(
    folder: Path, *, folds: Sequence[str] | None = None, checkpoint: str = FINAL_CHECKPOINT, translate: Translate
) -> TrainedModel:
    """Read a trained model; all faults of the folder are told at once.

    Parameters
    ----------
    folder
        ``TRAINER__PLANS__CONFIGURATION``; its name does not matter.
    folds
        Which folds (``0`` ... ``4``, ``all``); None: every numbered fold, or ``all`` if it is the only one.
    checkpoint
        Which of a fold's checkpoints.
    translate
        Turns the weights into the caller's names and complains about those of another network.

    Raises
    ------
    ModelError
        If files are missing or damaged, folds do not belong together, or the weights are of another network.
    UnsafeModelError
        If a checkpoint asks for code to be executed.
    UsageError
        If the checkpoint's name is no file name.
    """
    if not _CHECKPOINT_NAME.fullmatch(checkpoint):
        raise UsageError(f"A checkpoint is named like {FINAL_CHECKPOINT}; got '{checkpoint}'.")
    faults = _Faults()
    declaration = faults.collect(lambda: _declaration(folder / DATASET_FILE))
    document = faults.collect(lambda: read_document(folder / PLANS_FILE))
    files = _checkpoint_files(folder, folds, checkpoint, faults)
    checkpoints = _read_checkpoints(files, faults)
    planned = None if document is None or not checkpoints else faults.collect(lambda: _planned(document, checkpoints))
    weights = {}
    if planned is not None and declaration is not None:
        faults.collect(lambda: _check_fit(planned[1], declaration))
        faults.collect(lambda: _check_axes(planned[1], checkpoints))
        weights = _weights(checkpoints, planned[1], declaration, translate, faults)
    if faults.found or planned is None or declaration is None:
        raise faults.error(folder)
    _warn_of_other_plans(folder, checkpoints, planned)
    _warn_of_unknown_reader(folder, planned[0])
    first = next(iter(checkpoints.values()))
    return TrainedModel(
        folder=folder,
        trainer_name=first.trainer_name,
        checkpoint=checkpoint,
        plan=planned[0],
        configuration=planned[1],
        declaration=declaration,
        mirror_axes=first.mirror_axes or (),
        weights=weights,
        folds={fold: FoldFacts(epochs=c.epochs, best_dice=c.best_dice) for fold, c in checkpoints.items()},
        fingerprint=_fingerprint(folder / FINGERPRINT_FILE),
        digest=_digest([folder / PLANS_FILE, folder / DATASET_FILE, *files.values()]),
    )


class _Faults:
    """Collects what is wrong with a folder, so that all of it is told at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, fault: str) -> None:
        self.found.append(fault.rstrip("."))

    def collect(self, read: Callable[[], _T], *, where: str = "") -> _T | None:
        """Return what ``read`` returns, or note its error; an unsafe file stops everything."""
        try:
            return read()
        except UnsafeModelError:
            raise
        except DelineateError as error:
            self.add(f"{where}{error}")
            return None

    def error(self, folder: Path) -> ModelError:
        return ModelError(f"The trained model {folder} cannot be used: {'; '.join(self.found)}.")


# --- finding


def _looks_trained(folder: Path) -> bool:
    if len(folder.name.split(SEPARATOR)) == 3:
        return True
    return (folder / PLANS_FILE).is_file() and any(_FOLD_FOLDER.fullmatch(child.name) for child in _children(folder))


def _children(folder: Path) -> list[Path]:
    """Return the folders in a folder; none if it must not be looked into."""
    try:
        return sorted(child for child in folder.iterdir() if child.is_dir())
    except OSError:
        return []


def _configuration_part(folder: Path) -> str:
    return folder.name.split(SEPARATOR)[-1]


def _checkpoint_files(folder: Path, folds: Sequence[str] | None, checkpoint: str, faults: _Faults) -> dict[str, Path]:
    """Return the checkpoint of every fold that is to be read."""
    there = _folds_in(folder)
    if not there:
        faults.add(f"it has no folder fold_0 to fold_4 or fold_{ALL_CASES} with a checkpoint")
    files = {}
    for fold in _chosen(there, folds):
        file = folder / f"fold_{fold}" / checkpoint
        if fold not in there:
            faults.add(f"it has no fold '{fold}', but {', '.join(there) or 'none'}")
        elif file.is_file():
            files[fold] = file
        else:
            faults.add(_missing_checkpoint(file))
    return files


def _chosen(there: Sequence[str], folds: Sequence[str] | None) -> Sequence[str]:
    """Return the folds to read; like nnU-Net, the fold of all cases is not mixed with those of cross-validation."""
    if folds is not None:
        return tuple(dict.fromkeys(folds))
    return [fold for fold in there if fold != ALL_CASES] or there


def _folds_in(folder: Path) -> list[str]:
    matches = [_FOLD_FOLDER.fullmatch(child.name) for child in _children(folder)]
    names = [match[1] for match in matches if match]
    return sorted(names, key=lambda name: (name == ALL_CASES, len(name), name))


def _missing_checkpoint(file: Path) -> str:
    others = sorted(other.name for other in file.parent.glob("*.pth"))
    choice = f" (there is {', '.join(others)}; choose one with `checkpoint`)" if others else ""
    return f"{file.parent.name} has no {file.name}{choice}; give the folds that are complete, or finish this one"


# --- reading


def _declaration(file: Path) -> Declaration:
    root = read_document(file)
    channels = root.get("channel_names") or root.child("modality")  # nnU-Net v1 called them so
    count, ending = root.get("numTraining"), root.get("file_ending")
    return Declaration(
        channel_names=tuple(channels.child(str(i)).text() for i in range(len(channels.keys()))),
        scheme=scheme_from_json(root.value, source=str(file)),
        file_ending=".nii.gz" if ending is None else ending.file_name(),
        training_cases=0 if count is None else count.integer(),
    )


def _read_checkpoints(files: Mapping[str, Path], faults: _Faults) -> dict[str, NnunetCheckpoint]:
    from delineate.formats.torch_checkpoint import read_nnunet_checkpoint

    found = {}
    for fold, file in files.items():
        read = faults.collect(lambda file=file: read_nnunet_checkpoint(file))  # type: ignore[misc]
        if read is not None:
            found[fold] = read
    for what, values in (
        ("configurations", {fold: c.configuration for fold, c in found.items()}),
        ("mirror axes", {fold: str(c.mirror_axes) for fold, c in found.items()}),
        ("plans", _trained_with(found)),
    ):
        if len(set(values.values())) > 1:
            told = ", ".join(f"fold {fold}: {value}" for fold, value in values.items())
            faults.add(f"its folds were trained with different {what} ({told})")
    return found


def _trained_with(checkpoints: Mapping[str, NnunetCheckpoint]) -> dict[str, str]:
    """Return per fold what its own copy of the plans says that prediction depends on; folds without one are left out.

    nnU-Net keeps the plans in every checkpoint but predicts with the file, so names and training settings may differ.
    """
    found = {}
    for fold, checkpoint in checkpoints.items():
        try:
            plan = plan_from_json(checkpoint.init_args.get("plans"), source=f"fold {fold}")  # type: ignore[arg-type]
            found[fold] = _essence(plan, plan.configuration(checkpoint.configuration))
        except PlanError:
            continue
    return found


def _essence(plan: Plan, configuration: Configuration) -> str:
    return (
        f"spacing {configuration.spacing_mm}, patch {configuration.patch_size}, "
        f"normalisation {configuration.normalization}, axes {plan.transpose_forward}, "
        f"features {configuration.architecture.features}, strides {configuration.architecture.strides}"
    )


def _planned(document: Node, checkpoints: Mapping[str, NnunetCheckpoint]) -> tuple[Plan, Configuration]:
    """Return the plan and the trained configuration; others that are not understood are left out with a warning."""
    name = next(iter(checkpoints.values())).configuration
    try:
        plan = plan_from_json(document.value, source=document.source)
    except PlanError as error:
        plan = plan_from_json(_only(document, name), source=document.source)
        logger.warning("Only the configuration %s of the plan is read: %s", name, error)
    return plan, plan.configuration(name)


def _only(document: Node, name: str) -> dict[str, Any]:
    """Return the plans with one configuration and those that it inherits from."""
    configurations = document.child("configurations")
    line: dict[str, Any] = {}
    following: str | None = name
    while following is not None and following not in line:
        node = configurations.child(following)
        line[following] = node.value
        parent = node.get("inherits_from")
        following = None if parent is None else parent.text()
    return {**document.value, "configurations": line}


def _check_fit(configuration: Configuration, declaration: Declaration) -> None:
    channels = len(declaration.channel_names)
    if len(configuration.normalization) != channels:
        raise PlanError(
            f"{PLANS_FILE} normalises {len(configuration.normalization)} channels and {DATASET_FILE} names {channels}"
        )
    if any(not (math.isfinite(mm) and mm > 0) for mm in configuration.spacing_mm):
        raise PlanError(f"{PLANS_FILE}: spacings must be positive; found {configuration.spacing_mm}")


def _check_axes(configuration: Configuration, checkpoints: Mapping[str, NnunetCheckpoint]) -> None:
    for fold, checkpoint in checkpoints.items():
        axes = checkpoint.mirror_axes or ()
        if len(set(axes)) != len(axes) or any(not 0 <= axis < configuration.dims for axis in axes):
            raise ModelError(f"fold {fold} names the mirror axes {axes} of a patch of {configuration.dims} axes")


def _weights(
    checkpoints: Mapping[str, NnunetCheckpoint],
    configuration: Configuration,
    declaration: Declaration,
    translate: Translate,
    faults: _Faults,
) -> dict[str, Mapping[str, Tensor]]:
    # a cascade's network also sees one channel per label of the stage before (nnU-Net)
    labels = len(declaration.scheme.values) if configuration.previous_stage is not None else 0
    channels, heads = len(declaration.channel_names) + labels, declaration.scheme.head_count
    found = {}
    for fold, checkpoint in checkpoints.items():
        weights = faults.collect(
            lambda read=checkpoint: translate(read.weights, configuration, in_channels=channels, heads=heads),  # type: ignore[misc]
            where=f"fold {fold}: ",
        )
        if weights is not None:
            found[fold] = weights
    return found


def _warn_of_other_plans(
    folder: Path, checkpoints: Mapping[str, NnunetCheckpoint], planned: tuple[Plan, Configuration]
) -> None:
    trained = set(_trained_with(checkpoints).values())
    if trained and trained != {_essence(*planned)}:
        logger.warning(
            "%s was changed after training: the checkpoints were trained with %s, the file says %s. The file counts.",
            folder / PLANS_FILE,
            *trained,
            _essence(*planned),
        )


def _warn_of_unknown_reader(folder: Path, plan: Plan) -> None:
    if plan.image_reader not in READERS:
        logger.warning(
            "%s names the image reader %s, which is none of nnU-Net's; images are read as SimpleITKIO reads them.",
            folder / PLANS_FILE,
            plan.image_reader,
        )


def _fingerprint(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    document = read_document(file)
    return {key: document.value[key] for key in document.keys()}


def _digest(files: Sequence[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()
