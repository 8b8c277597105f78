"""From folders of pictures with instances to a trained network: what is held out, how large objects are, the recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from delineate.errors import DatasetError
from delineate.execution import Cancellation, Progress
from delineate.formats.datasets.instance_dataset import InstanceCase, InstanceDataset, open_instance_dataset
from delineate.networks.instance_transfer import InstanceTransfer
from delineate.networks.instance_unet import InstanceUNet
from delineate.planning.instance_network import InstanceNetwork, choose_instance_network
from delineate.planning.instance_size import FITTING, TYPICAL_PIXELS, diameters_of, median_diameter, zoom_for
from delineate.planning.likeness import is_coloured
from delineate.planning.machine import Machine
from delineate.planning.recipe import Recipe
from delineate.preprocessing.pictures import Zoom, stretch_of
from delineate.training.instances import InstanceAssignment, InstanceImage, InstanceSource, PackedImage, instance_task
from delineate.training.loop import TrainedFold, fit_task
from delineate.training.session import Runtime
from delineate.workflows.hold_out_instances import hold_out, split_words
from delineate.workflows.start_instances import InstanceStart

SCORED_CROPS = 64
"""Of held-out pictures, for the curve that shows how training goes on."""
SPLIT = "split.json"
TRAINING = "training"


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceRun:
    """What is trained on what, and where."""

    datasets: tuple[InstanceDataset, ...]
    held_out: tuple[tuple[str, ...], ...]
    """Per data set, the ids that validate."""
    diameters: tuple[float, ...]
    """Per data set, the median diameter of its instances in pixels."""
    zooms: tuple[float, ...]
    """Per data set, how much larger its pictures are made."""
    pixel_um: float | None
    """Micrometres per pixel of the pictures; None: not told."""
    type_names: tuple[str, ...]
    folder: Path
    widths: tuple[int, ...]
    """Channels per stage of the network."""
    recipe: Recipe
    start: InstanceStart | None = None
    """The model that the first weights come from; None: they are random."""
    reasons: tuple[str, ...] = ()
    """What was decided on the data, and why."""

    @property
    def zoom(self) -> float:
        """How much larger pictures of this kind are made; 1 if data sets differ."""
        return self.zooms[0] if len(set(self.zooms)) == 1 else 1.0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the data sets."""
        return tuple(dataset.name for dataset in self.datasets)

    @property
    def held_out_of(self) -> dict[str, tuple[str, ...]]:
        """Data set's name to the ids that validate."""
        return {dataset.name: names for dataset, names in zip(self.datasets, self.held_out, strict=True)}

    def fresh_network(self) -> tuple[InstanceUNet, InstanceTransfer | None]:
        """Return the network before training, and what it has of the model that it starts from.

        Raises
        ------
        ModelError
            If that model has another network.
        """
        network = InstanceUNet(types=len(self.type_names), widths=self.widths, seed=self.recipe.seed)
        if self.start is None:
            return network, None
        network.fixed_statistics = self.start.knows(self.names)
        return network, self.start.begun(network, self.type_names)


def plan_instances(
    folders: Sequence[Path],
    out: Path,
    *,
    budget_seconds: float | None,
    iterations: int,
    pixel_um: float | None = None,
    machine: Machine | None = None,
    start: InstanceStart | None = None,
    fold: int = 0,
) -> InstanceRun:
    """Open data sets, hold out a part of each by groups, measure their objects, and decide the recipe.

    A split that stands in the output folder is kept, and so is that of a model to start from: what it was not trained
    on stays held out.

    Parameters
    ----------
    folders
        Of the data sets.
    out
        Of the run.
    budget_seconds, iterations
        How long to train.
    pixel_um
        Micrometres per pixel of all pictures; None: not told.
    machine
        Where it is trained; None: on a processor that computes in bfloat16.
    start
        A trained model to start from; None: from random weights.
    fold
        Which part of the pictures is held out; above 0 only without ``start``, see :func:`hold_out`.

    Raises
    ------
    DatasetError
        If a folder is not understood, holds no instance, or data sets declare different types.
    ModelError
        If the model to start from has another network.
    """
    datasets = tuple(open_instance_dataset(folder) for folder in folders)
    _require_distinct(datasets)
    declared = {dataset.type_names for dataset in datasets if dataset.type_names}
    if len(declared) > 1:
        raise DatasetError(f"Data sets that train together need the same types; found {sorted(declared)}.")
    diameters = tuple(_median_diameter(dataset) for dataset in datasets)
    zooms = tuple(zoom_for(median) for median in diameters)
    held_out = hold_out(datasets, out / SPLIT, {} if start is None else start.held_out, fold)
    sizes = [_size_words(*each) for each in zip(datasets, diameters, zooms, strict=True)]
    parts = [split_words(dataset, names) for dataset, names in zip(datasets, held_out, strict=True)]
    chosen = choose_instance_network(machine, None if start is None else start.package.widths)
    run = InstanceRun(
        datasets=datasets,
        held_out=held_out,
        diameters=diameters,
        zooms=zooms,
        pixel_um=pixel_um,
        type_names=next(iter(declared), ()),
        folder=out,
        reasons=(*sizes, *parts, chosen.reason),
        widths=chosen.widths,
        recipe=_recipe(chosen, budget_seconds, iterations, bfloat16=machine is None or machine.bfloat16),
        start=start,
    )
    return run if start is None else _started(run, start)


def _started(run: InstanceRun, start: InstanceStart) -> InstanceRun:
    """Return the run with the recipe of a training that goes on from a model, and what is taken over of it."""
    _, transfer = run.fresh_network()
    recipe = start.tuned(run.recipe, run.names)
    words = start.reasons(transfer, recipe, run.names) if transfer is not None else ()
    return replace(run, recipe=recipe, reasons=(*run.reasons, *words))


def train_instances(
    run: InstanceRun,
    *,
    device: str = "cpu",
    assignment: InstanceAssignment | None = None,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> TrainedFold:
    """Train, or go on with what stands in the folder; see :func:`delineate.training.fit`."""
    learnt = assignment or assignment_of(run)
    return fit_task(
        run.fresh_network()[0],
        run.recipe,
        lambda runtime: instance_task(learnt, runtime),
        run.folder / TRAINING,
        runtime=Runtime(device=device, prefetch=0 if device.startswith("cpu") else 2),
        progress=progress,
        cancellation=cancellation,
    )


def assignment_of(run: InstanceRun) -> InstanceAssignment:
    """Return what a run learns; all pictures are read."""
    return InstanceAssignment(
        recipe=run.recipe,
        types=run.type_names,
        widths=run.widths,
        training=_sources(run, training=True),
        validation=_sources(run, training=False),
        origin="" if run.start is None else run.start.package.identity,
    )


def instance_image(case: InstanceCase, zoom: float) -> InstanceImage:
    """Return a picture as the network sees it: normalised, its objects of typical size."""
    change = Zoom.by((case.picture.shape[0], case.picture.shape[1]), zoom)
    picture = change.picture(stretch_of(case.picture).applied(case.picture))
    instances = case.instances if zoom == 1 else change.labels(case.instances)
    inside, brightness = instances > 0, picture.mean(axis=2)
    bright = inside.any() and not inside.all() and np.median(brightness[inside]) > np.median(brightness[~inside])
    return InstanceImage(picture=picture, instances=instances, types=case.types, fluorescence=bool(bright))


def _recipe(chosen: InstanceNetwork, budget_seconds: float | None, iterations: int, *, bfloat16: bool) -> Recipe:
    return Recipe(
        iterations=iterations,
        iterations_per_epoch=1000,
        validation_batches=max(1, SCORED_CROPS // chosen.batch_size),
        batch_size=chosen.batch_size,
        patch_size=chosen.patch_size,
        optimizer="adamw",
        learning_rate=2e-3,
        weight_decay=0.01,
        schedule="one_cycle",
        ema_decay=0.999,
        precision="bfloat16" if bfloat16 else "float32",
        channels_last=True,
        deep_supervision=False,
        budget_seconds=budget_seconds,
    )


def _require_distinct(datasets: Sequence[InstanceDataset]) -> None:
    names = [dataset.name for dataset in datasets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DatasetError(f"Data sets that train together need different folder names; twice: {', '.join(twice)}.")


def _median_diameter(dataset: InstanceDataset) -> float:
    median = median_diameter([diameters_of(dataset.load(case).instances) for case in dataset.cases])
    if math.isnan(median):
        raise DatasetError(f"{dataset.root}: none of {len(dataset.cases)} pictures has an instance; nothing to learn.")
    return median


def _size_words(dataset: InstanceDataset, median: float, zoom: float) -> str:
    if zoom == 1:
        return (
            f"{dataset.name}: objects have a median diameter of {median:.1f} pixels; between {FITTING[0]:g} and "
            f"{FITTING[1]:g} pictures are taken as they are."
        )
    return (
        f"{dataset.name}: objects have a median diameter of {median:.1f} pixels; pictures are made {zoom:g} times as "
        f"large, so that it becomes about {TYPICAL_PIXELS:g}."
    )


def _sources(run: InstanceRun, *, training: bool) -> tuple[InstanceSource, ...]:
    """Return grey and coloured pictures of every data set as sources, drawn by the square root of their pixels."""
    sources = []
    for dataset, held_out, zoom in zip(run.datasets, run.held_out, run.zooms, strict=True):
        held = set(held_out)
        files = {case.case_id: case for case in dataset.cases if (case.case_id in held) != training}
        grey: dict[str, PackedImage] = {}
        coloured: dict[str, PackedImage] = {}
        for name in sorted(files):
            image = instance_image(dataset.load(files[name]), zoom)
            (coloured if is_coloured(image.picture) else grey)[name] = image.packed()
        for images in (grey, coloured):
            pixels = sum(image.known.size for image in images.values())
            sources.append(InstanceSource(images=images, weight=math.sqrt(pixels)))
    return tuple(sources)
