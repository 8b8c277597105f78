"""What a reader must know before believing the numbers: warnings, and what the numbers mean."""

from __future__ import annotations

import math
from collections.abc import Sequence

from delineate.metrics.statistics import CONFIDENCE_LEVEL
from delineate.metrics.summary import StructureSummary, Summary
from delineate.reports.report_data import Evaluation, ReportData
from delineate.reports.svg import number

FEW_EXAMPLES = 10
"""Training cases with a structure below which its result is left to chance."""

FEW_PATIENTS = 10
"""Scored patients below which a bootstrap interval is markedly too narrow."""

LOW_DICE = 0.5
"""Mean Dice below which less than half of the volume is common to both masks."""

MAX_NAMED = 5
"""Cases named in a warning."""

_EVALUATIONS: dict[Evaluation, str] = {
    "cross_validation": (
        "Every case was predicted by a model that was trained without any case of the same patient (cross-validation)."
        " The final ensemble of all folds was not itself tested on these cases; it is usually slightly better."
    ),
    "validation": (
        "The scored cases were left out of training. They come from the same collection as the training cases, so the"
        " numbers hold for images of the same kind: other scanners, hospitals or diseases can do worse."
    ),
    "test": (
        "The scored cases are a set of their own that took no part in training or in any choice. The numbers hold for"
        " images of the same kind: other scanners, hospitals or diseases can do worse."
    ),
    "training": (
        "The scored cases were also used for training. The numbers say how well the model remembers them, not how good"
        " it is on new images."
    ),
}

_HEADLINES: dict[Evaluation, str] = {
    "cross_validation": "each predicted by a model that had not seen it",
    "validation": "left out of training",
    "test": "of a separate test set",
    "training": "also used for training",
}


def headline(data: ReportData, summary: Summary) -> str:
    """Return the result in one sentence."""
    if summary.case_dice.n_used == 0:
        return "No case was scored." if not data.scores else "No scored case has any structure."
    interval = summary.case_dice.interval
    within = (
        ""
        if math.isnan(interval.low)
        else f" ({_percent(interval.level)} interval {number(interval.low)} to {number(interval.high)})"
    )
    return (
        f"Mean Dice {number(summary.case_dice.mean)}{within} over {_count(summary.n_cases, 'case')} of"
        f" {_count(summary.n_patients, 'patient')}, {_HEADLINES[data.evaluation]}."
    )


def find_warnings(data: ReportData, summary: Summary) -> tuple[str, ...]:
    """Return all warnings: those of the data first, then those that follow from the numbers."""
    found = list(data.warnings)
    if data.evaluation == "training":
        found.append(_EVALUATIONS["training"])
    found += [f"Case {f.case_id} has no scores: {f.reason}" for f in data.failed[:MAX_NAMED]]
    if len(data.failed) > MAX_NAMED:
        found.append(f"{len(data.failed) - MAX_NAMED} further cases have no scores; they are listed at the end.")
    found += [_few_examples(name, n) for name, n in data.training_examples if n < FEW_EXAMPLES]
    if summary.n_patients == 1:
        found.append("The scores rest on 1 patient only; they say nothing about how results vary between patients.")
    elif 0 < summary.n_patients < FEW_PATIENTS:
        found.append(
            f"The scores rest on {summary.n_patients} patients only; the intervals are then too narrow, and which"
            " case is best, median or worst is a matter of chance."
        )
    for structure in summary.structures:
        found += _structure_warnings(structure, data)
    return tuple(found)


def statements(data: ReportData, summary: Summary) -> tuple[tuple[str, str], ...]:
    """Return what the numbers mean, as pairs of a term and its explanation."""
    return (
        ("Which cases", _EVALUATIONS[data.evaluation]),
        ("Reference", REFERENCE_STATEMENT),
        ("Dice", DICE_STATEMENT),
        (
            "IoU",
            "Intersection over union: voxels in both masks over voxels in either. Always below Dice between 0 and 1.",
        ),
        ("Precision, recall", "Share of predicted voxels that are right; share of reference voxels that were found."),
        ("Size error", SIZE_STATEMENT),
        ("Absent structures", EMPTY_STATEMENT),
        (f"{_percent(CONFIDENCE_LEVEL)} interval", _interval_statement(summary)),
        ("Means", _mean_statement(summary)),
        *((f"Note {i}", caveat) for i, caveat in enumerate(data.caveats, start=1)),
        (
            "Use",
            "A research result. No mask made by this model may guide treatment before a qualified person approved it.",
        ),
    )


REFERENCE_STATEMENT = (
    "The masks that came with the data. How far experts differ among themselves is not known here; a Dice beyond their"
    " agreement means nothing."
)
DICE_STATEMENT = (
    "Twice the voxels that both masks share, over the sum of both masks: 1 means identical, 0 no overlap. Small or thin"
    " structures lose more Dice than large ones for the same error in millimetres."
)
SIZE_STATEMENT = (
    "Predicted minus reference size; positive means too large. Too much in one place can hide too little in another, so"
    " read it together with Dice. Relative errors are fractions of the reference size."
)
EMPTY_STATEMENT = (
    "If a structure is in neither mask of a case, the case is left out of that structure's numbers and counted under"
    " ‘left out’. If it is in one mask only, its Dice counts as 0."
)


def _interval_statement(summary: Summary) -> str:
    return (
        "Percentile bootstrap of the mean: whole patients, with all their cases, are drawn with replacement"
        f" {summary.resamples} times (seed {summary.seed}). It says how far the mean could be off for patients like"
        " these; it is not the range of single results, and it covers neither another training run nor other scanners."
    )


def _mean_statement(summary: Summary) -> str:
    return (
        f"The mean Dice above averages each case over its structures, then over cases. nnU-Net’s ‘foreground mean’"
        f" averages each structure over cases, then over structures: {number(summary.foreground_dice)} here"
        f" (IoU {number(summary.foreground_iou)})."
    )


def _few_examples(name: str, n: int) -> str:
    if n == 0:
        return f"{name}: no training case has this structure; the model cannot know it."
    return f"{name}: only {_count(n, 'training case')} had this structure; its result is left to chance."


def _structure_warnings(structure: StructureSummary, data: ReportData) -> list[str]:
    found = []
    name = structure.name
    n_absent = structure.n_reference_empty
    n_present = len(data.scores) - n_absent
    overlaps = [(case.case_id, case.structure(name).overlap) for case in data.scores]
    if structure.n_reference_empty == len(data.scores):
        found.append(f"{name}: in no reference of the scored cases; nothing can be said about finding it.")
    if structure.n_missed:
        cases = [case for case, overlap in overlaps if overlap.reference and not overlap.predicted]
        found.append(f"{name}: not found at all in {len(cases)} of {n_present} cases that have it ({_named(cases)}).")
    if structure.n_invented:
        cases = [case for case, overlap in overlaps if overlap.predicted and not overlap.reference]
        found.append(f"{name}: found in {len(cases)} of {n_absent} cases whose reference lacks it ({_named(cases)}).")
    if structure.dice.mean < LOW_DICE:
        found.append(f"{name}: mean Dice {number(structure.dice.mean)}; most results would have to be redrawn.")
    return found


def _named(case_ids: Sequence[str]) -> str:
    more = len(case_ids) - MAX_NAMED
    return ", ".join(case_ids[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _percent(level: float) -> str:
    return f"{100 * level:g} %"
