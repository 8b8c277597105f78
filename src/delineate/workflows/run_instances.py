"""From folders of pictures with instances to a trained model of instances."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.errors import DatasetError
from delineate.execution import Cancellation, Progress, write_text
from delineate.formats.datasets.instance_dataset import InstanceCase, InstanceDataset, open_instance_dataset
from delineate.networks.instance_unet import InstanceUNet
from delineate.planning.likeness import groups_of_likeness, is_coloured, look_of
from delineate.planning.recipe import Recipe
from delineate.planning.splits import hold_out_groups
from delineate.preprocessing.pictures import stretch_of
from delineate.training.instances import InstanceAssignment, InstanceImage, InstanceSource, instance_task
from delineate.training.loop import TrainedFold, fit_task
from delineate.training.session import Runtime

WIDTHS = (24, 48, 96, 160)
PATCH = (192, 192)
HELD_OUT = 0.15
SPLIT = "split.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceRun:
    """What is trained on what, and where."""

    datasets: tuple[InstanceDataset, ...]
    held_out: tuple[tuple[str, ...], ...]
    """Per data set, the ids that validate."""
    type_names: tuple[str, ...]
    folder: Path
    recipe: Recipe


def plan_instances(folders: Sequence[Path], out: Path, *, budget_seconds: float | None, iterations: int) -> InstanceRun:
    """Open data sets, hold out a part of each by groups, and decide the recipe.

    A split that stands in the output folder is kept.

    Raises
    ------
    DatasetError
        If a folder is not understood, or data sets declare different types.
    """
    datasets = tuple(open_instance_dataset(folder) for folder in folders)
    declared = {dataset.type_names for dataset in datasets if dataset.type_names}
    if len(declared) > 1:
        raise DatasetError(f"Data sets that train together need the same types; found {sorted(declared)}.")
    return InstanceRun(
        datasets=datasets,
        held_out=_split(datasets, out / SPLIT),
        type_names=next(iter(declared), ()),
        folder=out,
        recipe=Recipe(
            iterations=iterations,
            iterations_per_epoch=1000,
            validation_batches=8,
            batch_size=8,
            patch_size=PATCH,
            optimizer="adamw",
            learning_rate=2e-3,
            weight_decay=1e-4,
            schedule="one_cycle",
            ema_decay=0.999,
            precision="bfloat16",
            channels_last=True,
            deep_supervision=False,
            budget_seconds=budget_seconds,
        ),
    )


def train_instances(
    run: InstanceRun, *, progress: Progress | None = None, cancellation: Cancellation | None = None
) -> TrainedFold:
    """Train, or go on with what stands in the folder; see :func:`delineate.training.fit`."""
    assignment = InstanceAssignment(
        recipe=run.recipe,
        types=run.type_names,
        widths=WIDTHS,
        training=_sources(run, training=True),
        validation=_sources(run, training=False),
    )
    return fit_task(
        InstanceUNet(types=len(run.type_names), widths=WIDTHS, seed=run.recipe.seed),
        run.recipe,
        lambda runtime: instance_task(assignment, runtime),
        run.folder / "training",
        runtime=Runtime(prefetch=1),
        progress=progress,
        cancellation=cancellation,
    )


def _split(datasets: Sequence[InstanceDataset], path: Path) -> tuple[tuple[str, ...], ...]:
    if path.is_file():
        stored = json.loads(path.read_text(encoding="utf-8"))
        return tuple(tuple(stored[dataset.name]) for dataset in datasets)
    held_out = {dataset.name: _held_out(dataset) for dataset in datasets}
    write_text(path, json.dumps(held_out, indent=1))
    return tuple(held_out[dataset.name] for dataset in datasets)


def _held_out(dataset: InstanceDataset) -> tuple[str, ...]:
    """Hold out groups of grey and of coloured pictures, each in its share."""
    pictures = {case.case_id: _three_colours(dataset.load(case).picture) for case in dataset.cases}
    chosen: list[str] = []
    for kind in (False, True):
        cases = [case for case in dataset.cases if is_coloured(pictures[case.case_id]) is kind]
        group_of = {case.case_id: case.group for case in cases}
        if not all(group_of.values()):
            numbers = groups_of_likeness([look_of(pictures[case.case_id]) for case in cases])
            group_of = {case.case_id: f"look {n}" for case, n in zip(cases, numbers, strict=True)}
        chosen += hold_out_groups(group_of, share=HELD_OUT, seed=0)
    return tuple(sorted(chosen))


def _three_colours(picture: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture


def _sources(run: InstanceRun, *, training: bool) -> tuple[InstanceSource, ...]:
    """Return grey and coloured pictures of every data set as sources, drawn by the square root of their number."""
    sources = []
    for dataset, held_out in zip(run.datasets, run.held_out, strict=True):
        held = set(held_out)
        files = {case.case_id: case for case in dataset.cases if (case.case_id in held) != training}
        images = {name: _instance_image(dataset.load(case)) for name, case in files.items()}
        for kind in (False, True):
            names = tuple(name for name in sorted(images) if is_coloured(images[name].picture) is kind)
            sources.append(InstanceSource(names=names, open=images.__getitem__, weight=math.sqrt(len(names))))
    return tuple(sources)


def _instance_image(case: InstanceCase) -> InstanceImage:
    picture = stretch_of(case.picture).applied(case.picture)
    inside, brightness = case.instances > 0, picture.mean(axis=2)
    bright = inside.any() and not inside.all() and np.median(brightness[inside]) > np.median(brightness[~inside])
    return InstanceImage(picture=picture, instances=case.instances, types=case.types, fluorescence=bool(bright))
