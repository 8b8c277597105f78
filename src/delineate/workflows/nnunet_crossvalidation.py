"""What follows a cross-validation in nnU-Net's folders: merged folds, ensembles of folders, post-processing."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from delineate.errors import InputError, SomeCasesFailed, UsageError
from delineate.execution import Watched, atomic_path, map_items, write_bytes
from delineate.formats.datasets import Dataset
from delineate.formats.datasets.nnunet_prepared import open_nnunet_prepared
from delineate.formats.images import read_labels, write_labels
from delineate.formats.nnunet.postprocessing_pickle import postprocessing_pickle
from delineate.formats.nnunet.workspace import NnunetDataset
from delineate.metrics import PostprocessingChoice
from delineate.metrics.summary import Summary
from delineate.workflows.choose_postprocessing import RECORD, choose_for_predictions
from delineate.workflows.compare_folders import compare_folders, declared_comparison
from delineate.workflows.ensemble_predictions import ensemble_folders
from delineate.workflows.postprocess import postprocessed, read_steps

DECLARATIONS = ("dataset.json", "plans.json")
"""Copied from folder to folder, because nnU-Net looks for them beside predictions."""
PICKLE = "postprocessing.pkl"


def merge_folds(
    place: NnunetDataset, model: Path, folds: Sequence[str], out: Path | None = None, **watched: Unpack[Watched]
) -> Summary:
    """Copy the validation predictions of all folds into one folder and score them together.

    Parameters
    ----------
    place
        The dataset, for its references.
    model
        Folder of the trained model.
    folds
        Which folds.
    out
        Target; emptied first. None: ``crossval_results_folds_0_1_...`` in the model's folder.
    watched
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    InputError
        If folds lack predictions, or a case was predicted by several; all are told.
    SomeCasesFailed
        If cases cannot be scored.
    """
    target = out if out is not None else model / f"crossval_results_folds_{'_'.join(folds)}"
    comparison = declared_comparison(place.references, target, model / "dataset.json", some=True)
    files = _validation_files(model, folds, comparison.ending or "")
    with atomic_path(target) as unfinished:
        unfinished.mkdir()
        for file in (*files, *(model / name for name in DECLARATIONS)):
            shutil.copyfile(file, unfinished / file.name)
        if target.exists():
            shutil.rmtree(target)
    return compare_folders(comparison, **watched)


def average_folders(
    folders: Sequence[Path], out: Path, *, probabilities: bool = False, **watched: Unpack[Watched]
) -> tuple[Path, ...]:
    """Average the probabilities in several folders of predictions; see :func:`ensemble_folders`.

    Raises
    ------
    InputError
        If the folders do not hold the same cases.
    SomeCasesFailed
        If cases could not be averaged; the others are written.
    """
    written = ensemble_folders(folders, out, probabilities=probabilities, overwrite=True, **watched)
    copied = [*(folders[0] / name for name in DECLARATIONS), *(folders[0].glob("*.pkl") if probabilities else ())]
    for file in copied:
        if file.is_file():
            _copy(file, out / file.name)
    return written


def determine_postprocessing(
    predictions: Path,
    references: Path,
    declaration: Path,
    *,
    keep: bool = True,
    workers: int = 1,
    **watched: Unpack[Watched],
) -> PostprocessingChoice:
    """Choose the post-processing of a folder of predictions; write it there as nnU-Net does.

    Parameters
    ----------
    predictions, references
        Folders of label maps of the same names.
    declaration
        The ``dataset.json`` with the labels.
    keep
        Also write the post-processed label maps to ``postprocessed``.
    workers
        Cases worked on at a time.
    watched
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    InputError
        If there are no predictions.
    SomeCasesFailed
        If predictions or references cannot be read; names all of them.
    """
    dataset = _dataset_of(predictions, references, declaration)
    files = {case.case_id: predictions / f"{case.case_id}{dataset.file_ending}" for case in dataset.training}
    choice = choose_for_predictions(
        dataset.training, dataset, lambda case: files[case.case_id], predictions, workers=workers, **watched
    )
    write_bytes(predictions / PICKLE, postprocessing_pickle(choice.steps))
    if keep:
        apply_postprocessing(
            predictions, predictions / "postprocessed", predictions / RECORD, workers=workers, **watched
        )
    return choice


def apply_postprocessing(
    predictions: Path, out: Path, record: Path, *, workers: int = 1, **watched: Unpack[Watched]
) -> tuple[Path, ...]:
    """Post-process every label map of a folder into another one.

    Parameters
    ----------
    predictions
        The label maps, with ``dataset.json``.
    out
        Where the results go.
    record
        ``postprocessing.json``, or nnU-Net's pickle, in whose stead the JSON beside it is read.
    workers
        Cases worked on at a time.
    watched
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    UsageError
        If ``out`` is the folder of the predictions.
    InputError
        If there are no predictions.
    PlanError
        If the record is missing or asks for something that is not known.
    SomeCasesFailed
        If label maps cannot be read; names all of them, the others are written.
    """
    if out.resolve() == predictions.resolve():
        raise UsageError(f"Post-processed label maps need a folder of their own; got {out} for both.")
    steps = read_steps(record.with_suffix(".json"))
    ending = declared_comparison(predictions, predictions, predictions / "dataset.json").ending or ""
    files = _label_files(predictions, ending)

    def process(file: Path) -> Path:
        write_labels(out / file.name, postprocessed(read_labels(file), steps))
        return out / file.name

    outcomes = map_items(process, files, what="post-processing", workers=workers, backend="threads", **watched)
    for name in DECLARATIONS:
        if (predictions / name).is_file():
            _copy(predictions / name, out / name)
    if failures := [f"{o.item.name}: {o.error}" for o in outcomes if o.error is not None]:
        raise SomeCasesFailed(f"{len(failures)} of {len(files)} label maps could not be post-processed.", failures)
    return tuple(o.value for o in outcomes if o.value is not None)


def _validation_files(model: Path, folds: Sequence[str], ending: str) -> tuple[Path, ...]:
    found: dict[str, Path] = {}
    faults = []
    for fold in folds:
        files = sorted((model / f"fold_{fold}" / "validation").glob(f"*{ending}"))
        faults += [] if files else [f"fold_{fold} has no validation predictions; train it"]
        faults += [
            f"{file.name} is in fold_{fold} and in {found[file.name].parts[-3]}" for file in files if file.name in found
        ]
        found.update({file.name: file for file in files})
    if faults:
        raise InputError(f"The folds of {model} cannot be merged: {'; '.join(faults)}.")
    return tuple(found.values())


def _label_files(folder: Path, ending: str) -> list[Path]:
    files = sorted(path for path in folder.glob(f"*{ending}") if not path.name.startswith("."))
    if not files:
        raise InputError(f"{folder}: expected label maps ending in {ending}; found none.")
    return files


def _dataset_of(predictions: Path, references: Path, declaration: Path) -> Dataset:
    """Return the predicted cases with their references, which also stand for the images: nobody looks at those."""
    ending = declared_comparison(references, predictions, declaration).ending or ""
    names = [file.name.removesuffix(ending) for file in _label_files(predictions, ending)]
    dataset = open_nnunet_prepared(declaration.parent, names)
    cases = (replace(case, labels=references / f"{case.case_id}{ending}") for case in dataset.training)
    return replace(dataset, training=tuple(replace(c, images=(c.labels,)) for c in cases if c.labels is not None))


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
