"""Training that starts from a trained model: which model, how its weights become first weights, what is noted of it.

The run's folder keeps `origin.json`: which model it was, by path and identity, and what became of its weights. First
weights are made from the model again whenever a fold begins; a fold that has begun goes on from its checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delineate.case.labels import LabelScheme
from delineate.errors import ModelError, UsageError
from delineate.execution import write_text
from delineate.formats.datasets import Dataset
from delineate.formats.model_package import ModelPackage
from delineate.formats.nnunet.json_node import read_document
from delineate.formats.recipe_json import write_recipe
from delineate.networks import build_network, load_weights
from delineate.networks.transfer import BACKGROUND, Interface, TransferReport, transfer
from delineate.planning.fine_tuning import TrainedNetwork, fine_tuned, reasons_for
from delineate.planning.plan import Configuration
from delineate.planning.recipe import Recipe
from delineate.training.checkpoint import has_checkpoint
from delineate.training.validation import head_names
from delineate.workflows.exchange_models import read_model
from delineate.workflows.run_folder import RunFolder

if TYPE_CHECKING:
    from torch import Tensor, nn

CHECKPOINT_SUFFIX = ".pth"
"""Of nnU-Net's checkpoints, which lie in `fold_X` of a trained-model folder."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StartingPoint:
    """A trained model to start from."""

    path: Path
    package: ModelPackage

    @property
    def network(self) -> TrainedNetwork:
        """What a plan takes over of it.

        Raises
        ------
        PlanError
            If the model is the second stage of a cascade.
        """
        return TrainedNetwork(
            name=self.package.name,
            plan=self.package.plan,
            configuration=self.package.configuration,
            channel_names=self.package.channel_names,
        )

    def weights_for(self, fold: str) -> tuple[str, dict[str, Tensor]]:
        """Return name and weights of the model's fold for a fold here: the one of the same name, else the first."""
        weights = self.package.weights
        chosen = fold if fold in weights else next(iter(weights))
        return chosen, dict(weights[chosen])


def read_starting_point(path: Path) -> StartingPoint:
    """Read a model to start from: a package, a run, a model of nnU-Net (folder or zip), or one of its checkpoints.

    Raises
    ------
    ModelError
        If there is no model, or it is damaged.
    UnsafeModelError
        If a checkpoint asks for code to be executed.
    """
    place = path.resolve()
    if path.suffix == CHECKPOINT_SUFFIX and path.is_file():
        folder, fold = place.parent.parent, place.parent.name.removeprefix("fold_")
        if not (folder / "plans.json").is_file():
            raise ModelError(
                f"{path} is read with the plans.json and dataset.json of its model, two folders up; there are none in "
                f"{folder}. Name the checkpoint where nnU-Net keeps it, in MODEL/fold_X, or the model's folder or zip."
            )
        return StartingPoint(path=place, package=read_model(folder, folds=(fold,), checkpoint=path.name))
    return StartingPoint(path=place, package=read_model(place))


def start_from(
    start: StartingPoint, dataset: Dataset, folder: RunFolder, configuration: Configuration, recipe: Recipe
) -> Recipe:
    """Note the model in a run's folder and write the recipe of a fine-tuning; a run that has begun stays as it is.

    Raises
    ------
    UsageError
        If training in the folder began from something else, or the configuration is the second stage of a cascade.
    ModelError
        If the configuration's network is not the model's; says what to do.
    """
    if folder.origin.exists() and _read_origin(folder)["identity"] == start.package.identity and folder.recipe.exists():
        return recipe
    if any(has_checkpoint(fold) for fold in folder.root.glob("fold_*")):
        raise UsageError(
            f"Training in {folder.root} has begun already, and not from {start.path}. Plan into a new folder: "
            f"`delineate plan {dataset.root} --from {start.path} --out FOLDER`."
        )
    if configuration.previous_stage is not None:
        raise UsageError(
            f"{folder.root} is planned for the second stage of a cascade ({configuration.name}), which cannot start "
            "from a model, because its input channels are its own. Plan 3d_fullres or 3d_lowres."
        )
    _, report = first_weights(start, dataset, configuration, seed=recipe.seed, fold="0")
    _write_origin(folder, start, report)
    reasons = reasons_for(start.network, configuration, dataset.channel_names)
    told = (f"Starts from the model {start.package.identity}.", *reasons, *report.sentences())
    tuned = fine_tuned(recipe, told, start.package.mirror_axes)
    write_recipe(folder.recipe, configuration, tuned)
    return tuned


def begin_from_origin(
    network: nn.Module, dataset: Dataset, folder: RunFolder, configuration: Configuration, *, seed: int, fold: str
) -> None:
    """Fill a fresh network, in place, with the weights of the model that the run starts from, if it starts from one.

    A fold that has a checkpoint needs no first weights, and the model may be gone by then.

    Raises
    ------
    ModelError
        If the model is gone or is not the one that was planned with.
    """
    if not folder.origin.exists() or has_checkpoint(folder.fold(fold)):
        return
    origin = _read_origin(folder)
    start = read_starting_point(Path(origin["path"]))
    if start.package.identity != origin["identity"]:
        raise ModelError(
            f"The run in {folder.root} starts from the model {origin['identity']}, but {origin['path']} holds "
            f"{start.package.identity} now. Put the model back, or plan again into another folder."
        )
    weights, _ = first_weights(start, dataset, configuration, seed=seed, fold=fold)
    load_weights(network, weights)


def first_weights(
    start: StartingPoint, dataset: Dataset, configuration: Configuration, *, seed: int, fold: str
) -> tuple[dict[str, Tensor], TransferReport]:
    """Return the first weights of a fold and what became of the model's; the same seed gives the same weights.

    Raises
    ------
    ModelError
        If the configuration's network is not the model's.
    """
    network = build_network(
        configuration.architecture,
        in_channels=len(dataset.channel_names),
        heads=dataset.scheme.head_count,
        seed=seed,
    )
    _, trained = start.weights_for(fold)
    package = start.package
    return transfer(
        trained,
        network.state_dict(),
        source=interface_of(package.channel_names, package.scheme),
        target=interface_of(dataset.channel_names, dataset.scheme),
    )


def interface_of(channel_names: Sequence[str], scheme: LabelScheme) -> Interface:
    """Return what goes in and out of a network for these channels and labels."""
    background = () if scheme.has_regions else (BACKGROUND,)
    return Interface(
        channels=tuple(channel_names), heads=(*background, *head_names(scheme)), exclusive=not scheme.has_regions
    )


def origin_facts(folder: RunFolder) -> dict[str, Any]:
    """Return what a model package notes of the model that the run started from; nothing if it started from none."""
    return {"origin": _read_origin(folder)} if folder.origin.exists() else {}


def _write_origin(folder: RunFolder, start: StartingPoint, report: TransferReport) -> None:
    package = start.package
    origin = {
        "name": package.name,
        "identity": package.identity,
        "software": package.software,
        "licence": package.licence,
        "path": str(start.path),
        "configuration": package.configuration.name,
        "folds": list(package.weights),
        "transfer": list(report.sentences()),
        "adapted": list(report.adapted),
        "at_random": list(report.fresh),
    }
    write_text(folder.origin, json.dumps(origin, indent=2, ensure_ascii=False))


def _read_origin(folder: RunFolder) -> dict[str, Any]:
    document = read_document(folder.origin)
    return {key: document.value[key] for key in document.keys()}
