from __future__ import annotations

import re

import pytest

from delineate.errors import UsageError
from delineate.formats.nnunet.trainer_names import STANDARD_TRAINER, TRAINERS, recipe_of_trainer
from delineate.planning.recipe import Recipe

VOLUMES = Recipe(iterations=250_000, batch_size=2, patch_size=(32, 32, 32), mirror_axes=(0, 1, 2))
PLANES = Recipe(iterations=250_000, batch_size=2, patch_size=(32, 32), mirror_axes=(0, 1))


def test_the_standard_trainer_changes_nothing() -> None:
    assert recipe_of_trainer(STANDARD_TRAINER, VOLUMES) == VOLUMES


@pytest.mark.parametrize("name", sorted(TRAINERS))
def test_a_trainer_keeps_what_its_name_says(name: str) -> None:
    recipe = recipe_of_trainer(name, VOLUMES)
    length = re.search(r"_(\d+)ep", name)
    assert recipe.iterations == 250 * (int(length[1]) if length else 1000)
    assert (recipe.mirror_axes == ()) == ("NoMirroring" in name or "NoDA" in name)
    assert recipe.deep_supervision == ("NoDeepSupervision" not in name)
    assert (recipe.augmentation == "none") == ("NoDA" in name)


def test_mirroring_of_the_first_axes_depends_on_the_dimension() -> None:
    assert recipe_of_trainer("nnUNetTrainer_onlyMirror01", VOLUMES).mirror_axes == (0, 1)
    assert recipe_of_trainer("nnUNetTrainer_onlyMirror01", PLANES).mirror_axes == (0,)


@pytest.mark.parametrize("name", ["nnUNetTrainerDA5", "nnUNetTrainer_3epochs", "nnUNetTrainer_1epochs", ""])
def test_others_are_refused_with_the_list(name: str) -> None:
    with pytest.raises(UsageError, match="nnUNetTrainer_250epochs_NoMirroring"):
        recipe_of_trainer(name, VOLUMES)
