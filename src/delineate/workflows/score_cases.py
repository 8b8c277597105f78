"""Predicted label maps against references, case by case."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Unpack

import numpy as np
from numpy.typing import NDArray

from delineate.case import Case, LabelMap, LabelScheme
from delineate.errors import DelineateError, GeometryError
from delineate.execution import Cancellation, Progress, Silent, Watched, write_text
from delineate.formats.behaviour_file import ENDING, write_behaviour
from delineate.formats.datasets import CaseFiles, Dataset
from delineate.formats.images import label_ending, read_labels, write_labels
from delineate.formats.nnunet.case_properties import write_probabilities
from delineate.formats.nnunet.summary_json import write_summary
from delineate.formats.prepared_store import StoredCase
from delineate.inference import gather_logits, stream_logits
from delineate.metrics.scores import CaseScores, evaluate_case
from delineate.preprocessing import restore_labels, restore_probabilities, restore_stream, with_one_hot
from delineate.reports import FailedCase
from delineate.workflows.model import Model
from delineate.workflows.watch_case import voxels_to_watch, watching

BEHAVIOUR = "behaviour"
"""Sub-folder of predictions with what the networks showed; see :mod:`delineate.formats.behaviour_file`."""
SUMMARY = "summary.json"
"""nnU-Net's file of scores."""
MADE_BY = "made_by.json"
"""Names the model of the predictions in a folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """Scores of the cases that could be scored, and why the others could not."""

    scores: tuple[CaseScores, ...]
    failed: tuple[FailedCase, ...]


UseLogits = Callable[[StoredCase, NDArray[Any]], None]
"""Takes a case and its logits (head, z, y, x) on the prepared grid."""


class CaseSource(Protocol):
    """Opens prepared cases."""

    def open(self, case_id: str) -> StoredCase:
        """Open one case for reading."""


def predict_prepared(
    model: Model,
    store: CaseSource,
    dataset: Dataset,
    case_ids: Sequence[str],
    folder: Path,
    *,
    probabilities: bool = False,
    use_logits: UseLogits | None = None,
    watch: bool = False,
    **watched: Unpack[Watched],
) -> None:
    """Predict prepared cases into ``folder``; cases that stand there already are kept.

    Parameters
    ----------
    model
        The trained model.
    store
        The prepared cases.
    dataset
        Where they are from.
    case_ids
        Which ones.
    folder
        Gets ``{case_id}`` with the ending of label maps.
    probabilities
        Also write ``{case_id}.npz`` and ``{case_id}.pkl``, as nnU-Net's ensembling reads them.
    use_logits
        Gets the logits of every case that is predicted, before its label map is written.
    watch
        Also write what the networks show to :data:`BEHAVIOUR`; cases without it are predicted again.
    watched
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    Interrupted
        If a stop was requested; finished cases stay.
    """
    progress, cancellation = watched["progress"], watched["cancellation"]
    expected = {
        i: [prediction_path(folder, i, dataset), *([behaviour_path(folder, i)] if watch else [])] for i in case_ids
    }
    missing = [i for i in case_ids if not all(file.exists() for file in expected[i])]
    if not missing:
        return
    progress.start("predict", len(missing))
    for case_id in missing:
        cancellation.check()
        stored = store.open(case_id)
        if probabilities or use_logits is not None:
            array = network_input(stored, dataset)
            slabs = stream_logits(model.ensemble, array, model.tiling, cancellation=cancellation)
            logits = gather_logits(slabs, stored.trace.prepared_shape)
            labels = restore_labels(logits, stored.trace, dataset.scheme)
            if probabilities:
                detail = restore_probabilities(logits, stored.trace, dataset.scheme)
                write_probabilities(folder / case_id, detail, stored.trace.grid)
            if use_logits is not None:
                use_logits(stored, logits)
        else:
            labels = _labels_of(model, stored, dataset, folder if watch else None, cancellation)
        write_labels(prediction_path(folder, case_id, dataset), labels)
        progress.advance(note=case_id)
    progress.finish()


def _labels_of(
    model: Model, stored: StoredCase, dataset: Dataset, watch_into: Path | None, cancellation: Cancellation
) -> LabelMap:
    """Predict one case as a stream; where wanted, write what the networks show below a folder."""
    array = network_input(stored, dataset)
    if watch_into is None:
        slabs = stream_logits(model.ensemble, array, model.tiling, cancellation=cancellation)
        return restore_stream(slabs, stored.trace, dataset.scheme)
    reference = stored.labels[...]
    voxels = voxels_to_watch(reference, dataset.scheme, stored.case_id)
    with watching(model) as watch:
        slabs = watch.stream(array, voxels=voxels, progress=Silent(), cancellation=cancellation)
        labels = restore_stream(slabs, stored.trace, dataset.scheme)
        write_behaviour(behaviour_path(watch_into, stored.case_id), watch.recorded(reference, voxels))
    return labels


def behaviour_path(folder: Path, case_id: str) -> Path:
    """Return where it stands what the networks showed of a case."""
    return folder / BEHAVIOUR / f"{case_id}{ENDING}"


def network_input(stored: StoredCase, dataset: Dataset) -> NDArray[np.float32]:
    """Return what a network takes of a prepared case: (channel, z, y, x), in a cascade with the previous stage."""
    array: NDArray[np.float32] = stored.array[...]
    if stored.previous is None:
        return array
    return with_one_hot(array, stored.previous[...], dataset.scheme.values)


def keep_only_predictions_of(model: Model, folder: Path) -> None:
    """Remove predictions that another model, or the same one with other settings, left in ``folder``.

    Which model they are of stands in :data:`MADE_BY`; so a longer trained model is never scored by old masks.
    """
    keep_only_predictions_by([model], folder)


def keep_only_predictions_by(models: Sequence[Model], folder: Path) -> None:
    """As :func:`keep_only_predictions_of`, for the predictions of an ensemble of models."""
    record = folder / MADE_BY
    if record.exists() and record.read_text(encoding="utf-8") == _made_by(models):
        return
    if folder.exists():
        shutil.rmtree(folder)
    write_text(record, _made_by(models))


def _made_by(models: Sequence[Model]) -> str:
    parts = [{"model": m.package.network_identity, "mirror_axes": m.tiling.mirror_axes} for m in models]
    return json.dumps(parts[0] if len(parts) == 1 else parts)


def prediction_path(folder: Path, case_id: str, dataset: Dataset) -> Path:
    """Return where the predicted label map of a case stands."""
    return folder / f"{case_id}{label_ending(dataset.file_ending)}"


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
    return score_labels(read_labels(prediction, dataset.scheme), loaded, dataset, str(prediction))


def score_labels(predicted: LabelMap, case: Case, dataset: Dataset, name: str) -> CaseScores:
    """Score a label map against the reference of its case; ``name`` says in errors where it came from.

    Raises
    ------
    GeometryError
        If there is no reference, or the two do not lie on one grid.
    """
    if case.labels is None:
        raise GeometryError(f"Case {case.case_id} has no reference mask to compare with.")
    differences = predicted.grid.differences(case.labels.grid)
    if differences:
        raise GeometryError(
            f"{name} and the reference of case {case.case_id} must lie on one grid; they differ in "
            f"{'; '.join(differences)}. Resample the prediction to the image's grid."
        )
    return evaluate_case(
        predicted.array,
        case.labels.array,
        structures_of(dataset.scheme),
        voxel_volume_mm3=case.image.grid.voxel_volume_mm3,
        case_id=case.case_id,
        patient_id=case.patient_id,
        ignore=dataset.scheme.ignore,
    )


def structures_of(scheme: LabelScheme) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return name and label values of every structure."""
    return tuple((s.name, s.values) for s in scheme.structures)
