"""Predicted label maps against references, case by case."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from delineate.case import LabelScheme
from delineate.errors import DelineateError, GeometryError
from delineate.execution import Cancellation, Progress, Silent, write_text
from delineate.formats.datasets import CaseFiles, Dataset
from delineate.formats.images import read_labels, write_labels
from delineate.formats.nnunet.summary_json import write_summary
from delineate.formats.prepared_store import PreparedStore
from delineate.inference import stream_logits
from delineate.metrics.scores import CaseScores, evaluate_case
from delineate.preprocessing import restore_stream
from delineate.reports import FailedCase
from delineate.workflows.model import Model

SUMMARY = "summary.json"
"""nnU-Net's file of scores."""
MADE_BY = "made_by.json"
"""Names the model of the predictions in a folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """Scores of the cases that could be scored, and why the others could not."""

    scores: tuple[CaseScores, ...]
    failed: tuple[FailedCase, ...]


def predict_prepared(
    model: Model,
    store: PreparedStore,
    dataset: Dataset,
    case_ids: Sequence[str],
    folder: Path,
    *,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> None:
    """Predict prepared cases into ``folder``; cases that stand there already are kept.

    Raises
    ------
    Interrupted
        If a stop was requested; finished cases stay.
    """
    progress, cancellation = progress or Silent(), cancellation or Cancellation()
    missing = [i for i in case_ids if not prediction_path(folder, i, dataset).exists()]
    if not missing:
        return
    progress.start("predict", len(missing))
    for case_id in missing:
        cancellation.check()
        stored = store.open(case_id)
        slabs = stream_logits(model.ensemble, stored.array[...], model.tiling, cancellation=cancellation)
        labels = restore_stream(slabs, stored.trace, dataset.scheme)
        write_labels(prediction_path(folder, case_id, dataset), labels)
        progress.advance(note=case_id)
    progress.finish()


def keep_only_predictions_of(model: Model, folder: Path) -> None:
    """Remove predictions that another model, or the same one with other settings, left in ``folder``.

    Which model they are of stands in :data:`MADE_BY`; so a longer trained model is never scored by old masks.
    """
    made_by = json.dumps({"model": model.package.identity, "mirror_axes": model.tiling.mirror_axes})
    record = folder / MADE_BY
    if record.exists() and record.read_text(encoding="utf-8") == made_by:
        return
    if folder.exists():
        shutil.rmtree(folder)
    write_text(record, made_by)


def prediction_path(folder: Path, case_id: str, dataset: Dataset) -> Path:
    """Return where the predicted label map of a case stands."""
    ending = dataset.file_ending if dataset.file_ending not in (".jpg", ".jpeg") else ".png"
    return folder / f"{case_id}{ending}"


def score_cases(
    cases: Sequence[CaseFiles],
    dataset: Dataset,
    prediction_of: Callable[[CaseFiles], Path],
    folder: Path,
    *,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> Scored:
    """Score predicted files against the references of a dataset.

    A case whose prediction is missing, unreadable or on another grid is a failure with a reason, never left out in
    silence. nnU-Net's ``summary.json`` is written to ``folder``.

    Raises
    ------
    Interrupted
        If a stop was requested.
    """
    progress, cancellation = progress or Silent(), cancellation or Cancellation()
    progress.start("score", len(cases))
    scores, failed = [], []
    for case in cases:
        cancellation.check()
        progress.advance()
        try:
            scores.append(score_case(case, dataset, prediction_of(case)))
        except DelineateError as error:
            failed.append(FailedCase(case_id=case.case_id, reason=str(error)))
    progress.finish()
    if scores:
        write_summary(
            folder / SUMMARY,
            scores,
            dataset.scheme,
            reference_files={case.case_id: str(case.labels) for case in cases},
            prediction_files={case.case_id: str(prediction_of(case)) for case in cases},
        )
    return Scored(scores=tuple(scores), failed=tuple(failed))


def score_case(case: CaseFiles, dataset: Dataset, prediction: Path) -> CaseScores:
    """Score one predicted file against the reference of its case.

    Raises
    ------
    InputError
        If a file cannot be read, or the two do not lie on one grid.
    """
    loaded = dataset.load(case)
    if loaded.labels is None:
        raise GeometryError(f"Case {case.case_id} has no reference mask to compare with.")
    predicted = read_labels(prediction, dataset.scheme)
    differences = predicted.grid.differences(loaded.labels.grid)
    if differences:
        raise GeometryError(
            f"{prediction} and the reference of case {case.case_id} must lie on one grid; they differ in "
            f"{'; '.join(differences)}. Resample the prediction to the image's grid."
        )
    return evaluate_case(
        predicted.array,
        loaded.labels.array,
        structures_of(dataset.scheme),
        voxel_volume_mm3=loaded.image.grid.voxel_volume_mm3,
        case_id=case.case_id,
        patient_id=case.patient_id,
        ignore=dataset.scheme.ignore,
    )


def structures_of(scheme: LabelScheme) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return name and label values of every structure."""
    return tuple((s.name, s.values) for s in scheme.structures)
