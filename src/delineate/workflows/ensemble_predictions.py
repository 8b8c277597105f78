"""Ensembles: several models on the same images, or probabilities that were stored earlier, as one answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from delineate import __version__
from delineate.case import Image, LabelMap, LabelScheme, Provenance, Result
from delineate.errors import DelineateError, InputError, Interrupted, ModelError, SomeCasesFailed, UsageError
from delineate.execution import Cancellation, Progress, Silent, require_writable, write_text
from delineate.formats.datasets import CaseFiles
from delineate.formats.images import label_ending, read_image, read_labels, write_labels
from delineate.formats.nnunet.dataset_json import scheme_from_json
from delineate.formats.nnunet.json_node import read_document
from delineate.formats.probabilities import opened_probabilities, written_while_read
from delineate.inference import predict_logits
from delineate.inference.probability_ensemble import decide_by_heads, ensemble_labels, mean_probabilities
from delineate.masks import PostprocessingStep
from delineate.preprocessing.reader_orientation import TURNING_READERS
from delineate.training.allocator import shortage_explained
from delineate.workflows.model import Model
from delineate.workflows.postprocess import postprocessed
from delineate.workflows.prepare_for_model import prepare_for_model
from delineate.workflows.segment_folder import DATASET_RECORD, SHORTAGE_ADVICE, require_output_folder

Steps = Sequence[PostprocessingStep]


def segment_with_ensemble(
    image: Image,
    models: Sequence[Model],
    *,
    postprocessing: Steps = (),
    case_id: str = "",
    cancellation: Cancellation | None = None,
) -> Result:
    """Segment one image with several models of any configurations: the mean of their probabilities decides.

    Logits of all models are held on their prepared grids; on the image's grid only a slab of probabilities at a time.
    Post-processing of the single models is not applied; an ensemble has its own.

    Raises
    ------
    UsageError
        If there is no model, or the models do not have the same labels.
    DelineateError
        Whatever preparing and predicting raise.
    """
    began, scheme = time.perf_counter(), common_scheme(models)
    answers = []
    for model in models:
        given = prepare_for_model(image, model, case_id=case_id, cancellation=cancellation)
        logits = predict_logits(model.ensemble, given.prepared.array, model.tiling, cancellation=cancellation)
        answers.append((logits, given.prepared.trace))
    labels = given.labels_back(ensemble_labels(answers, scheme))
    return Result(
        case_id=case_id,
        labels=postprocessed(labels, postprocessing),
        provenance=Provenance(
            software=f"delineate {__version__}",
            model=" + ".join(model.package.identity for model in models),
            settings={"postprocessing": [list(step.values) for step in postprocessing]},
            seconds=time.perf_counter() - began,
        ),
    )


def segment_files_with_ensemble(
    models: Sequence[Model],
    cases: Sequence[CaseFiles],
    out: Path,
    *,
    postprocessing: Steps = (),
    overwrite: bool = False,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> tuple[Path, ...]:
    """Segment every case into ``out``; cases that stand there already are kept unless ``overwrite``.

    Raises
    ------
    UsageError
        If the models do not have the same labels, or ``out`` is a folder in which the images lie.
    ResourceError
        If ``out`` cannot be written.
    SomeCasesFailed
        If cases could not be segmented; names each with its reason, the others are written.
    Interrupted
        If a stop was requested; finished cases stay.
    """
    common_scheme(models)
    require_output_folder(out, cases)
    ending = label_ending(models[0].package.file_ending)
    stop = cancellation or Cancellation()

    def segment(case: CaseFiles) -> LabelMap:
        image = read_image(case.images)
        return segment_with_ensemble(
            image, models, postprocessing=postprocessing, case_id=case.case_id, cancellation=stop
        ).labels

    jobs = {case.case_id: case for case in cases}
    targets = {case_id: out / f"{case_id}{ending}" for case_id in jobs}
    _write_each(targets, lambda i: segment(jobs[i]), overwrite=overwrite, progress=progress, cancellation=stop)
    return tuple(targets.values())


def common_scheme(models: Sequence[Model]) -> LabelScheme:
    """Return the labels of all models.

    Raises
    ------
    UsageError
        If there is no model, or the models do not have the same labels or turn images differently.
    """
    if not models:
        raise UsageError("An ensemble needs at least one model; got none.")
    first = models[0].package.scheme
    for model in models[1:]:
        if model.package.scheme != first:
            raise UsageError(
                f"The models of an ensemble must have the same labels; {models[0].package.name} and "
                f"{model.package.name} have different ones."
            )
    if len({model.package.plan.image_reader in TURNING_READERS for model in models}) > 1:
        raise UsageError("Models that turn images to RAS and models that do not cannot be averaged voxel by voxel.")
    return first


def ensemble_folders(
    folders: Sequence[Path],
    out: Path,
    *,
    postprocessing: Steps = (),
    probabilities: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> tuple[Path, ...]:
    """Average stored probabilities, ours or nnU-Net's, and write the label maps; one head is in memory at a time.

    Every folder holds ``{id}.npz`` beside the label map ``{id}``, from which the grid is taken; the first one also
    ``dataset.json``, which says what the heads mean.

    Raises
    ------
    InputError
        If the folders do not hold the same cases; names those that are missing.
    UsageError
        If ``out`` is one of the folders.
    ResourceError
        If ``out`` cannot be written.
    PlanError
        If ``dataset.json`` is missing or wrong.
    SomeCasesFailed
        If cases could not be averaged; the others are written.
    Interrupted
        If a stop was requested; finished cases stay.
    """
    case_ids = _common_cases(folders)
    if any(out.resolve() == folder.resolve() for folder in folders):
        raise UsageError(f"{out} is one of the folders that are averaged. Choose another output folder.")
    require_writable(out)
    document = read_document(folders[0] / DATASET_RECORD)
    scheme = scheme_from_json(document.value, source=document.source)
    ending = label_ending(document.child("file_ending").file_name())
    write_text(out / DATASET_RECORD, json.dumps(document.value, indent=2))

    def average(case_id: str) -> LabelMap:
        kept = out / f"{case_id}.npz" if probabilities else None
        grid = read_labels(folders[0] / f"{case_id}{ending}").grid
        labels = _average([folder / f"{case_id}.npz" for folder in folders], scheme, kept)
        if labels.size != np.prod(grid.shape):
            raise ModelError(f"{case_id}: the probabilities have shape {labels.shape}, the label map {grid.shape}.")
        return postprocessed(LabelMap(array=labels.reshape(grid.shape), grid=grid, scheme=scheme), postprocessing)

    targets = {case_id: out / f"{case_id}{ending}" for case_id in case_ids}
    _write_each(targets, average, overwrite=overwrite, progress=progress, cancellation=cancellation)
    return tuple(targets.values())


def _average(paths: Sequence[Path], scheme: LabelScheme, kept: Path | None) -> NDArray[np.integer]:
    """Return the labels of averaged files; also write the mean to ``kept`` if given."""
    with ExitStack() as stack:
        opened = [stack.enter_context(opened_probabilities(path)) for path in paths]
        shape = opened[0][0]
        for path, (other, _) in zip(paths, opened, strict=True):
            if other != shape:
                raise ModelError(f"{path} has probabilities of shape {other}; {paths[0]} has {shape}.")
        heads: Iterator[NDArray[np.float32]] = map(
            mean_probabilities, zip(*(source for _, source in opened), strict=True)
        )
        return decide_by_heads(heads if kept is None else written_while_read(kept, shape, heads), scheme)


def _common_cases(folders: Sequence[Path]) -> tuple[str, ...]:
    found = {folder: {path.stem for path in folder.glob("*.npz")} for folder in folders}
    every = sorted(set().union(*found.values()))
    if not every:
        raise InputError(f"{folders[0]}: expected probabilities, {{id}}.npz; found none. Predict with --probabilities.")
    lacking = {folder: sorted(set(every) - ids) for folder, ids in found.items()}
    missing = [f"{folder} lacks {', '.join(ids[:5])}" for folder, ids in lacking.items() if ids]
    if missing:
        raise InputError(f"All folders of an ensemble must hold the same cases: {'; '.join(missing)}.")
    return tuple(every)


def _write_each(
    targets: dict[str, Path],
    make: Callable[[str], LabelMap],
    *,
    overwrite: bool,
    progress: Progress | None,
    cancellation: Cancellation | None,
) -> None:
    progress, cancellation = progress or Silent(), cancellation or Cancellation()
    progress.start("ensemble", len(targets))
    failures = []
    for case_id, target in targets.items():
        cancellation.check()
        if overwrite or not target.exists():
            try:
                with shortage_explained(SHORTAGE_ADVICE):
                    write_labels(target, make(case_id))
            except Interrupted:
                raise
            except DelineateError as error:
                failures.append(f"{case_id}: {error}")
        progress.advance(note=case_id)
    progress.finish()
    if failures:
        raise SomeCasesFailed(f"{len(failures)} of {len(targets)} cases could not be segmented.", failures)
