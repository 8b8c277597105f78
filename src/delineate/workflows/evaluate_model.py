"""How good is a model? A folder of predictions against references, answered as one :class:`Evaluation` and as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from delineate.execution import Cancellation, Progress, Silent, Watched, require_writable
from delineate.metrics.cohort import CaseRows, CohortRow, summarise_rows
from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.metrics.evaluation.model_comparison import ModelComparison, compare_models
from delineate.metrics.evaluation.rater_study import RaterStudy
from delineate.metrics.evaluation.thresholds import ThresholdVerdict, judge, published_thresholds
from delineate.metrics.evaluation.volume_agreement import agree_on_volumes
from delineate.workflows.evaluate_raters import study_rater_folders
from delineate.workflows.evaluation_faults import failed_predictions, notices_of, require_sound
from delineate.workflows.evaluation_groups import group_cases
from delineate.workflows.evaluation_request import EvaluationRequest
from delineate.workflows.measure_case import CaseToMeasure, MeasuredCase
from delineate.workflows.measured_cases import MEASURED, measure_cases
from delineate.workflows.open_evaluation import OpenedEvaluation, open_evaluation
from delineate.workflows.write_evaluation import write_evaluation

__all__ = ["EvaluationRequest", "evaluate_model"]


def evaluate_model(
    request: EvaluationRequest,
    out: Path,
    *,
    answer_more: Callable[[Evaluation], Evaluation] | None = None,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> Evaluation:
    """Evaluate predictions and write everything that was found.

    Cases without a usable prediction count with the worst values and stand in ``failed``. An interrupted or repeated
    evaluation measures only what is new.

    Parameters
    ----------
    request
        What is to be evaluated.
    out
        Gets ``report.html``, ``results.json``, CSV tables, nnU-Net's ``summary.json``.
    answer_more
        Fills further parts of the evaluation before it is written.
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    UsageError
        If the request contradicts itself, or names a metric, structure or column that does not exist.
    DatasetError
        If references or predictions cannot be understood, lie on other grids, or hold undeclared values; tells all.
    ResourceError
        If the output cannot be written.
    Interrupted
        If a stop was requested.
    """
    watched = Watched(progress=progress or Silent(), cancellation=cancellation or Cancellation())
    require_writable(out)
    opened = open_evaluation(request)
    measured = _measure_models(opened, request, out, watched)
    require_sound(measured, opened.rules)
    models = {name: _rows(opened.matched[name].cases, found) for name, found in measured.items()}
    cases, found = models[opened.name], measured[opened.name]
    table = summarise_rows(cases, seed=request.seed)
    subgroups, grouping = group_cases(cases, opened.table, request, **watched)
    evaluation = Evaluation(
        name=opened.references.name,
        cases=cases,
        table=table,
        metrics=request.metrics,
        failed=failed_predictions(found),
        without_reference=opened.matched[opened.name].without_reference,
        resampled=tuple(case.case_id for case in found if case.resampled),
        volumes=agree_on_volumes(cases, seed=request.seed),
        thresholds=_judge(table, opened, request),
        subgroups=subgroups,
        comparison=_compare(models, request),
        raters=_among_raters(opened, request, found, watched),
        notices=notices_of(opened, measured, grouping),
        planar=all(case.planar for case in found),
        calibrated=all(case.calibrated for case in found),
        seed=request.seed,
    )
    if answer_more is not None:
        evaluation = answer_more(evaluation)
    write_evaluation(evaluation, request, opened, found, grouping, out)
    return evaluation


def _among_raters(
    opened: OpenedEvaluation, request: EvaluationRequest, measured: Sequence[MeasuredCase], watched: Watched
) -> RaterStudy | None:
    """Compare the evaluated model with the people who drew the same cases, if there are any."""
    if not request.raters:
        return None
    cases = opened.matched[opened.name].cases
    failed = {failure.case_id for failure in failed_predictions(measured)}
    settings = replace(
        request.among_raters,
        rules=replace(request.among_raters.rules, seed=request.seed),
        structures=opened.rules.structures,
        spacing_mm=request.spacing_mm,
        model_name=opened.name,
    )
    return study_rater_folders(
        request.raters,
        {i: None if i in failed else case.prediction for case in cases if (i := case.reference.case_id)},
        settings,
        patient_of={case.reference.case_id: case.reference.patient_id for case in cases},
        workers=request.workers,
        **watched,
    )


def _judge(
    table: Sequence[CohortRow], opened: OpenedEvaluation, request: EvaluationRequest
) -> tuple[ThresholdVerdict, ...]:
    """Hold the means against what was declared, and against what is commonly asked for where nothing was."""
    declared = {(threshold.structure, threshold.metric) for threshold in request.thresholds}
    cited = published_thresholds([row.name for row in table], modality=request.modality or opened.references.modality)
    fitting = [t for t in cited if t.metric in request.metrics and (t.structure, t.metric) not in declared]
    return judge(table, (*request.thresholds, *fitting))


def _measure_models(
    opened: OpenedEvaluation, request: EvaluationRequest, out: Path, watched: Watched
) -> dict[str, tuple[MeasuredCase, ...]]:
    several = len(opened.matched) > 1
    return {
        name: measure_cases(
            matched.cases,
            opened.rules,
            out / MEASURED,
            what=f"measure {name}" if several else "measure",
            workers=request.workers,
            watched=watched,
        )
        for name, matched in opened.matched.items()
    }


def _rows(cases: Sequence[CaseToMeasure], measured: Sequence[MeasuredCase]) -> tuple[CaseRows, ...]:
    return tuple(
        CaseRows(case_id=case.reference.case_id, patient_id=case.reference.patient_id, rows=found.rows)
        for case, found in zip(cases, measured, strict=True)
    )


def _compare(models: Mapping[str, Sequence[CaseRows]], request: EvaluationRequest) -> ModelComparison | None:
    return compare_models(models, request.metrics, seed=request.seed) if len(models) > 1 else None
