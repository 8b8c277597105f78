"""A case whose truth is known, predicted and watched: what can be known without the truth, and the truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.case import Case, LabelMap
from delineate.case.prepared import Trace
from delineate.errors import InputError
from delineate.execution import Cancellation, Silent
from delineate.formats.examined_case import Examined
from delineate.metrics.statistics import mean_or_nan
from delineate.metrics.table import StructureRow, evaluate_structures
from delineate.metrics.trust import HonestCase, Population, image_statistics, measure_shapes
from delineate.preprocessing import restore_stream
from delineate.preprocessing.reader_orientation import turn_labels
from delineate.workflows.model import Model
from delineate.workflows.prepare_for_model import prepare_for_model
from delineate.workflows.score_cases import structures_of
from delineate.workflows.watch_case import observation_of, voxels_to_watch, watching


def examine_case(case: Case, model: Model, *, cancellation: Cancellation | None = None) -> Examined:
    """Predict a case, watch the networks, and compare the result with the reference.

    The label map is taken as the networks made it, without post-processing.

    Raises
    ------
    InputError
        If the case has no reference, or the image cannot be used.
    Interrupted
        If a stop was requested.
    """
    if case.labels is None:
        raise InputError(f"Case {case.case_id} has no reference mask.")
    watch_stop, scheme = cancellation or Cancellation(), model.package.scheme
    given = prepare_for_model(case.image, model, case_id=case.case_id, cancellation=watch_stop)
    trace = given.prepared.trace
    reference = _on_prepared_grid(turn_labels(case.labels, given.turning), trace)
    voxels = voxels_to_watch(reference, scheme, case.case_id)
    with watching(model) as watch:
        slabs = watch.stream(given.prepared.array, voxels=voxels, progress=Silent(), cancellation=watch_stop)
        labels = given.labels_back(restore_stream(slabs, trace, scheme))
        recorded = watch.recorded(reference, voxels)
    rows = _rows(labels, case.labels, case, model)
    dice = {row.name: row.values["dice"] for row in rows}
    return Examined(
        case_id=case.case_id,
        patient_id=case.patient_id,
        honest=HonestCase(
            observation=observation_of(recorded.behaviour, case.image, labels, model),
            dice=mean_or_nan(list(dice.values())),
            logits=recorded.logits,
            truths=recorded.truths,
        ),
        population=Population(
            image=image_statistics(case.image.array, case.image.grid),
            shapes=measure_shapes(case.labels.array, case.labels.grid, structures_of(scheme)),
        ),
        dice={name: None if math.isnan(value) else value for name, value in dice.items()},
    )


def _rows(labels: LabelMap, reference: LabelMap, case: Case, model: Model) -> tuple[StructureRow, ...]:
    return evaluate_structures(
        labels.array,
        reference.array,
        structures_of(model.package.scheme),
        spacing_mm=case.image.grid.spacing_mm,
        metrics=("dice",),
        ignore=model.package.scheme.ignore,
    )


def _on_prepared_grid(labels: LabelMap, trace: Trace) -> NDArray[Any]:
    """Return labels as they lie on the prepared grid (z, y, x), the nearest voxel of each."""
    lifted = labels.array[None] if trace.is_plane else labels.array
    turned = lifted.transpose(trace.transpose)
    places = [
        start + np.minimum(((np.arange(n) + 0.5) * (stop - start) / n).astype(int), stop - start - 1)
        for n, (start, stop) in zip(trace.prepared_shape, trace.box, strict=True)
    ]
    found: NDArray[Any] = turned[np.ix_(*places)]
    return found
