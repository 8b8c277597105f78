"""From a scan to the structures of an anatomy task, by models that the user has.

The flow is TotalSegmentator's: a rough model says where to look, the part is turned to RAS and resampled, every
sub-model labels its structures, and the merged labels go back onto the scan's grid. The sub-models are loaded one after
the other, so that memory holds one of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from delineate.case import Image, LabelMap, LabelScheme
from delineate.errors import ModelError
from delineate.execution import Cancellation, Progress, Silent
from delineate.formats.totalsegmentator import weights_hash
from delineate.geometry.crop import Box
from delineate.masks import drop_small_pieces, keep_largest_piece
from delineate.planning.anatomy import SubModel, Task, VariantName, rough_crop, task_named
from delineate.preprocessing.working_grid import box_around, from_working_grid, to_working_grid
from delineate.training.machine import AUTO
from delineate.workflows.model import Model, load_model
from delineate.workflows.segment_case import segment_case

logger = logging.getLogger(__name__)

SHOWN_NAMES = 3
SPACING_TOLERANCE = 0.2
"""Share by which the spacing of training and that of use may differ; the variants differ by a factor of two."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnatomyRequest:
    """What is asked for."""

    task: Task
    variant: VariantName = "normal"
    structures: tuple[str, ...] = ()
    """Empty: all of the task."""
    device: str = AUTO
    precision: str = AUTO


@dataclass(frozen=True, kw_only=True, slots=True)
class UsedModel:
    """A sub-model that took part."""

    dataset_id: int
    folder: str
    """Its trained model's folder with the data set's, without the path of this machine."""
    sha256: str
    """Of its checkpoints."""
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Anatomy:
    """The structures of a scan."""

    labels: LabelMap
    """On the scan's grid; values are those of the task, also when only some structures were asked for."""
    working: LabelMap
    """The same on the grid on which the models looked: RAS, cropped, at the variant's spacing."""
    image: Image
    """The scan on that grid."""
    models: tuple[UsedModel, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bench:
    """What every sub-model is run with."""

    weights: Mapping[int, Path]
    device: str
    precision: str
    open_model: Callable[..., Model]
    progress: Progress
    cancellation: Cancellation


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Found:
    """Labels on the scan's grid and on the working grid, the scan on the working grid, and who labelled it."""

    labels: NDArray[np.uint8]
    working_labels: NDArray[np.uint8]
    working: Image
    models: tuple[UsedModel, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Look:
    """Where the rough model found what is asked for."""

    box: Box | None
    """None: all of the image."""
    nothing: bool
    """Whether it found nothing, so that there is nothing to segment."""
    models: tuple[UsedModel, ...]


def segment_anatomy(
    image: Image,
    request: AnatomyRequest,
    weights: Mapping[int, Path],
    *,
    open_model: Callable[..., Model] = load_model,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> Anatomy:
    """Segment the structures of a task.

    Parameters
    ----------
    image
        (1, z, y, x) with its grid, in any orientation.
    request
        Task, variant, structures, device.
    weights
        Data set id -> folder of a trained model of nnU-Net, for all that ``planning.anatomy.models_needed`` names.
    open_model
        Reads a trained model's folder; takes the arguments of :func:`delineate.workflows.model.load_model`.
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Returns
    -------
    Anatomy
        Labels on the scan's grid, and how they came about.

    Raises
    ------
    UsageError
        If the task lacks the variant or a structure.
    InputError
        If the image is a plane, has several channels, or its intensities cannot be used.
    ModelError
        If a model is damaged or knows fewer labels than its task needs.
    Interrupted
        If a stop was requested.
    """
    began = time.perf_counter()
    bench = _Bench(
        weights=weights,
        device=request.device,
        precision=request.precision,
        open_model=open_model,
        progress=progress or Silent(),
        cancellation=cancellation or Cancellation(),
    )
    found = _segment(image, request.task, request.variant, request.structures, bench)
    scheme = LabelScheme.simple(*request.task.classes)
    return Anatomy(
        labels=LabelMap(array=found.labels, grid=image.grid, scheme=scheme),
        working=LabelMap(array=found.working_labels, grid=found.working.grid, scheme=scheme),
        image=found.working,
        models=found.models,
        seconds=time.perf_counter() - began,
    )


def _segment(image: Image, task: Task, variant_name: VariantName, structures: tuple[str, ...], bench: _Bench) -> _Found:
    variant = task.variant(variant_name)
    submodels = (variant.holding(structures) if structures else variant).models
    look = _look_roughly(image, task, structures, bench)
    working, trace = to_working_grid(image, variant.spacing_mm, box=look.box)
    labels, used = np.zeros(working.grid.shape, np.uint8), look.models
    for submodel in () if look.nothing else submodels:
        found, model = _predict(working, submodel, task, variant.spacing_mm, bench)
        np.copyto(labels, found, where=found != 0)
        used = (*used, model)
    cleaned = _only(_cleaned(labels, task, working), task, structures)
    restored = from_working_grid(cleaned, trace)
    return _Found(labels=restored, working_labels=cleaned, working=working, models=used)


def _look_roughly(image: Image, task: Task, structures: tuple[str, ...], bench: _Bench) -> _Look:
    rough = rough_crop(task, structures)
    if rough is None:
        return _Look(box=None, nothing=False, models=())
    other = task_named(rough.task)
    found = _segment(image, other, rough.variant, (), bench)
    mask = np.isin(found.labels, [other.value_of(name) for name in rough.structures])
    box = box_around(mask, image.grid, rough.margin_mm)
    return _Look(box=box, nothing=box is None, models=found.models)


def _predict(
    working: Image, submodel: SubModel, task: Task, spacing_mm: tuple[float, ...] | None, bench: _Bench
) -> tuple[NDArray[np.uint8], UsedModel]:
    """Return the labels of one sub-model, numbered as the task numbers them."""
    began = time.perf_counter()
    bench.cancellation.check()
    folder = bench.weights[submodel.dataset_id]
    loaded = bench.open_model(
        folder, folds=submodel.folds, device=bench.device, mirroring=False, precision=bench.precision
    )
    _check_labels(loaded, submodel, folder)
    _warn_of_another(loaded, submodel, spacing_mm, folder)
    model = replace(loaded, tiling=replace(loaded.tiling, step=task.step))
    result = segment_case(
        working, model, case_id=submodel.folder, progress=bench.progress, cancellation=bench.cancellation
    )
    numbers = _numbering(submodel, task, len(model.package.scheme.values))
    used = UsedModel(
        dataset_id=submodel.dataset_id,
        folder=f"{folder.parent.name}/{folder.name}",
        sha256=weights_hash(folder),
        seconds=time.perf_counter() - began,
    )
    return numbers.take(result.labels.array), used


def _check_labels(model: Model, submodel: SubModel, folder: Path) -> None:
    known = len(model.package.scheme.values)
    if known < len(submodel.classes):
        raise ModelError(
            f"The model {folder} labels {known} structures; the published {submodel.folder} labels "
            f"{len(submodel.classes)}. It is another model; move it out of the folder of weights."
        )


def _warn_of_another(model: Model, submodel: SubModel, spacing_mm: tuple[float, ...] | None, folder: Path) -> None:
    """Say what makes a model look like another one than the published; only numbers of labels count, so it is used."""
    names = [structure.name for structure in model.package.scheme.structures]
    differing = [
        f"{value} is {there}, not {expected}"
        for value, (there, expected) in enumerate(zip(names, submodel.classes, strict=False), start=1)
        if there != expected
    ]
    if differing:
        logger.warning(
            "%s names labels otherwise than the published %s (%s). If it is another model, its result means nothing: "
            "move it out of the folder of weights.",
            folder,
            submodel.folder,
            "; ".join(differing[:SHOWN_NAMES]),
        )
    trained = model.package.configuration.spacing_mm
    if spacing_mm is not None and not np.allclose(trained, spacing_mm, rtol=SPACING_TOLERANCE):
        logger.warning(
            "%s was trained at %s mm and is used at %s mm. Is it another model?", folder, trained, spacing_mm
        )


def _numbering(submodel: SubModel, task: Task, known: int) -> NDArray[np.uint8]:
    """Return the task's value of every local label; labels that the task does not list become background."""
    numbers = np.zeros(known + 1, np.uint8)
    for local, name in enumerate(submodel.classes, start=1):
        if name in task.classes:
            numbers[local] = task.value_of(name)
    return numbers


def _cleaned(labels: NDArray[np.uint8], task: Task, working: Image) -> NDArray[np.uint8]:
    for name in task.cleanup.largest:
        labels = keep_largest_piece(labels, task.value_of(name))
    for name, volume in task.cleanup.at_least_mm3.items():
        labels = drop_small_pieces(labels, task.value_of(name), volume / working.grid.voxel_volume_mm3)
    return labels


def _only(labels: NDArray[np.uint8], task: Task, structures: tuple[str, ...]) -> NDArray[np.uint8]:
    if not structures:
        return labels
    kept = np.zeros(len(task.classes) + 1, np.uint8)
    for name in structures:
        kept[task.value_of(name)] = task.value_of(name)
    return kept.take(labels)
