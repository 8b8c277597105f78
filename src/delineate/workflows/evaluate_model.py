"""How good is a model? A folder of predictions against references, answered as one :class:`Evaluation` and as files."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from delineate import __version__
from delineate.case import Structure
from delineate.errors import UsageError
from delineate.execution import Cancellation, Progress, Silent, Watched, map_items, require_writable
from delineate.formats.cases_table import CasesTable, read_cases_table
from delineate.formats.datasets.label_files import LabelRules, References
from delineate.formats.datasets.label_files import structures_from as structures_from
from delineate.formats.evaluation_json import FileFacts, Provenance, write_results
from delineate.formats.nnunet.summary_json import write_summary
from delineate.metrics.cohort import CaseRows, summarise_rows
from delineate.metrics.evaluation.bands import SIZE, groups_of, size_groups
from delineate.metrics.evaluation.directions import direction_of
from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.metrics.evaluation.model_comparison import ModelComparison, compare_models
from delineate.metrics.evaluation.subgroups import LEAST_CASES, Subgrouping, adjust_over_columns, compare_groups
from delineate.metrics.table import METRICS_RELOADED, NNUNET, WORST_VALUE, EmptyPolicy
from delineate.workflows.evaluation_faults import failed_predictions, notices_of, require_sound
from delineate.workflows.measure_case import CaseToMeasure, MeasuredCase, MeasuringRules
from delineate.workflows.measured_cases import MEASURED, measure_cases
from delineate.workflows.open_references import (
    Matched,
    is_run,
    match_cross_validation,
    match_predictions,
    open_references,
)
from delineate.workflows.run_folder import RunFolder
from delineate.workflows.score_cases import SUMMARY

METRICS = (
    "dice", "iou", "hd95", "assd", "nsd", "relative_volume_error", "volume_error", "precision", "recall",
)  # fmt: skip
"""What is measured unless asked otherwise."""

TOLERANCE_MM = 2.0
"""Of the surface Dice unless asked otherwise: two voxels of a usual CT or MR plane; pixels where nobody knows mm."""

EVERY_STRUCTURE = "*"
"""Key of the tolerance of structures that have none of their own."""

POLICIES: Mapping[str, EmptyPolicy] = {
    "worst-value": WORST_VALUE,
    "nnunet": NNUNET,
    "metrics-reloaded": METRICS_RELOADED,
}

FEW_GROUPINGS = 20
"""Up to so many comparisons of groups are done before other processes would have started."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRequest:
    """What is to be evaluated, and how."""

    predictions: Path
    """A folder of label maps, or a run, whose validation predictions of all folds are taken (cross-validation)."""
    references: Path | None = None
    """A dataset, a run (its dataset) or a folder of label maps; None: the dataset of the run in ``predictions``."""
    name: str | None = None
    """Of the evaluated model, for comparisons; None: the name of its folder."""
    configuration: str | None = None
    """Of a run that holds several."""
    table: Path | None = None
    """Table of cases with columns to group by, and patients."""
    by: tuple[str, ...] = ()
    """Columns: ``site``, ``age:10`` (bands), ``size`` (thirds of each structure's reference volume)."""
    others: Mapping[str, Path] = field(default_factory=dict)
    """Name -> folder of predictions of other models on the same cases."""
    metrics: tuple[str, ...] = METRICS
    tolerance_mm: float | Mapping[str, float] = TOLERANCE_MM
    """One number, or by structure; those that are not named get that of :data:`EVERY_STRUCTURE`, else 2 mm."""
    policy: EmptyPolicy = WORST_VALUE
    structures: tuple[Structure, ...] = ()
    """What the values mean, instead of what the references declare."""
    renamed: tuple[tuple[int, int], ...] = ()
    """Values of the predictions and what they are read as."""
    resample: bool = False
    spacing_mm: tuple[float, ...] | None = None
    """Of files that tell none, in the order of the array's axes."""
    some: bool = False
    """Leave out references without a prediction instead of counting them as failed."""
    repairs: frozenset[str] = frozenset()
    least_cases: int = LEAST_CASES
    seed: int = 0
    workers: int = 1
    command: str = "delineate.evaluate"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Opened:
    """The request with its files found: what is measured, and what is known of the cases."""

    references: References
    matched: Mapping[str, Matched]
    """By model, the evaluated one first."""
    table: CasesTable | None
    rules: MeasuringRules


def evaluate_model(
    request: EvaluationRequest,
    out: Path,
    *,
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
        Gets ``results.json``, CSV tables, nnU-Net's ``summary.json``.
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
    opened = _open(request)
    measured = {
        name: _measure(name, matched, opened, request, out, watched) for name, matched in opened.matched.items()
    }
    require_sound(measured, opened.rules)
    cases = {name: _case_rows(opened.matched[name].cases, found) for name, found in measured.items()}
    name, found = next(iter(measured.items()))
    subgroups, grouping = _subgroups(cases[name], opened.table, request, watched)
    evaluation = Evaluation(
        name=opened.references.name,
        cases=cases[name],
        table=summarise_rows(cases[name], seed=request.seed),
        metrics=request.metrics,
        failed=failed_predictions(found),
        without_reference=opened.matched[name].without_reference,
        resampled=tuple(case.case_id for case in found if case.resampled),
        subgroups=subgroups,
        comparison=_comparison(cases, request),
        notices=notices_of(measured, opened.references, opened.matched, opened.table, opened.rules, grouping),
        planar=all(case.planar for case in found),
        calibrated=all(case.calibrated for case in found),
        seed=request.seed,
    )
    _write(evaluation, request, opened, found, grouping, out)
    return evaluation


def policy_named(name: str) -> EmptyPolicy:
    """Return the policy of a name of :data:`POLICIES`.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if name not in POLICIES:
        raise UsageError(f"Unknown policy '{name}'; there are: {', '.join(POLICIES)}.")
    return POLICIES[name]


def _open(request: EvaluationRequest) -> _Opened:
    if request.references is None and not is_run(request.predictions):
        raise UsageError(
            f"{request.predictions}: is no run, so the references must be named: delineate evaluate PREDICTIONS "
            "REFERENCES -o DIR."
        )
    references = open_references(
        request.references or request.predictions, structures=request.structures, repairs=request.repairs
    )
    table = None if request.table is None else read_cases_table(request.table)
    name = request.name or (request.predictions.resolve().name)
    if name in request.others:
        raise UsageError(f"Two models are called '{name}'; give the evaluated one another name (--name).")
    if is_run(request.predictions):
        run = RunFolder(root=request.predictions, configuration=request.configuration)
        first = match_cross_validation(run, references)
    else:
        first = match_predictions(request.predictions, references, some=request.some)
    ids = [case.reference.case_id for case in first.cases]
    table = table if table is None else table.matched(ids)
    matched = {name: first}
    for other, folder in request.others.items():
        matched[other] = _match_same(folder, references, first)
    _check_columns(request, table)
    return _Opened(
        references=references,
        matched={key: _with_patients(one, table) for key, one in matched.items()},
        table=table,
        rules=_rules(request, references),
    )


def _match_same(folder: Path, references: References, first: Matched) -> Matched:
    """Find another model's predictions of the very cases of the first."""
    counted = {case.reference.case_id for case in first.cases}
    # one part, so that all of them count for the other model too
    cases = tuple(replace(case, part="reference") for case in references.cases if case.case_id in counted)
    wanted = replace(references, cases=cases)
    if is_run(folder):
        found = match_cross_validation(RunFolder(root=folder), wanted)
        by_id = {case.reference.case_id: case for case in found.cases}
        missing = [case for case in wanted.cases if case.case_id not in by_id]
        left = tuple(CaseToMeasure(reference=case, prediction=None, missing=str(folder)) for case in missing)
        found = replace(found, cases=(*found.cases, *left))
    else:
        found = match_predictions(folder, wanted)
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
    for metric in request.metrics:
        direction_of(metric)  # told before hours of work, not after
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


def _measure(
    name: str, matched: Matched, opened: _Opened, request: EvaluationRequest, out: Path, watched: Watched
) -> tuple[MeasuredCase, ...]:
    what = "measure" if len(opened.matched) == 1 else f"measure {name}"
    return measure_cases(
        matched.cases, opened.rules, out / MEASURED, what=what, workers=request.workers, watched=watched
    )


def _case_rows(cases: Sequence[CaseToMeasure], measured: Sequence[MeasuredCase]) -> tuple[CaseRows, ...]:
    return tuple(
        CaseRows(case_id=case.reference.case_id, patient_id=case.reference.patient_id, rows=found.rows)
        for case, found in zip(cases, measured, strict=True)
    )


def _column_of(word: str) -> tuple[str, float | None]:
    """Return the name of a column and the width of its bands: ``age:10``.

    Raises
    ------
    UsageError
        If the width is no number.
    """
    name, colon, width = word.partition(":")
    try:
        return name, float(width) if colon else None
    except ValueError:
        raise UsageError(f"Bands are written column:width, for example age:10; got '{word}'.") from None


def _check_columns(request: EvaluationRequest, table: CasesTable | None) -> None:
    """Make sure that every column exists, before anything is measured.

    Raises
    ------
    UsageError
        If a column does not exist, or there is no table.
    """
    for name, width in map(_column_of, request.by):
        if name.casefold() == SIZE and (table is None or SIZE not in map(str.casefold, table.columns)):
            continue
        if table is None:
            raise UsageError(f"Column '{name}' needs a table of cases (--table); without one there is only '{SIZE}'.")
        groups_of(table.column(name), name, width=width)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Grouping:
    """Groups of cases for one comparison."""

    column: str
    cases: tuple[CaseRows, ...]
    group_of: Mapping[str, str]


def _subgroups(
    cases: tuple[CaseRows, ...], table: CasesTable | None, request: EvaluationRequest, watched: Watched
) -> tuple[tuple[Subgrouping, ...], dict[str, str]]:
    """Return the comparisons of all columns, and in words how numbers became groups."""
    groupings: list[_Grouping] = []
    told: dict[str, str] = {}
    for name, width in map(_column_of, request.by):
        if table is not None and name.casefold() in map(str.casefold, table.columns):
            group_of, words = groups_of(table.column(name), name, width=width)
            groupings += [
                _Grouping(column=name, cases=_structure_only(cases, i), group_of=group_of)
                for i in range(len(cases[0].rows))
            ]
            told |= {name: words} if words else {}
        else:
            for i, row in enumerate(cases[0].rows):
                sizes, words = size_groups(cases, i)
                groupings.append(_Grouping(column=SIZE, cases=_structure_only(cases, i), group_of=sizes))
                told |= {f"{SIZE} of {row.name}": words} if words else {}
    if not groupings:
        return (), told
    outcomes = map_items(
        partial(_compared, request.metrics, request.least_cases, request.seed),
        groupings,
        what="compare groups",
        workers=request.workers if len(groupings) > FEW_GROUPINGS else 1,
        **watched,
    )
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    return adjust_over_columns([s for o in outcomes for s in o.value or ()]), told


def _structure_only(cases: Sequence[CaseRows], index: int) -> tuple[CaseRows, ...]:
    return tuple(replace(case, rows=(case.rows[index],)) for case in cases)


def _compared(metrics: tuple[str, ...], least_cases: int, seed: int, grouping: _Grouping) -> tuple[Subgrouping, ...]:
    return compare_groups(
        grouping.cases, grouping.column, grouping.group_of, metrics, least_cases=least_cases, seed=seed
    )


def _comparison(cases: Mapping[str, Sequence[CaseRows]], request: EvaluationRequest) -> ModelComparison | None:
    return compare_models(cases, request.metrics, seed=request.seed) if len(cases) > 1 else None


def _write(
    evaluation: Evaluation,
    request: EvaluationRequest,
    opened: _Opened,
    measured: Sequence[MeasuredCase],
    grouping: Mapping[str, str],
    out: Path,
) -> None:
    cases = next(iter(opened.matched.values())).cases
    files = {case.reference.case_id: case for case in cases}
    table = opened.table
    provenance = Provenance(
        software={"delineate": __version__, "python": platform.python_version()},
        command=request.command,
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        policy=request.policy.name,
        tolerance_mm=opened.rules.tolerance_mm,
        predictions={i: facts for i, case in files.items() if (facts := _facts(case.prediction)) is not None},
        references={i: facts for i, case in files.items() if (facts := _facts(case.reference.labels)) is not None},
        recorded={} if table is None else {case: table.rows[case] for case in files if case in table.rows},
        grouping=grouping,
    )
    write_summary(
        out / SUMMARY,
        [case.scores for case in measured if case.scores is not None],
        opened.rules.structures,
        reference_files={case_id: str(case.reference.labels) for case_id, case in files.items()},
        prediction_files={case_id: str(case.prediction or "") for case_id, case in files.items()},
    )
    write_results(out, evaluation, provenance)


def _facts(path: Path | None) -> FileFacts | None:
    if path is None or not path.is_file():
        return None
    return FileFacts(path=str(path), bytes=path.stat().st_size)
