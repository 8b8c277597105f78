"""The numbers of a study of raters as CSV: one row per mask, and one per pair of masks. Computes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from delineate.execution import write_text
from delineate.formats.evaluation_json import csv_text
from delineate.metrics.evaluation.definitions import unit_of
from delineate.metrics.evaluation.rater_case import CaseAgreement
from delineate.metrics.evaluation.rater_study import RaterStudy

MASKS, PAIRS = "raters.csv", "rater_pairs.csv"


def write_rater_tables(folder: Path, study: RaterStudy) -> None:
    """Write ``raters.csv`` and ``rater_pairs.csv``, each atomically.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    write_text(folder / MASKS, csv_text([row for case in study.cases for row in _masks(case, study)]))
    write_text(folder / PAIRS, csv_text([row for case in study.cases for row in _pairs(case, study)]))


def _masks(case: CaseAgreement, study: RaterStudy) -> list[dict[str, Any]]:
    """Return one row per mask; the model's row has its scores against the consensus of all."""
    metric, factor = _metric(study)
    unit, volume_factor = unit_of("ml", planar=study.planar, calibrated=study.calibrated)
    person_of = dict(zip(study.rater_names, study.people or study.rater_names, strict=True))
    rows: list[dict[str, Any]] = [
        {
            **_case(case),
            "rater": rater,
            "person": person_of[rater],
            f"size_{unit}": float(case.volumes_ml[i] * volume_factor),
            f"{metric}_against_others": float(case.people[i] * factor),
            f"model_{metric}_against_the_same": float(case.model[i] * factor),
            "staple_sensitivity": float(case.sensitivity[i]),
            "staple_specificity": float(case.specificity[i]),
        }
        for i, rater in enumerate(case.raters)
    ]
    if study.model_name is not None:
        rows.append(
            {
                **_case(case),
                "rater": study.model_name,
                f"size_{unit}": case.model_ml * volume_factor,
                f"{metric}_against_majority": case.model_against_majority * factor,
                f"{metric}_against_staple": case.model_against_staple * factor,
                f"{metric}_difference_to_people": case.difference * factor,
            }
        )
    return rows


def _pairs(case: CaseAgreement, study: RaterStudy) -> list[dict[str, Any]]:
    metric, factor = _metric(study)
    return [
        {**_case(case), "rater": first, "reference": second, metric: float(case.pairwise[i, j] * factor)}
        for i, first in enumerate(case.raters)
        for j, second in enumerate(case.raters)
        if i != j
    ]


def _case(case: CaseAgreement) -> dict[str, Any]:
    return {"case_id": case.case_id, "patient_id": case.patient_id, "structure": case.structure}


def _metric(study: RaterStudy) -> tuple[str, float]:
    """Return the metric's name and the factor to the unit that is told."""
    return study.structures[0].metric, study.structures[0].factor
