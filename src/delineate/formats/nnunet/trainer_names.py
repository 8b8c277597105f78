"""nnU-Net's trainer classes as values: what a stock trainer of that name changes in the recipe.

A trainer's name travels with a model (nnU-Net looks its class up when it predicts), so only names of classes that
nnU-Net has are taken, and only those whose differences a recipe can express exactly.

References
----------
nnU-Net 2.8.1: ``training/nnUNetTrainer/nnUNetTrainer.py`` and its ``variants``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from delineate.errors import UsageError
from delineate.planning.recipe import Recipe

STANDARD_TRAINER = "nnUNetTrainer"
ITERATIONS_PER_EPOCH = 250
"""Optimiser steps of an epoch (nnU-Net)."""
LENGTHS = (1, 5, 10, 20, 50, 100, 250, 500, 750, 2000, 4000, 8000)
"""Epochs for which nnU-Net has a trainer ``nnUNetTrainer_{n}epochs``."""
LENGTHS_WITHOUT_MIRRORING = (250, 2000, 4000, 8000)
"""Epochs for which there is ``nnUNetTrainer_{n}epochs_NoMirroring`` as well."""

Change = Callable[[Recipe], Recipe]


def _epochs(count: int) -> Change:
    return lambda recipe: replace(recipe, iterations=count * ITERATIONS_PER_EPOCH)


def _unmirrored(recipe: Recipe) -> Recipe:
    return replace(recipe, mirror_axes=())


def _mirrored_01(recipe: Recipe) -> Recipe:
    """Mirror the first two axes of a volume, or the first of a plane."""
    return replace(recipe, mirror_axes=(0, 1) if len(recipe.patch_size) == 3 else (0,))


def _unaugmented(recipe: Recipe) -> Recipe:
    return replace(recipe, augmentation="none", mirror_axes=())


def _unsupervised_depths(recipe: Recipe) -> Recipe:
    return replace(recipe, deep_supervision=False)


def _name(epochs: int) -> str:
    return f"{STANDARD_TRAINER}_{epochs}epoch{'' if epochs == 1 else 's'}"


TRAINERS: dict[str, tuple[Change, ...]] = {
    STANDARD_TRAINER: (),
    **{_name(count): (_epochs(count),) for count in LENGTHS},
    **{f"{_name(count)}_NoMirroring": (_epochs(count), _unmirrored) for count in LENGTHS_WITHOUT_MIRRORING},
    "nnUNetTrainerNoMirroring": (_unmirrored,),
    "nnUNetTrainer_onlyMirror01": (_mirrored_01,),
    "nnUNetTrainer_onlyMirror01_1500ep": (_mirrored_01, _epochs(1500)),
    "nnUNetTrainerNoDA": (_unaugmented,),
    "nnUNetTrainerNoDeepSupervision": (_unsupervised_depths,),
}
"""The trainers that can be had -> what each changes in nnU-Net's standard recipe."""


def recipe_of_trainer(trainer: str, standard: Recipe) -> Recipe:
    """Return the standard recipe as the trainer of that name changes it.

    Raises
    ------
    UsageError
        If the name is not one of :data:`TRAINERS`; names them.
    """
    if trainer not in TRAINERS:
        raise UsageError(
            f"The trainer '{trainer}' cannot be had here. A trainer is a class of nnU-Net; those whose changes are "
            f"known as values are understood: {', '.join(TRAINERS)}."
        )
    recipe = standard
    for change in TRAINERS[trainer]:
        recipe = change(recipe)
    return recipe
