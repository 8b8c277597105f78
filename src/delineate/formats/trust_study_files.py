"""The tables of a trust study; the whole of it stands in the ``results.json`` of its evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from delineate.execution import write_text
from delineate.formats.evaluation_json import csv_text
from delineate.metrics.evaluation.trust_study import JudgedCase, TrustStudy

CASES, SHIFTS, FAILURES = "trust_cases.csv", "trust_shifts.csv", "trust_failures.csv"


def write_study_tables(folder: Path, study: TrustStudy, cases: Sequence[JudgedCase]) -> None:
    """Write every case with its scores, every shift and every population of failures; what is not known is empty.

    Raises
    ------
    ResourceError
        If the folder cannot be written.
    """
    rows = [
        {"case_id": c.case_id, "patient_id": c.patient_id, "shift": c.shift or "ordinary", "dice": c.dice, **c.scores}
        for c in cases
    ]
    shifts = [
        {
            "shift": d.shift,
            "score": d.score,
            "auroc": d.auroc,
            "low": d.interval.low,
            "high": d.interval.high,
            "ordinary": d.n_ordinary,
            "shifted": d.n_shifted,
        }
        for d in study.shifts
    ]
    failures = [
        {
            "population": f.population,
            "score": f.score,
            "aurc": f.aurc,
            "ideal": f.aurc_ideal,
            "random": f.aurc_random,
            "failure_auroc": f.failure_auroc,
            "spearman": f.spearman,
            "cases": f.n_cases,
        }
        for f in study.failures
    ]
    for name, table in ((CASES, rows), (SHIFTS, shifts), (FAILURES, failures)):
        write_text(folder / name, csv_text(table))
