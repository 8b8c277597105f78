"""Assessments as files: one JSON per case, and ``quality.csv`` of a folder with the least trusted case first."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from delineate.errors import ImageReadError
from delineate.execution import write_text
from delineate.metrics.trust import Assessment, TrustScore, Verdict

TABLE = "quality.csv"
FOLDER = "assessment"
"""Sub-folder of the predictions, so that no reader of label maps sees the files."""


def assessment_path(folder: Path, case_id: str) -> Path:
    """Return where the assessment of a case stands in a folder of predictions."""
    return folder / FOLDER / f"{case_id}.json"


def write_assessment(folder: Path, assessment: Assessment) -> None:
    """Write the assessment of one case; what is not known is null.

    Raises
    ------
    ResourceError
        If the folder cannot be written.
    """
    content = {
        "case_id": assessment.case_id,
        "verdict": assessment.verdict,
        "expected_dice": _number(assessment.quality),
        "expected_dice_error": _number(assessment.quality_error),
        "outlier": _number(assessment.outlier),
        "reasons": list(assessment.reasons),
        "notices": list(assessment.notices),
        "scores": {s.name: {"value": _number(s.value), "rarity": _number(s.rarity)} for s in assessment.scores},
    }
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    write_text(assessment_path(folder, assessment.case_id), text)


def read_assessment(folder: Path, case_id: str) -> Assessment:
    """Read the assessment of a case back.

    Raises
    ------
    ImageReadError
        If the file is missing or not what :func:`write_assessment` writes.
    """
    path = assessment_path(folder, case_id)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        verdict: Verdict = next(v for v in get_args(Verdict) if v == content["verdict"])
        return Assessment(
            case_id=content["case_id"],
            verdict=verdict,
            quality=_nan(content["expected_dice"]),
            quality_error=_nan(content["expected_dice_error"]),
            outlier=_nan(content["outlier"]),
            reasons=tuple(content["reasons"]),
            notices=tuple(content["notices"]),
            scores=tuple(
                TrustScore(name=name, value=_nan(entry["value"]), rarity=_nan(entry["rarity"]))
                for name, entry in content["scores"].items()
            ),
        )
    except (OSError, ValueError, KeyError, TypeError, StopIteration, AttributeError) as error:
        raise ImageReadError(f"{path} is no assessment: {error!r}. Predict the case again with --overwrite.") from error


def write_quality_table(folder: Path, assessments: Sequence[Assessment]) -> Path:
    """Write :data:`TABLE`, the least trusted case first, and return its path.

    Raises
    ------
    ResourceError
        If the folder cannot be written.
    """
    names = list(dict.fromkeys(score.name for a in assessments for score in a.scores))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["case_id", "verdict", "expected_dice", "outlier", *names, "reasons"])
    for a in worst_first(assessments):
        values = {score.name: score.value for score in a.scores}
        numbers = [a.quality, a.outlier, *(values.get(name, math.nan) for name in names)]
        shown = ["" if math.isnan(n) else f"{n:.4g}" for n in numbers]
        rows.writerow([a.case_id, a.verdict, *shown, "; ".join(a.reasons)])
    write_text(folder / TABLE, text.getvalue())
    return folder / TABLE


def worst_first(assessments: Sequence[Assessment]) -> list[Assessment]:
    """Return the assessments, those to review first, of these the one of lowest expected Dice."""

    def doubt(a: Assessment) -> tuple[bool, float, float]:
        quality = 1.0 if math.isnan(a.quality) else a.quality
        return a.verdict == "nothing unusual", quality, 0.0 if math.isnan(a.outlier) else -a.outlier

    return sorted(assessments, key=doubt)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.6g}")


def _nan(value: Any) -> float:
    return math.nan if value is None else float(value)
