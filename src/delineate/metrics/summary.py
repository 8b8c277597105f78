"""The summary of many cases: per structure, over the foreground, and who did worst.

Two means over the foreground are in use and differ as soon as a structure is missing from a case. *Foreground mean*
here is nnU-Net's: the mean over structures of each structure's mean over the cases that have it. *Case mean* is the
other order: each case's mean over its structures; it has a distribution over cases and therefore an interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from delineate.errors import InputError
from delineate.metrics.scores import CaseScores, StructureScores
from delineate.metrics.statistics import RESAMPLES, Spread, spread


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureSummary:
    """One structure over all cases."""

    name: str
    dice: Spread
    iou: Spread
    precision: Spread
    recall: Spread
    volume_error_ml: Spread
    """Signed: predicted minus reference."""
    absolute_volume_error_ml: Spread
    relative_volume_error: Spread
    """Signed fraction of the reference volume; cases without the structure in the reference are left out."""
    worst_case: str | None
    """Case of the lowest Dice, the first of equals; None if no case has the structure."""
    n_reference_empty: int
    """Cases whose reference does not have the structure."""
    n_missed: int
    """Cases whose reference has the structure and whose prediction does not."""
    n_invented: int
    """Cases whose prediction has the structure and whose reference does not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """All structures over all cases."""

    structures: tuple[StructureSummary, ...]
    case_dice: Spread
    """Of each case's mean Dice over its structures."""
    n_cases: int
    n_patients: int
    foreground_dice: float
    """nnU-Net's ``foreground_mean``: mean over structures of the mean over cases; NaN if a structure is in no case."""
    foreground_iou: float
    seed: int
    resamples: int = RESAMPLES


def summarise(scores: Sequence[CaseScores], *, seed: int = 0) -> Summary:
    """Summarise the scores of many cases; an empty list gives a summary without structures.

    Parameters
    ----------
    scores
        One entry per case, all with the same structures in the same order.
    seed
        Of the bootstrap; every quantity starts from it anew, so that adding a structure changes no other interval.

    Raises
    ------
    InputError
        If a case is listed twice or the cases do not have the same structures.
    """
    names = _structure_names(scores)
    patients = [s.patient_id for s in scores]
    structures = tuple(_summarise_structure(i, scores, patients, seed) for i in range(len(names)))
    return Summary(
        structures=structures,
        case_dice=spread([s.mean_dice for s in scores], patients, np.random.default_rng(seed)),
        n_cases=len(scores),
        n_patients=len(set(patients)),
        foreground_dice=_plain_mean([s.dice.mean for s in structures]),
        foreground_iou=_plain_mean([s.iou.mean for s in structures]),
        seed=seed,
    )


def _structure_names(scores: Sequence[CaseScores]) -> tuple[str, ...]:
    if not scores:
        return ()
    seen: set[str] = set()
    names = tuple(s.name for s in scores[0].per_structure)
    for case in scores:
        found = tuple(s.name for s in case.per_structure)
        if found != names:
            raise InputError(f"All cases need scores for {names}, as {scores[0].case_id}; {case.case_id} has {found}.")
        if case.case_id in seen:
            raise InputError(f"Case {case.case_id} is scored twice; every case may enter a summary once.")
        seen.add(case.case_id)
    return names


def _summarise_structure(
    index: int, scores: Sequence[CaseScores], patients: Sequence[str], seed: int
) -> StructureSummary:
    column = [case.per_structure[index] for case in scores]

    def over_cases(quantity: Callable[[StructureScores], float]) -> Spread:
        return spread([quantity(s) for s in column], patients, np.random.default_rng(seed))

    return StructureSummary(
        name=column[0].name,
        dice=over_cases(lambda s: s.dice),
        iou=over_cases(lambda s: s.iou),
        precision=over_cases(lambda s: s.precision),
        recall=over_cases(lambda s: s.recall),
        volume_error_ml=over_cases(lambda s: s.volume_error_ml),
        absolute_volume_error_ml=over_cases(lambda s: s.absolute_volume_error_ml),
        relative_volume_error=over_cases(lambda s: s.relative_volume_error),
        worst_case=_worst([s.dice for s in column], [case.case_id for case in scores]),
        n_reference_empty=sum(s.overlap.reference == 0 for s in column),
        n_missed=sum(s.overlap.reference > 0 and s.overlap.predicted == 0 for s in column),
        n_invented=sum(s.overlap.reference == 0 and s.overlap.predicted > 0 for s in column),
    )


def _worst(values: Sequence[float], case_ids: Sequence[str]) -> str | None:
    known = [(value, i) for i, value in enumerate(values) if not math.isnan(value)]
    return case_ids[min(known)[1]] if known else None


def _plain_mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
