"""From what the user names to references and their predictions: folders, datasets, runs; all faults at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from delineate.case import Structure
from delineate.errors import DatasetError
from delineate.formats.datasets import Dataset, open_dataset
from delineate.formats.datasets.dataset import visible_images
from delineate.formats.datasets.folder_pairs import IMAGE_FOLDERS
from delineate.formats.datasets.label_files import (
    ReferenceFiles,
    References,
    label_files,
    open_label_folder,
    references_of,
    same_case,
)
from delineate.formats.datasets.repairs import check_repairs
from delineate.formats.magic import image_ending
from delineate.formats.nnunet.splits_json import read_splits
from delineate.workflows.measure_case import CaseToMeasure
from delineate.workflows.prepare_dataset import dataset_of_run
from delineate.workflows.run_folder import RunFolder

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Matched:
    """Which prediction belongs to which reference."""

    cases: tuple[CaseToMeasure, ...]
    without_reference: tuple[str, ...]
    notices: tuple[str, ...] = ()
    fold_of: Mapping[str, str] = field(default_factory=dict)
    """Case id -> fold that predicted it, in a cross-validation."""


def open_references(
    folder: Path,
    *,
    structures: tuple[Structure, ...] = (),
    repairs: frozenset[str] = frozenset(),
    configuration: str | None = None,
) -> References:
    """Open a dataset of any layout, the dataset of a run, or a plain folder of label maps.

    Parameters
    ----------
    folder
        The folder.
    structures
        What the values mean, instead of what the folder declares.
    repairs
        Names of repairs.
    configuration
        Of a run that holds several.

    Raises
    ------
    DatasetError
        If the folder is not understood.
    UsageError
        If a repair is unknown.
    """
    wanted = check_repairs(repairs)
    if is_run(folder):
        found = references_of(dataset_of_run(RunFolder(root=folder, configuration=configuration)))
        found = replace(found, repairs=found.repairs | wanted)
    elif (dataset := _dataset_in(folder, wanted)) is not None:
        found = references_of(dataset)
    else:
        found = replace(open_label_folder(folder, structures), repairs=wanted)
    return replace(found, structures=structures, notices=()) if structures else found


def is_run(folder: Path) -> bool:
    """Say whether a folder is the root of a planned run."""
    run = RunFolder(root=folder)
    return run.splits.is_file() and (run.shared_settings.is_file() or run.settings.is_file())


def match_predictions(
    folder: Path,
    references: References,
    *,
    configuration: str | None = None,
    some: bool = False,
    whole: bool = False,
) -> Matched:
    """Find the prediction of every reference.

    Parameters
    ----------
    folder
        Label maps named like the references; or a run, or nnU-Net's folder of a trained model, whose predicted
        validation cases of all folds are taken.
    references
        The cases. A dataset's training or test cases count if a prediction of one is there; then all of them do.
    configuration
        Of a run that holds several.
    some
        Leave out references without a prediction.
    whole
        Count every reference, though only a run's predicted folds would.

    Raises
    ------
    DatasetError
        If the folder holds no label maps, several of one name, or none that belongs to a reference.
    """
    files = _prediction_files(folder, configuration)
    found, left = _by_case(files.by_name, [case.case_id for case in references.cases])
    if not found:
        raise DatasetError(
            f"{folder}: expected predictions named like the references, such as {_name_of(references.cases[0])}; found "
            f"{', '.join(path.name for path in list(files.by_name.values())[:3]) or 'no label maps'}."
        )
    if files.held_out is None or whole:
        counted, notices = _counted_parts(references, found)
    else:
        counted, notices = [case for case in references.cases if case.case_id in files.held_out], []
    if some:
        left_out = [case.case_id for case in counted if case.case_id not in found]
        counted = [case for case in counted if case.case_id in found]
        notices += [_left_out(left_out)] if left_out else []
    return Matched(
        cases=tuple(
            CaseToMeasure(reference=case, prediction=found.get(case.case_id), missing=str(folder / _name_of(case)))
            for case in counted
        ),
        without_reference=tuple(left),
        notices=(*files.notices, *notices),
        fold_of={c.case_id: fold for c in counted if (fold := files.fold_of.get(c.case_id)) is not None},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _PredictionFiles:
    """The label maps of a folder, or of all folds of a run."""

    by_name: Mapping[str, Path]
    held_out: frozenset[str] | None = None
    """Cases that the folds should have predicted; None if only the files say."""
    notices: tuple[str, ...] = ()
    fold_of: Mapping[str, str] = field(default_factory=dict)


def _prediction_files(folder: Path, configuration: str | None) -> _PredictionFiles:
    run = RunFolder(root=folder, configuration=configuration)
    folds = {path.parent.name.removeprefix("fold_"): path for path in sorted(run.own.glob("fold_*/validation"))}
    if folds:
        return _folds(run, folds)
    if is_run(folder) or not folder.is_dir():
        raise DatasetError(
            f"{folder}: expected predicted label maps, or a run with predicted validation cases (fold_0/validation); "
            "found none. `delineate report RUN` predicts those of a run."
        )
    return _PredictionFiles(by_name=label_files(folder))


def _folds(run: RunFolder, folds: Mapping[str, Path]) -> _PredictionFiles:
    per_fold = {fold: label_files(path) for fold, path in folds.items()}
    where: dict[str, list[str]] = {}
    for fold, files in per_fold.items():
        for case in files:
            where.setdefault(case, []).append(fold)
    if twice := [f"{case}: folds {', '.join(found)}" for case, found in where.items() if len(found) > 1]:
        raise DatasetError(f"{run.own}: a case is held out by one fold; several predicted these.", twice)
    merged = {case: path for files in per_fold.values() for case, path in files.items()}
    words = f"Cross-validation: every case was predicted by the fold that was not trained on it ({', '.join(folds)})."
    fold_of = {case: f"fold {found[0]}" for case, found in where.items()}
    if not run.splits.is_file():
        return _PredictionFiles(by_name=merged, notices=(words,), fold_of=fold_of)
    splits = read_splits(run.splits)
    fold_of |= {case: f"fold {k}" for k, split in enumerate(splits) if str(k) in folds for case in split.validation}
    absent = ", ".join(str(k) for k in range(len(splits)) if str(k) not in folds)
    left = (f"Folds without predictions are not part of this: {absent}.",) if absent else ()
    return _PredictionFiles(by_name=merged, held_out=frozenset(fold_of), notices=(words, *left), fold_of=fold_of)


def _dataset_in(folder: Path, repairs: frozenset[str]) -> Dataset | None:
    """Return the dataset of a folder, or None if it holds label maps and nothing that looks like a dataset.

    Raises
    ------
    DatasetError
        If it looks like a dataset that cannot be understood, or holds nothing at all.
    """
    try:
        return open_dataset(folder, repairs=repairs)
    except DatasetError as error:
        images = folder.is_dir() and any(path.name.casefold() in IMAGE_FOLDERS for path in folder.iterdir())
        if images or not visible_images(folder):
            raise
        _log.debug("%s is no dataset: %s", folder, error)
        return None


def _by_case(files: Mapping[str, Path], case_ids: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    """Return the file of each case, and the stems that belong to none; words such as ``_seg`` are passed over."""
    found = {case: files[case] for case in case_ids if case in files}
    used = set(found.values())
    bare: dict[str, list[Path]] = {}
    for stem, path in files.items():
        if path not in used:
            bare.setdefault(same_case(stem), []).append(path)
    for case in case_ids:
        if case not in found and len(fits := bare.get(same_case(case), [])) == 1:
            found[case] = fits[0]
    used = set(found.values())
    return found, [stem for stem, path in files.items() if path not in used]


def _counted_parts(references: References, found: Mapping[str, Path]) -> tuple[list[ReferenceFiles], list[str]]:
    parts: dict[str, list[ReferenceFiles]] = {}
    for case in references.cases:
        parts.setdefault(case.part, []).append(case)
    counted, notices = [], []
    for name, cases in parts.items():
        if any(case.case_id in found for case in cases):
            counted += cases
        else:
            notices.append(
                f"The {len(cases)} {name} cases of {references.name} have no predictions and are not part of this."
            )
    return counted, notices


def _name_of(case: ReferenceFiles) -> str:
    return case.case_id + (image_ending(case.labels) or "")


def _left_out(case_ids: Sequence[str]) -> str:
    shown = ", ".join(case_ids[:10]) + (", ..." if len(case_ids) > 10 else "")
    return f"Left out on request, because they have no prediction: {len(case_ids)} references ({shown})."
