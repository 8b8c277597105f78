"""A trust study as files: everything as JSON, and three tables."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from delineate.execution import write_text
from delineate.metrics.calibration import Reliability
from delineate.metrics.evaluation.trust_study import JudgedCase, TrustStudy

DOCUMENT = "trust.json"


def write_study(folder: Path, study: TrustStudy, cases: Sequence[JudgedCase], failed: Sequence[str]) -> None:
    """Write ``trust.json``, ``cases.csv``, ``shifts.csv`` and ``failures.csv``; what is not known is null or empty.

    Raises
    ------
    ResourceError
        If the folder cannot be written.
    """
    content = {
        "shifts": [_plain(asdict(d)) for d in study.shifts],
        "failures": [_plain(asdict(d)) for d in study.failures],
        "temperature": study.temperature,
        "reliability_before": _reliability(study.reliability_before),
        "reliability_after": _reliability(study.reliability_after),
        "seed": study.seed,
        "not_predicted": list(failed),
    }
    write_text(folder / DOCUMENT, json.dumps(content, indent=1, allow_nan=False))
    names = list(cases[0].scores) if cases else []
    rows = [[c.case_id, c.patient_id, c.shift or "ordinary", c.dice, *c.scores.values()] for c in cases]
    _table(folder / "cases.csv", ["case_id", "patient_id", "shift", "dice", *names], rows)
    shifts = [
        [d.shift, d.score, d.auroc, d.interval.low, d.interval.high, d.n_ordinary, d.n_shifted] for d in study.shifts
    ]
    _table(folder / "shifts.csv", ["shift", "score", "auroc", "low", "high", "ordinary", "shifted"], shifts)
    failures = [
        [f.population, f.score, f.aurc, f.aurc_ideal, f.aurc_random, f.failure_auroc, f.spearman, f.n_cases]
        for f in study.failures
    ]
    header = ["population", "score", "aurc", "ideal", "random", "failure_auroc", "spearman", "cases"]
    _table(folder / "failures.csv", header, failures)


def _reliability(found: Reliability | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {**_plain(asdict(found)), "error": _plain(found.error), "largest_error": _plain(found.largest_error)}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[_cell(value) for value in row] for row in rows])
    write_text(path, text.getvalue())


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.6g}"
