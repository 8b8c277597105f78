"""A request with its files found: which prediction belongs to which reference, and the rules of measuring."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from delineate.errors import UsageError
from delineate.formats.cases_table import CasesTable, read_cases_table, with_column
from delineate.formats.datasets.label_files import LabelRules, References
from delineate.metrics.evaluation.directions import direction_of
from delineate.workflows.evaluation_groups import check_columns
from delineate.workflows.evaluation_request import EVERY_STRUCTURE, TOLERANCE_MM, EvaluationRequest
from delineate.workflows.measure_case import MeasuringRules
from delineate.workflows.open_references import Matched, is_run, match_predictions, open_references

FOLD = "fold"
"""Column of the fold that predicted a case, in a cross-validation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedEvaluation:
    """What is measured, and what is known of the cases."""

    name: str
    """Of the evaluated model."""
    references: References
    matched: Mapping[str, Matched]
    """By model, the evaluated one first."""
    table: CasesTable | None
    """With its rows under the names of the cases."""
    rules: MeasuringRules


def open_evaluation(request: EvaluationRequest) -> OpenedEvaluation:
    """Find all files, and everything in the request that cannot be, before anything is measured.

    Raises
    ------
    UsageError
        If the request contradicts itself, or names what does not exist.
    DatasetError
        If references, predictions or the table of cases cannot be understood.
    """
    name = request.name or request.predictions.resolve().name
    if name in request.others:
        raise UsageError(f"Two models are called '{name}'; give the evaluated one another name (--name).")
    if request.raters and request.renamed:
        raise UsageError("Predictions whose values are read as others (--map) cannot be compared with raters.")
    _check_numbers(request)
    references = _references(request)
    rules = _rules(request, references)
    first = match_predictions(request.predictions, references, configuration=request.configuration, some=request.some)
    ids = [case.reference.case_id for case in first.cases]
    table = None if request.table is None else read_cases_table(request.table).matched(ids)
    if first.fold_of:
        table = with_column(table, FOLD, first.fold_of)
    check_columns(request.by, table, ids)
    others = {other: _match_same(folder, references, first) for other, folder in request.others.items()}
    return OpenedEvaluation(
        name=name,
        references=references,
        matched={key: _with_patients(one, table) for key, one in {name: first, **others}.items()},
        table=table,
        rules=rules,
    )


def _check_numbers(request: EvaluationRequest) -> None:
    wrong = []
    if request.seed < 0 or request.least_cases < 0:
        wrong.append(f"seed and least cases are 0 or more; got {request.seed} and {request.least_cases}")
    if request.spacing_mm is not None and not all(0 < value < math.inf for value in request.spacing_mm):
        wrong.append(f"a spacing is positive; got {request.spacing_mm}")
    if not request.metrics or len(set(request.metrics)) != len(request.metrics):
        wrong.append(f"metrics are named once each; got {', '.join(request.metrics) or 'none'}")
    if wrong:
        raise UsageError(f"The request cannot be: {'; '.join(wrong)}.")


def _references(request: EvaluationRequest) -> References:
    place = request.references
    if place is None and not is_run(request.predictions):
        raise UsageError(
            f"{request.predictions}: is no run, so the references must be named: delineate evaluate PREDICTIONS "
            "REFERENCES -o DIR."
        )
    if place is not None and place.resolve() == request.predictions.resolve() and not is_run(place):
        raise UsageError(f"{place}: predictions and references are the same folder.")
    return open_references(
        place or request.predictions,
        structures=request.structures,
        repairs=request.repairs,
        configuration=request.configuration,
    )


def _match_same(folder: Path, references: References, first: Matched) -> Matched:
    """Find another model's predictions of the very cases of the first."""
    counted = {case.reference.case_id for case in first.cases}
    # one part, so that all of them count for the other model too
    cases = tuple(replace(case, part="reference") for case in references.cases if case.case_id in counted)
    found = match_predictions(folder, replace(references, cases=cases), whole=True)
    order = {case.reference.case_id: i for i, case in enumerate(first.cases)}
    return replace(found, cases=tuple(sorted(found.cases, key=lambda case: order[case.reference.case_id])))


def _with_patients(matched: Matched, table: CasesTable | None) -> Matched:
    """Return the cases with the patients that the table knows, so that the bootstrap draws whole patients."""
    if table is None or not table.patients:
        return matched
    cases = tuple(
        replace(case, reference=replace(case.reference, patient_id=patient))
        if (patient := table.patients.get(case.reference.case_id)) is not None
        else case
        for case in matched.cases
    )
    return replace(matched, cases=cases)


def _rules(request: EvaluationRequest, references: References) -> MeasuringRules:
    names = [structure.name for structure in references.structures]
    given = request.tolerance_mm
    by_name = given if isinstance(given, Mapping) else {EVERY_STRUCTURE: given}
    tolerance = {name: by_name.get(name, by_name.get(EVERY_STRUCTURE, TOLERANCE_MM)) for name in names}
    unknown = sorted(set(by_name) - {*names, EVERY_STRUCTURE})
    if unknown:
        raise UsageError(f"A tolerance is given for {', '.join(unknown)}; the structures are: {', '.join(names)}.")
    if wrong := [name for name, value in tolerance.items() if not value >= 0]:
        raise UsageError(f"A tolerance is 0 or more; it is not for {', '.join(wrong)}.")
    # told before hours of work, not after
    for metric in request.metrics:
        direction_of(metric)
    for threshold in request.thresholds:
        if threshold.structure not in names or threshold.metric not in request.metrics:
            raise UsageError(
                f"A threshold is about {threshold.metric} of {threshold.structure}; measured are "
                f"{', '.join(request.metrics)} of {', '.join(names)}."
            )
    values = frozenset(value for structure in references.structures for value in structure.values)
    ignored = frozenset() if references.ignore is None else frozenset({references.ignore})
    return MeasuringRules(
        structures=references.structures,
        ignore=references.ignore,
        metrics=request.metrics,
        tolerance_mm=tolerance,
        policy=request.policy,
        references=LabelRules(declared=values | ignored, repairs=references.repairs),
        predictions=LabelRules(declared=values, renamed=request.renamed, repairs=references.repairs),
        resample=request.resample,
        spacing_mm=request.spacing_mm,
    )
