"""A training on instances that starts from a trained model: which one, what is taken over, and what changes by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from delineate.errors import ModelError
from delineate.formats.instance_package import InstancePackage, is_instance_package, read_instance_package
from delineate.networks.instance_transfer import InstanceTransfer, transfer_instances
from delineate.networks.instance_unet import InstanceUNet
from delineate.planning.recipe import Recipe
from delineate.workflows.nuclei_model import find_package

RATE_SHARE = 0.25
"""Of the learning rate: what the model knows is refined and not undone."""
SAME_DATA_SHARE = 0.075
"""Likewise, if the model was trained on the same data: there is little left to learn."""
FINE_TUNING_STEPS = 10_000
"""Without a budget; a quarter of a training from the beginning."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InstanceStart:
    """A trained model of instances to start from."""

    path: Path
    package: InstancePackage

    def begun(self, network: InstanceUNet, types: Sequence[str]) -> InstanceTransfer:
        """Give a fresh network the model's values, in place.

        Raises
        ------
        ModelError
            If it is another network.
        """
        try:
            return transfer_instances(self.package.weights, self.package.type_names, network, types)
        except ModelError as error:
            raise ModelError(f"{self.path}: {error}") from error

    def knows(self, datasets: Sequence[str]) -> bool:
        """Say whether the model was trained on data sets of these names, and no others are among them."""
        return set(datasets) <= set(self.package.facts.get("data", ()))

    def tuned(self, recipe: Recipe, datasets: Sequence[str]) -> Recipe:
        """Return the recipe of a training on data sets that goes on from the model."""
        steps = recipe.iterations if recipe.budget_seconds is not None else min(recipe.iterations, FINE_TUNING_STEPS)
        share = SAME_DATA_SHARE if self.knows(datasets) else RATE_SHARE
        return replace(recipe, learning_rate=recipe.learning_rate * share, iterations=steps)

    def reasons(self, transfer: InstanceTransfer, recipe: Recipe, datasets: Sequence[str]) -> tuple[str, ...]:
        """Say what the training starts from; ``recipe`` is the tuned one."""
        package, known = self.package, self.knows(datasets)
        return (
            f"Training starts from the model {package.name} ({', '.join(package.type_names) or 'no types'}; "
            f"{package.identity.rsplit(' ', 1)[-1][:12]}).",
            *transfer.sentences(),
            f"The learning rate is {recipe.learning_rate:.3g} at most, {SAME_DATA_SHARE if known else RATE_SHARE:g} of "
            "that of a fresh network, so that what the model knows is refined and not undone.",
            *(
                ("The model was trained on these data sets, so its statistics for normalisation are kept.",)
                if known
                else ()
            ),
        )

    def facts(self, transfer: InstanceTransfer) -> dict[str, Any]:
        """Return what a package notes of the model that it started from, as JSON values."""
        package = self.package
        return {
            "name": package.name,
            "identity": package.identity,
            "software": package.software,
            "licence": package.licence,
            "data": list(package.facts.get("data", ())),
            "sources": dict(package.facts.get("sources", {})),
            "transfer": list(transfer.sentences()),
        }

    @property
    def held_out(self) -> Mapping[str, Sequence[str]]:
        """Data set's name to the ids that the model was not trained on."""
        held: Mapping[str, Sequence[str]] = self.package.facts.get("held_out", {})
        return held

    def seen(self, held_out: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
        """Return the data sets of which the model may have seen what is held out now.

        Parameters
        ----------
        held_out
            Data set's name to the ids that are held out now.
        """
        known = set(self.package.facts.get("data", ()))
        return tuple(
            name for name, ids in held_out.items() if name in known and not set(ids) <= set(self.held_out.get(name, ()))
        )


def read_instance_start(path: Path) -> InstanceStart:
    """Read a model to start from: a package, a run's folder, or a model of the program by name (``nuclei``).

    Raises
    ------
    ModelError
        If there is none, or it is damaged or of another kind.
    """
    folder = find_package(path)
    if folder.is_file() or (folder.exists() and not is_instance_package(folder)):
        raise ModelError(
            f"{path}: expected a model of instances that `delineate run` trained on pictures; found something else. "
            "Other networks cannot be trained further here."
        )
    return InstanceStart(path=path, package=read_instance_package(folder))
