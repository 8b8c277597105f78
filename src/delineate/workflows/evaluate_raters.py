"""Folders of masks that several people drew, and a model's predictions beside them: do they agree, and does it?"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from delineate.case import Structure
from delineate.errors import DatasetError, DelineateError, InputError, UsageError
from delineate.execution import Outcome, Watched, map_items
from delineate.formats.datasets.rater_folders import (
    MODEL,
    MatchedFiles,
    RaterFiles,
    RaterMask,
    match_files,
    read_rater_mask,
)
from delineate.metrics.agreement import MAX_RATERS
from delineate.metrics.evaluation.rater_case import (
    INVERTED_SHARE,
    CaseAgreement,
    RaterRules,
    compare_raters,
    suspected_inversions,
)
from delineate.metrics.evaluation.rater_study import RaterStudy, study_raters

_log = logging.getLogger(__name__)

SHOWN = 8
"""Names that a notice lists."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RaterSettings:
    """How the masks of raters are read and compared."""

    rules: RaterRules = field(default_factory=RaterRules)
    structures: tuple[Structure, ...] | None = None
    """What label values mean; None: masks of two values, one structure."""
    inverted: frozenset[str] = frozenset()
    """Raters (or ``model``) whose masks hold 0 where the structure is."""
    person_pattern: str | None = None
    """Regular expression; raters in whose names it finds the same text (its first group) are one person. None: every
    rater is a person of their own."""
    spacing_mm: tuple[float, ...] | None = None
    """Per array axis, given by hand; None: as the files say, 1 for pictures that say nothing."""
    model_name: str = MODEL
    """What the model is called in the study."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    """What became of the files of one case."""

    agreements: tuple[CaseAgreement, ...]
    suspects: tuple[str, ...]
    white: tuple[str, ...]
    """Raters whose structure has another value than 1."""
    calibrated: bool
    """Whether a file says how large a voxel is."""
    planar: bool


def study_rater_folders(
    raters: Mapping[str, Path],
    predictions: Path | Mapping[str, Path | None] | None,
    settings: RaterSettings | None = None,
    *,
    case_ids: Sequence[str] | None = None,
    patient_of: Mapping[str, str] | None = None,
    workers: int = 1,
    **watched: Unpack[Watched],
) -> RaterStudy:
    """Compare the masks of several raters with each other, and a model's predictions with them.

    Parameters
    ----------
    raters
        Name and folder; see :func:`~delineate.formats.datasets.rater_folders.rater_folders`.
    predictions
        Folder of a model's label maps, or the label map of each case (None where there is none); None: only people are
        compared. A case without a prediction counts as if the model had found nothing there, and is told.
    settings
        How masks are read and compared; None: two-valued masks by Dice.
    case_ids
        If given, only these cases; else all that the predictions or two raters name.
    patient_of
        Patient of each case, for the intervals; None: every case is a patient.
    workers
        Cases worked on at a time; the masks of so many are in memory.
    watched
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    UsageError
        If there are fewer than two or too many raters, or names do not fit.
    DatasetError
        If masks cannot be read, or those of a case differ in size or place; names all of them.
    InputError
        If no case was drawn by two raters.
    Interrupted
        If a stop was requested.
    """
    chosen = settings or RaterSettings()
    person_of = _people(raters, chosen)
    matched = match_files(raters, predictions, case_ids)
    usable = [case for case in matched.cases if len(case.masks) > 1]
    if not usable:
        raise InputError(
            f"No case was drawn by two raters ({', '.join(raters)}). {_examples(matched)} Files of one case need "
            "the case's name in theirs."
        )
    task = partial(_study_case, chosen, person_of, patient_of or {}, predictions is not None)
    outcomes = map_items(task, usable, what="compare raters", workers=workers, backend="threads", **watched)
    read = _without_faults(outcomes)
    notices = [*_matching_notices(matched, usable, predictions is not None), *_reading_notices(read, chosen)]
    study = study_raters(
        [agreement for case in read for agreement in case.agreements],
        chosen.rules,
        rater_names=tuple(raters),
        model_name=chosen.model_name if predictions is not None else None,
        person_of=person_of,
        calibrated=chosen.spacing_mm is not None or all(case.calibrated for case in read),
        planar=all(case.planar for case in read),
    )
    undrawn = [(case.case_id, _undrawn(case)) for case in matched.cases if len(case.masks) < 2]
    found = replace(study, left_out_cases=(*undrawn, *study.left_out_cases), notices=(*notices, *study.notices))
    for notice in found.notices:
        _log.warning("%s", notice)
    return found


def _people(raters: Mapping[str, Path], settings: RaterSettings) -> dict[str, str]:
    """Return the person of each rater, and refuse names that do not fit."""
    if not 2 <= len(raters) <= MAX_RATERS:
        raise UsageError(f"2 to {MAX_RATERS} raters can be compared; got {len(raters)}.")
    if MODEL in raters or settings.model_name in raters:
        raise UsageError(f"A rater may not be called '{MODEL}' or as the model; give NAME=FOLDER.")
    if unknown := sorted(settings.inverted - {*raters, MODEL}):
        raise UsageError(
            f"Masks of unknown raters cannot be inverted: {', '.join(unknown)}; known: {', '.join(raters)}."
        )
    if settings.person_pattern is None:
        return {}
    try:
        found = {name: re.search(settings.person_pattern, name) for name in raters}
    except re.error as error:
        raise UsageError(f"The persons' pattern '{settings.person_pattern}' cannot be read: {error}.") from error
    return {name: (match[match.re.groups and 1] if match else name) for name, match in found.items()}


def _study_case(
    settings: RaterSettings,
    person_of: Mapping[str, str],
    patient_of: Mapping[str, str],
    with_model: bool,
    files: RaterFiles,
) -> _Read:
    read = _read_all(files, settings)
    frame = next((mask for mask in read.values() if mask.says_geometry), next(iter(read.values())))
    predicted = read.pop(MODEL, None)
    agreements, suspects = [], set()
    for structure in next(iter(read.values())).structures:
        masks = {name: mask.structures[structure] for name, mask in read.items()}
        model = _model_mask(predicted, structure, frame.grid.shape) if with_model else None
        agreements.append(
            compare_raters(
                masks,
                None if model is None else (settings.model_name, model),
                settings.rules,
                spacing_mm=settings.spacing_mm or frame.grid.spacing_mm,
                person_of=person_of,
                named=(files.case_id, patient_of.get(files.case_id, files.case_id), structure),
            )
        )
        suspects |= set(suspected_inversions(masks))
    white = tuple(name for name, mask in read.items() if mask.foreground not in (None, 0, 1))
    return _Read(
        agreements=tuple(agreements),
        suspects=tuple(suspects),
        white=white,
        calibrated=frame.says_geometry,
        planar=frame.grid.dims == 2,
    )


def _model_mask(predicted: RaterMask | None, structure: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the model's mask; an empty one where there is no prediction."""
    return np.zeros(shape, np.bool_) if predicted is None else predicted.structures[structure]


def _read_all(files: RaterFiles, settings: RaterSettings) -> dict[str, RaterMask]:
    """Read the masks of a case; all of its faults are told at once."""
    paths = {**files.masks, **({MODEL: files.prediction} if files.prediction else {})}
    read: dict[str, RaterMask] = {}
    faults = []
    for name, path in paths.items():
        try:
            read[name] = read_rater_mask(path, settings.structures, inverted=name in settings.inverted)
        except DelineateError as error:
            faults.append(str(error))
    faults += _misplaced(files.case_id, {paths[name]: mask for name, mask in read.items()})
    if faults:
        raise DatasetError(f"Case {files.case_id} cannot be compared.", faults)
    return read


def _misplaced(case_id: str, read: Mapping[Path, RaterMask]) -> list[str]:
    """Return one fault for each file that has another shape, or lies elsewhere, than the first of the case."""
    if not read:
        return []
    shapes = [mask.grid.shape for mask in read.values()]
    usual = max(dict.fromkeys(shapes), key=shapes.count)
    faults = [
        f"{path}: expected {usual} voxels, as most masks of case {case_id}; found {mask.grid.shape}"
        for path, mask in read.items()
        if mask.grid.shape != usual
    ]
    placed = {path: mask for path, mask in read.items() if mask.says_geometry and mask.grid.shape == usual}
    first = next(iter(placed), None)
    for path, mask in placed.items():
        if first is not None and (differences := placed[first].grid.differences(mask.grid)):
            faults.append(f"{path}: expected the grid of {first}; found {'; '.join(differences)}")
    return faults


def _without_faults(outcomes: Sequence[Outcome[RaterFiles, _Read]]) -> list[_Read]:
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    faults = [fault for e in errors for fault in (e.faults if isinstance(e, DatasetError) else (str(e),))]
    if faults:
        raise DatasetError(
            f"{len(errors)} of {len(outcomes)} cases cannot be compared; nothing was written. Masks of a case must be "
            "readable and of one size.",
            faults,
        )
    return [outcome.value for outcome in outcomes if outcome.value is not None]


def _matching_notices(matched: MatchedFiles, usable: Sequence[RaterFiles], with_model: bool) -> list[str]:
    notices = []
    if matched.by_part:
        path, case_id = matched.by_part[0]
        notices.append(
            f"{len(matched.by_part)} files were matched to cases by a part of their names, such as {path.name} to "
            f"{case_id}."
        )
    if matched.unmatched:
        listed = _listed([f"{path.parent.name}/{path.name}" for path in matched.unmatched])
        notices.append(f"{len(matched.unmatched)} files belong to no case and were not used: {listed}.")
    missing = [case.case_id for case in usable if case.prediction is None]
    if with_model and missing:
        notices.append(
            f"{len(missing)} cases have no prediction; the model counts there as if it had found nothing: "
            f"{_listed(missing)}."
        )
    return notices


def _reading_notices(read: Sequence[_Read], settings: RaterSettings) -> list[str]:
    notices = []
    if settings.inverted:
        notices.append(f"As asked, 0 was read as the structure in the masks of {_listed(sorted(settings.inverted))}.")
    if white := sorted({name for case in read for name in case.white}):
        notices.append(f"Masks of two values other than 0 and 1 were read as 0 and structure: {_listed(white)}.")
    suspects = [name for case in read for name in case.suspects]
    if suspects:
        counted = [f"{name} ({suspects.count(name)})" for name in sorted(set(suspects))]
        notices.append(
            "Masks may be inverted (0 where the structure is), because their complement agrees better with the others "
            f"or all cover more than {INVERTED_SHARE:.0%} of the image: in {len(read)} cases those of "
            f"{_listed(counted)}. They were read as they are. If 0 is the structure, use --inverted with these raters."
        )
    return notices


def _undrawn(case: RaterFiles) -> str:
    return f"drawn by one rater only ({next(iter(case.masks))})" if case.masks else "drawn by no rater"


def _examples(matched: MatchedFiles) -> str:
    found = [path.name for case in matched.cases for path in case.masks.values()]
    names = found + [path.name for path in matched.unmatched]
    return f"Found {len(names)} masks, such as {_listed(names[:3])}." if names else "Their folders hold no masks."


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
