"""What was said about the predictions of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from delineate.formats.assessment_files import assessment_path, read_assessment, worst_first
from delineate.metrics.trust import Assessment


def read_assessments(folder: Path, case_ids: Sequence[str]) -> list[Assessment]:
    """Return the assessments that stand in a folder of predictions, the least trusted first.

    Raises
    ------
    ImageReadError
        If one is damaged.
    """
    known = [case_id for case_id in case_ids if assessment_path(folder, case_id).exists()]
    return worst_first([read_assessment(folder, case_id) for case_id in known])
