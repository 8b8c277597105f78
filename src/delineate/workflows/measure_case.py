"""One predicted label map against its reference: read by the rules, put on one grid, measured.

What cannot be measured is a failure of the model (no file, not readable), which counts with the worst values, or a
fault of the files (another grid, undeclared values), which somebody must correct before there is a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from delineate.case import Structure
from delineate.errors import ImageReadError, InputError
from delineate.formats.datasets.label_files import LabelRules, ReadLabels, ReferenceFiles, read_by
from delineate.geometry.grid import Grid
from delineate.geometry.mistaken_axes import mistaken_axes, nearest_labels, overlap_in_space, permutation
from delineate.masks.turned import likely_turn
from delineate.metrics.scores import CaseScores, evaluate_case
from delineate.metrics.table import EmptyPolicy, StructureRow, evaluate_structures, failed_structures


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuringRules:
    """What is measured, and what may be done to make two files comparable."""

    structures: tuple[Structure, ...]
    ignore: int | None
    metrics: tuple[str, ...]
    tolerance_mm: Mapping[str, float]
    """By structure."""
    policy: EmptyPolicy
    references: LabelRules
    predictions: LabelRules
    resample: bool = False
    """Whether predictions on another grid are taken to the reference's (nearest voxel)."""
    spacing_mm: tuple[float, ...] | None = None
    """Voxel size of files that have none, in the order of the array's axes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseToMeasure:
    """The files of one case."""

    reference: ReferenceFiles
    prediction: Path | None
    """None if there is no file of the case's name."""
    missing: str = ""
    """What was looked for, if there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredCase:
    """The numbers of one case, or what is wrong with its files."""

    case_id: str
    rows: tuple[StructureRow, ...] = ()
    scores: CaseScores | None = None
    failure: str | None = None
    """Why there is no usable prediction; the numbers are the worst ones then."""
    faults: tuple[str, ...] = ()
    """What must be corrected in the files; there are no numbers then."""
    undeclared: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """``reference`` or ``prediction`` -> value -> voxels."""
    resampled: bool = False
    turn: str | None = None
    """How the prediction's array would have to be turned to fit, if it fits badly as it is."""
    white: bool = False
    """Whether 255 was read as 1 in either file."""
    unplaced: bool = False
    """Whether the prediction's file tells no geometry and was laid on the reference's grid."""
    calibrated: bool = True
    """Whether the reference's file, or the user, tells the size of a voxel."""
    planar: bool = False
    """Whether the reference is a plane, or a volume of one slice."""
    flat: bool = False
    """Whether it is such a volume."""


def measure_case(rules: MeasuringRules, case: CaseToMeasure) -> MeasuredCase:
    """Measure one case.

    Faults and failures are part of the result, so that those of all cases can be told at once.
    """
    try:
        truth = read_by(rules.references, case.reference.labels, case.reference.images)
        grid = _calibrated(truth, rules, case.reference.labels)
    except InputError as error:
        return MeasuredCase(case_id=case.reference.case_id, faults=(str(error),))
    found = _measured(rules, case, replace(truth, grid=grid))
    sliced = truth.grid.dims == 3 and truth.grid.shape.count(1) == 1
    undeclared = {**found.undeclared, **({"reference": truth.undeclared} if truth.undeclared else {})}
    return replace(
        found,
        undeclared=undeclared,
        white=found.white or truth.white,
        calibrated=truth.placed or rules.spacing_mm is not None,
        planar=truth.grid.dims == 2 or sliced,
        flat=sliced,
    )


def placed_on(rules: MeasuringRules, case: CaseToMeasure) -> tuple[ReadLabels, ReadLabels]:
    """Read a case again as it was measured: reference, and prediction on the reference's grid.

    Raises
    ------
    InputError
        If a file is not what it was, or there is no prediction.
    """
    truth = read_by(rules.references, case.reference.labels, case.reference.images)
    if case.prediction is None:
        raise InputError(f"{case.missing}: there is no prediction for this case.")
    truth = replace(truth, grid=_calibrated(truth, rules, case.reference.labels))
    return truth, _on_grid(read_by(rules.predictions, case.prediction), truth, rules, case.prediction)[0]


def _measured(rules: MeasuringRules, case: CaseToMeasure, truth: ReadLabels) -> MeasuredCase:
    case_id, path = case.reference.case_id, case.prediction
    if path is None:
        return _failed(rules, case, truth, f"{case.missing}: there is no prediction for this case")
    try:
        guess = read_by(rules.predictions, path)
    except ImageReadError as error:
        return _failed(rules, case, truth, str(error))
    except InputError as error:
        return MeasuredCase(case_id=case_id, faults=(str(error),))
    try:
        placed, resampled = _on_grid(guess, truth, rules, path)
    except InputError as error:
        return MeasuredCase(case_id=case_id, faults=(str(error),), undeclared=_told(guess))
    if guess.undeclared or truth.undeclared:
        return MeasuredCase(case_id=case_id, undeclared=_told(guess))
    return MeasuredCase(
        case_id=case_id,
        rows=_rows(rules, placed, truth),
        scores=_scores(rules, case, placed, truth),
        resampled=resampled,
        turn=_turn(placed, truth, rules.ignore),
        white=guess.white,
        unplaced=not guess.placed and truth.placed,
    )


def _told(guess: ReadLabels) -> dict[str, Mapping[int, int]]:
    return {"prediction": guess.undeclared} if guess.undeclared else {}


def _failed(rules: MeasuringRules, case: CaseToMeasure, truth: ReadLabels, reason: str) -> MeasuredCase:
    nothing = np.zeros_like(truth.array)
    shape, spacing = _plane(truth.grid)
    rows = failed_structures(
        truth.array.reshape(shape),
        [(s.name, s.values) for s in rules.structures],
        spacing_mm=spacing,
        metrics=rules.metrics,
        tolerance_mm=rules.tolerance_mm,
        policy=rules.policy,
        ignore=rules.ignore,
    )
    scores = _scores(rules, case, replace(truth, array=nothing), truth)
    return MeasuredCase(case_id=case.reference.case_id, rows=rows, scores=scores, failure=reason)


def _calibrated(labels: ReadLabels, rules: MeasuringRules, path: Path) -> Grid:
    """Return the grid with the spacing that the user gave, where the file has none.

    Raises
    ------
    InputError
        If the file has another spacing, or the number of axes does not fit.
    """
    wanted, grid = rules.spacing_mm, labels.grid
    if wanted is None:
        return grid
    if len(wanted) != grid.dims:
        raise InputError(f"{path}: has {grid.dims} axes; the spacing given is {wanted}. Give one number per axis.")
    if not labels.placed:
        return replace(grid, spacing_mm=wanted)
    if np.allclose(grid.spacing_mm, wanted, rtol=1e-3):
        return grid
    hint = ""
    if permutation(wanted, grid.spacing_mm) is not None:
        hint = " These are the same numbers in another order: the order is that of the array's axes (z y x)."
    raise InputError(
        f"{path}: its header says a spacing of {_words(grid.spacing_mm)} mm; given was {_words(wanted)} mm.{hint} "
        "`--spacing` is for files that tell none (PNG, TIFF); leave it out, or correct the file."
    )


def _on_grid(guess: ReadLabels, truth: ReadLabels, rules: MeasuringRules, path: Path) -> tuple[ReadLabels, bool]:
    """Return the prediction on the reference's grid, and whether it was resampled for that.

    Raises
    ------
    InputError
        If it lies on another grid and may not or cannot be resampled.
    """
    if not guess.placed or not truth.placed:
        if guess.grid.shape == truth.grid.shape:
            return replace(guess, grid=truth.grid), False
        mistake = mistaken_axes(guess.grid, truth.grid)
    else:
        if not (differences := guess.grid.differences(truth.grid)):
            return guess, False
        mistake = mistaken_axes(guess.grid, truth.grid)
        if rules.resample and mistake is None and guess.grid.dims == truth.grid.dims:
            return _resampled(guess, truth.grid, path), True
    differences = guess.grid.differences(truth.grid)
    words = f"{path}: must lie on the reference's grid; found against expected: {'; '.join(differences)}."
    if mistake is not None:
        raise InputError(f"{words} Compared with the reference, {mistake}. Write it again with its axes in order.")
    if guess.placed and truth.placed:
        raise InputError(f"{words} Predict on the image's grid, or use --resample (nearest voxel).")
    raise InputError(f"{words} A file without geometry is compared pixel by pixel, so the shapes must be equal.")


def _resampled(guess: ReadLabels, grid: Grid, path: Path) -> ReadLabels:
    if not overlap_in_space(guess.grid, grid):
        raise InputError(
            f"{path}: lies elsewhere: it has no place in common with its reference "
            f"({'; '.join(guess.grid.differences(grid))}). Is it another case's, or is its origin wrong?"
        )
    return replace(guess, array=nearest_labels(guess.array, guess.grid, grid), grid=grid)


def _rows(rules: MeasuringRules, guess: ReadLabels, truth: ReadLabels) -> tuple[StructureRow, ...]:
    shape, spacing = _plane(truth.grid)
    return evaluate_structures(
        guess.array.reshape(shape),
        truth.array.reshape(shape),
        [(s.name, s.values) for s in rules.structures],
        spacing_mm=spacing,
        metrics=rules.metrics,
        tolerance_mm=rules.tolerance_mm,
        policy=rules.policy,
        ignore=rules.ignore,
    )


def _scores(rules: MeasuringRules, case: CaseToMeasure, guess: ReadLabels, truth: ReadLabels) -> CaseScores:
    return evaluate_case(
        guess.array,
        truth.array,
        [(s.name, s.values) for s in rules.structures],
        voxel_volume_mm3=float(np.prod(_plane(truth.grid)[1])),
        case_id=case.reference.case_id,
        patient_id=case.reference.patient_id,
        ignore=rules.ignore,
    )


def _turn(guess: ReadLabels, truth: ReadLabels, ignore: int | None) -> str | None:
    """Suspect flipped or exchanged axes, which no header tells, where the foregrounds fit only when turned."""
    foreground = truth.array > 0 if ignore is None else (truth.array > 0) & (truth.array != ignore)
    found = likely_turn(guess.array > 0, foreground)
    if found is None:
        return None
    return (
        f"{found.words()}: Dice of the foreground {found.dice_before:.2f} as stored, {found.dice_after:.2f} if undone"
    )


def _plane(grid: Grid) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return shape and spacing; a volume of one slice is a plane, whose surface is its outline."""
    if grid.dims == 3 and grid.shape.count(1) == 1:
        kept = [i for i, size in enumerate(grid.shape) if size > 1]
        return tuple(grid.shape[i] for i in kept), tuple(grid.spacing_mm[i] for i in kept)
    return grid.shape, grid.spacing_mm


def _words(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)
