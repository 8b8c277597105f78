"""From what the user names to references and their predictions: folders, datasets, runs; all faults at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from delineate.case import Structure
from delineate.errors import DatasetError, UsageError
from delineate.formats.datasets import open_dataset
from delineate.formats.datasets.label_files import (
    ReferenceFiles,
    References,
    label_files,
    open_label_folder,
    references_of,
    same_case,
)
from delineate.formats.datasets.repairs import check_repairs
from delineate.formats.nnunet.splits_json import read_splits
from delineate.planning.splits import choose_split
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


def open_references(
    folder: Path, *, structures: tuple[Structure, ...] = (), repairs: frozenset[str] = frozenset()
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

    Raises
    ------
    DatasetError
        If the folder is not understood.
    UsageError
        If a repair is unknown.
    """
    wanted = check_repairs(repairs)
    if is_run(folder):
        found = references_of(dataset_of_run(RunFolder(root=folder)))
        found = replace(found, repairs=found.repairs | wanted)
    elif folder.is_dir() and _is_plain(folder):
        found = replace(open_label_folder(folder, structures), repairs=wanted)
    else:
        found = references_of(open_dataset(folder, repairs=wanted))
    return replace(found, structures=structures, notices=()) if structures else found


def is_run(folder: Path) -> bool:
    """Say whether a folder is that of a planned run."""
    return RunFolder(root=folder).shared_settings.is_file() or RunFolder(root=folder).settings.is_file()


def match_predictions(folder: Path, references: References, *, some: bool = False) -> Matched:
    """Find the prediction of every reference.

    A dataset's training or test cases count if a prediction of them is there; then all of them do. ``some`` leaves out
    references without a prediction.

    Raises
    ------
    DatasetError
        If the folder holds no label maps, several of one name, or none that belongs to a reference.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: expected a folder of predicted label maps; found none. Check the path.")
    files = label_files(folder)
    found, left = _by_case(files, [case.case_id for case in references.cases])
    if not found:
        raise DatasetError(
            f"{folder}: expected predictions named like the references, such as {_example(references)}; found "
            f"{', '.join(path.name for path in list(files.values())[:3]) or 'no label maps'}."
        )
    counted, notices = _counted_parts(references, found)
    if some:
        left_out = [case.case_id for case in counted if case.case_id not in found]
        counted = [case for case in counted if case.case_id in found]
        notices += [_left_out(left_out)] if left_out else []
    return Matched(
        cases=tuple(
            CaseToMeasure(
                reference=case,
                prediction=found.get(case.case_id),
                missing=str(folder / (case.case_id + "".join(case.labels.suffixes))),
            )
            for case in counted
        ),
        without_reference=tuple(left),
        notices=tuple(notices),
    )


def match_cross_validation(folder: RunFolder, references: References) -> Matched:
    """Find the validation predictions of all folds of a run that were predicted; each case is left out by its fold.

    Raises
    ------
    UsageError
        If no fold has validation predictions; says how to make them.
    """
    splits = read_splits(folder.splits)
    names = [str(k) for k in range(len(splits)) if folder.validation(str(k)).is_dir()]
    if not names:
        raise UsageError(
            f"{folder.own}: expected predicted validation cases in fold_0/validation and so on; found none. "
            f"`delineate report {folder.root}` predicts them."
        )
    by_id = {case.case_id: case for case in references.cases}
    cases: list[CaseToMeasure] = []
    for name in names:
        target = folder.validation(name)
        files = label_files(target)
        for case_id in choose_split(splits, int(name), tuple(by_id)).validation:
            if case_id in by_id:
                missing = str(target / case_id)
                cases.append(CaseToMeasure(reference=by_id[case_id], prediction=files.get(case_id), missing=missing))
    left = sorted(set(map(str, range(len(splits)))) - set(names), key=int)
    words = (
        f"Cross-validation: every case was predicted by the fold that was not trained on it (folds {', '.join(names)})."
    )
    told = [f"Folds without predictions, which are not part of this: {', '.join(left)}."] if left else []
    return Matched(cases=tuple(cases), without_reference=(), notices=(words, *told))


def _is_plain(folder: Path) -> bool:
    """Say whether a folder holds label maps and no dataset."""
    try:
        open_dataset(folder)
    except DatasetError as error:
        _log.debug("%s is no dataset: %s", folder, error)
        return bool(label_files(folder)) and not (folder / "imagesTr").is_dir()
    return False


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


def _example(references: References) -> str:
    case = references.cases[0]
    return case.case_id + "".join(case.labels.suffixes)


def _left_out(case_ids: Sequence[str]) -> str:
    shown = ", ".join(case_ids[:10]) + (", ..." if len(case_ids) > 10 else "")
    return f"Left out on request, because they have no prediction: {len(case_ids)} references ({shown})."
