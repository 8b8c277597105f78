"""The files of an evaluation: the page, results, tables, nnU-Net's summary."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from delineate import __version__
from delineate.formats.evaluation_json import FileFacts, Provenance, write_results
from delineate.formats.nnunet.summary_json import write_summary
from delineate.formats.rater_tables import write_rater_tables
from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.reports import Fact, render_evaluation, render_evaluation_pdf
from delineate.workflows.evaluation_pictures import picture_cases
from delineate.workflows.evaluation_request import EvaluationRequest
from delineate.workflows.measure_case import MeasuredCase
from delineate.workflows.open_evaluation import OpenedEvaluation

REPORT, PDF, SUMMARY = "report.html", "report.pdf", "summary.json"


def write_evaluation(
    evaluation: Evaluation,
    request: EvaluationRequest,
    opened: OpenedEvaluation,
    measured: Sequence[MeasuredCase],
    grouping: Mapping[str, str],
    out: Path,
) -> None:
    """Write ``report.html``, ``results.json``, the tables and nnU-Net's ``summary.json``.

    Parameters
    ----------
    evaluation, request, opened
        What was found, asked for, and opened.
    measured
        The cases of the evaluated model.
    grouping
        Column -> how numbers became groups.
    out
        The folder.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    files = {case.reference.case_id: case for case in opened.matched[opened.name].cases}
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
    if evaluation.raters is not None:
        write_rater_tables(out, evaluation.raters)
    overlays = picture_cases(
        opened.matched[opened.name].cases, measured, opened.rules, request.modality or opened.references.modality
    )
    told, created = _report_facts(request, opened, provenance), provenance.created
    render_evaluation(evaluation, out / REPORT, overlays=overlays, facts=told, created=created)
    if request.pdf:
        render_evaluation_pdf(evaluation, out / PDF, overlays=overlays, facts=told, created=created)


def _report_facts(request: EvaluationRequest, opened: OpenedEvaluation, provenance: Provenance) -> tuple[Fact, ...]:
    """Return how the numbers came about, for the page."""
    by_value: dict[float, list[str]] = {}
    for structure, value in provenance.tolerance_mm.items():
        by_value.setdefault(value, []).append(structure)
    one = len(by_value) == 1
    tolerances = [f"{value:g}" if one else f"{value:g} ({', '.join(names)})" for value, names in by_value.items()]
    return (
        Fact(label="Predictions", value=str(request.predictions)),
        Fact(label="References", value=str(request.references or opened.references.name)),
        Fact(label="Empty masks", value=f"policy '{provenance.policy}'"),
        Fact(label="Tolerance of the surface Dice", value=", ".join(tolerances)),
        Fact(label="Software", value=", ".join(f"{name} {version}" for name, version in provenance.software.items())),
        Fact(label="Command", value=provenance.command),
        Fact(label="Seed", value=str(request.seed)),
    )


def _facts(path: Path | None) -> FileFacts | None:
    if path is None or not path.is_file():
        return None
    return FileFacts(path=str(path), bytes=path.stat().st_size)
