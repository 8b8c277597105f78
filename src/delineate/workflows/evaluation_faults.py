"""What an evaluation tells besides numbers: faults of files, all at once; failed cases; what the reader must know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from delineate.errors import DatasetError
from delineate.formats.cases_table import CasesTable
from delineate.metrics.evaluation.evaluation import FailedPrediction
from delineate.workflows.measure_case import MeasuredCase, MeasuringRules
from delineate.workflows.open_evaluation import OpenedEvaluation

SHOWN = 10
"""Names of cases that a sentence lists."""


def require_sound(measured: Mapping[str, Sequence[MeasuredCase]], rules: MeasuringRules) -> None:
    """Stop if files must be corrected before there can be a result.

    Raises
    ------
    DatasetError
        With the faults of all files of all models, and the undeclared values by value.
    """
    faults = []
    for name, cases in measured.items():
        prefix = f"{name}: " if len(measured) > 1 else ""
        faults += [f"{prefix}{fault}" for case in cases for fault in case.faults]
        faults += [f"{prefix}{line}" for line in _undeclared(cases, "prediction", rules)]
    faults = list(dict.fromkeys(faults))  # a faulty reference is met once per model
    faults += _undeclared(next(iter(measured.values())), "reference", rules)
    if faults:
        raise DatasetError(f"The files have {len(faults)} fault(s) to correct; no result was written.", faults)


def failed_predictions(cases: Sequence[MeasuredCase]) -> tuple[FailedPrediction, ...]:
    """Return the cases without a usable prediction."""
    return tuple(
        FailedPrediction(case_id=case.case_id, reason=case.failure) for case in cases if case.failure is not None
    )


def notices_of(
    opened: OpenedEvaluation, measured: Mapping[str, Sequence[MeasuredCase]], grouping: Mapping[str, str]
) -> tuple[str, ...]:
    """Return what the reader must know, most important first."""
    cases, table = measured[opened.name], opened.table
    told = [*opened.references.notices, *(note for one in opened.matched.values() for note in one.notices)]
    told = list(dict.fromkeys(told))
    for name, other in measured.items():
        turned = [f"{case.case_id} ({case.turn})" for case in other if case.turn is not None]
        if turned:
            told.insert(0, f"{name}: suspected of turned arrays, measured as they are: {'; '.join(turned[:SHOWN])}.")
        if name == opened.name:
            continue
        if failed := [case.case_id for case in other if case.failure is not None]:
            told.append(f"{name}: {counted(failed, 'case')} without a usable prediction count with the worst values.")
    told += _read_differently(cases)
    told += _sizes(cases, opened.rules)
    told += [f"Groups: {words}." for words in grouping.values()]
    return (*told, *_outside(table, [case.case_id for case in cases]))


def _read_differently(cases: Sequence[MeasuredCase]) -> Iterable[str]:
    """Tell what was done to files before they were measured."""
    rules = (
        ("Masks of 0 and 255 alone were read as 0 and 1", [case.case_id for case in cases if case.white]),
        (
            "Predictions that tell no geometry were laid on the grid of their reference",
            [case.case_id for case in cases if case.unplaced],
        ),
        (
            "Resampled to the grid of the reference (nearest voxel), as asked",
            [case.case_id for case in cases if case.resampled],
        ),
        ("Volumes of one slice are measured as planes", [case.case_id for case in cases if case.flat]),
    )
    for words, found in rules:
        if found:
            yield f"{words}: {counted(found, 'case', len(cases))}."


def counted(names: Sequence[str], what: str, total: int | None = None) -> str:
    """Return a number of things with the first of their names: ``12 cases (a, b, ...)``; without names if it is all."""
    if total is not None and len(names) == total > 1:
        return f"all {total} {what}s"
    shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return f"{len(names)} {what}{'s' if len(names) != 1 else ''} ({shown})"


def _sizes(cases: Sequence[MeasuredCase], rules: MeasuringRules) -> Iterable[str]:
    if rules.spacing_mm is not None:
        sizes = " x ".join(f"{value:g}" for value in rules.spacing_mm)
        yield f"The voxel size was given by hand, because the files tell none: {sizes} mm (order of the array's axes)."
    unknown = [case.case_id for case in cases if not case.calibrated]
    if len(unknown) == len(cases):
        yield "The files do not say how large a pixel is: distances and tolerances are pixels (--spacing gives a size)."
    elif unknown:
        yield f"A voxel size of 1 mm was assumed, because the file tells none: {counted(unknown, 'case')}."
    planes = sum(case.planar for case in cases)
    if 0 < planes < len(cases):
        yield f"{planes} of {len(cases)} cases are planes and the others volumes; their sizes cannot be compared."


def _outside(table: CasesTable | None, case_ids: Sequence[str]) -> list[str]:
    """Tell rows of the table without a case, and cases without a row."""
    if table is None:
        return []
    unused = [name for name in table.rows if name not in set(case_ids)]
    absent = [case for case in case_ids if case not in table.rows]
    told = []
    if unused:
        told.append(f"{table.path.name} has rows of cases that are not evaluated: {counted(unused, 'row')}.")
    if absent:
        told.append(f"{table.path.name} does not have {counted(absent, 'case')}; they are 'not recorded'.")
    return told


def _undeclared(cases: Sequence[MeasuredCase], side: str, rules: MeasuringRules) -> list[str]:
    """Return one line per value that no structure has: how many voxels in which files, and what to do."""
    voxels: dict[int, int] = {}
    where: dict[int, list[str]] = {}
    for case in cases:
        for value, count in case.undeclared.get(side, {}).items():
            voxels[value] = voxels.get(value, 0) + count
            where.setdefault(value, []).append(case.case_id)
    declared = ", ".join(f"{s.name}={','.join(map(str, s.values))}" for s in rules.structures)
    first = rules.structures[0].values[0]
    ways = ["declare it (--labels NAME=VALUE ...)", "count it as background (--repair undeclared-to-background)"]
    told = []
    for value in sorted(voxels):
        remedies = [*ways, f"read it as another (--map {value}={first})"] if side == "prediction" else ways
        told.append(
            f"{side}s hold the value {value}, which is not declared ({declared}): {voxels[value]} voxels in "
            f"{counted(where[value], 'file')}. Correct the files, or {', or '.join(remedies)}."
        )
    return told
