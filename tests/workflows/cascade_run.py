"""A run folder whose plan has tiny 2d, 3d_lowres, 3d_fullres and 3d_cascade_fullres configurations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from delineate.formats.nnunet.plans_json import read_plan, write_plan
from delineate.formats.recipe_json import read_recipe, write_recipe
from delineate.planning.plan import Architecture, Configuration
from delineate.workflows.run_dataset import RunSettings, plan_run
from delineate.workflows.run_folder import RunFolder

SETTINGS = RunSettings(budget_seconds=None, device="cpu")
STEPS = 4


def network(dims: int) -> Architecture:
    return Architecture(
        kind="plain_unet",
        dims=dims,
        features=(4, 8, 8),
        kernel_sizes=((3,) * dims,) * 3,
        strides=((1,) * dims, (2,) * dims, (2,) * dims),
        encoder_blocks=(1, 1, 1),
        decoder_convs=(1, 1),
    )


def tiny_configurations(full: Configuration, flat: Configuration) -> tuple[Configuration, ...]:
    tiny = replace(full, patch_size=(16, 16, 16), batch_size=2, architecture=network(3), next_stage=None)
    coarse = tuple(2 * spacing for spacing in full.spacing_mm)
    low = replace(
        tiny,
        name="3d_lowres",
        data_identifier="nnUNetPlans_3d_lowres",
        spacing_mm=coarse,
        median_shape=tuple(size / 2 for size in full.median_shape),
        next_stage="3d_cascade_fullres",
    )
    cascade = replace(tiny, name="3d_cascade_fullres", previous_stage="3d_lowres", inherits_from="3d_fullres")
    plane = replace(flat, patch_size=(32, 32), batch_size=2, architecture=network(2))
    return (plane, low, tiny, cascade)


def plan_tiny(dataset: Path, root: Path, *names: str, steps: int = STEPS, augmentation: str = "light") -> None:
    """Plan some configurations of a dataset in one root, a few steps each."""
    folder = RunFolder(root=root)
    if not folder.plan.exists():
        plan_run(dataset, root, replace(SETTINGS, configuration="3d_fullres"))
        plan = read_plan(folder.plan)
        tiny = tiny_configurations(plan.configuration("3d_fullres"), plan.configuration("2d"))
        write_plan(folder.plan, replace(plan, configurations=tiny))
        (root / "3d_fullres" / "recipe.json").unlink()
    for name in names:
        plan_run(dataset, root, replace(SETTINGS, configuration=name))
        path = RunFolder(root=root, configuration=name).recipe
        configuration, recipe = read_recipe(path)
        short = replace(
            recipe,
            iterations=steps,
            iterations_per_epoch=2,
            validation_batches=1,
            mirror_axes=(),
            augmentation=augmentation,  # type: ignore[arg-type]
        )
        write_recipe(path, configuration, short)


def use_two_folds(root: Path) -> None:
    """Divide the cases into two folds, so that few trainings cover all of them."""
    path = RunFolder(root=root).splits
    ids = sorted(case for split in json.loads(path.read_text()) for case in split["val"])
    halves = ids[::2], ids[1::2]
    path.write_text(json.dumps([{"train": halves[1 - k], "val": halves[k]} for k in (0, 1)]))
