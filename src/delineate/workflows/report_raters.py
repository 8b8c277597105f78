"""Inter-observer variability without any reference: raters' folders in, results, tables and a page out."""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from delineate import __version__
from delineate.case import Structure
from delineate.execution import Cancellation, Progress, Silent, Watched, require_writable, write_text
from delineate.formats.datasets.rater_folders import MODEL, rater_folders
from delineate.formats.evaluation_json import Provenance, evaluation_to_json
from delineate.formats.rater_tables import write_rater_tables
from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.metrics.evaluation.rater_case import RaterRules as RaterRules
from delineate.metrics.evaluation.rater_study import RaterStudy
from delineate.metrics.table import METRICS_RELOADED
from delineate.reports import Fact, render_evaluation
from delineate.workflows.evaluate_raters import RaterSettings, study_rater_folders
from delineate.workflows.evaluation_request import read_structures

RESULTS, PAGE = "results.json", "report.html"


@dataclass(frozen=True, kw_only=True, slots=True)
class RaterReport:
    """Where the masks are, and what the report is called."""

    raters: Mapping[str, Path]
    predictions: Path | None = None
    settings: RaterSettings
    name: str = "Raters"
    command: str = "delineate raters"


def rater_report(
    raters: list[str],
    *,
    predictions: Path | None = None,
    rules: RaterRules | None = None,
    labels: list[str] | None = None,
    inverted: list[str] | None = None,
    person_pattern: str | None = None,
    spacing_mm: tuple[float, ...] | None = None,
    command: str = "delineate raters",
) -> RaterReport:
    """Return what the words of a command line ask for.

    Parameters
    ----------
    raters
        See :func:`~delineate.formats.datasets.rater_folders.rater_folders`.
    predictions
        Folder of a model's label maps, or None.
    rules
        How masks are compared; None: Dice, a margin of 0.02, majority.
    labels
        ``NAME=VALUE`` words; None or empty: masks of two values.
    inverted
        Raters whose masks hold 0 where the structure is; empty: all of them; None: nobody's.
    person_pattern
        See :class:`~delineate.workflows.evaluate_raters.RaterSettings`.
    spacing_mm
        Per array axis, given by hand.
    command
        As it was given, for the report.

    Raises
    ------
    UsageError
        If the raters or the labels cannot be understood.
    """
    folders = rater_folders(raters)
    structures: tuple[Structure, ...] | None = read_structures(labels) if labels else None
    settings = RaterSettings(
        rules=rules or RaterRules(),
        structures=structures,
        inverted=frozenset() if inverted is None else frozenset(inverted or folders),
        person_pattern=person_pattern,
        spacing_mm=spacing_mm,
        model_name=MODEL if predictions is None else predictions.resolve().name,
    )
    parents = {folder.resolve().parent.name for folder in folders.values()}
    name = next(iter(parents)) if len(parents) == 1 else "Raters"
    return RaterReport(raters=folders, predictions=predictions, settings=settings, name=name, command=command)


def report_raters(
    report: RaterReport,
    out: Path,
    *,
    workers: int = 1,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> RaterStudy:
    """Compare raters, and a model with them if there is one; write results, tables and a page.

    Parameters
    ----------
    report
        What is compared.
    out
        Gets ``results.json``, ``raters.csv``, ``rater_pairs.csv`` and ``report.html``; nothing is written if masks
        cannot be compared.
    workers
        Cases worked on at a time.
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    UsageError
        If names do not fit.
    DatasetError
        If masks cannot be read or do not fit together; names all of them.
    InputError
        If no case was drawn by two raters.
    ResourceError
        If the output cannot be written.
    Interrupted
        If a stop was requested.
    """
    watched = Watched(progress=progress or Silent(), cancellation=cancellation or Cancellation())
    require_writable(out)
    study = study_rater_folders(report.raters, report.predictions, report.settings, workers=workers, **watched)
    evaluation = Evaluation(
        name=report.name,
        cases=(),
        table=(),
        metrics=(report.settings.rules.metric,),
        raters=study,
        planar=study.planar,
        calibrated=study.calibrated,
        seed=study.seed,
    )
    provenance = _provenance(report)
    write_rater_tables(out, study)
    content = evaluation_to_json(evaluation, provenance)
    write_text(out / RESULTS, json.dumps(content, indent=1, allow_nan=False) + "\n")
    render_evaluation(evaluation, out / PAGE, facts=_facts(report), created=provenance.created)
    return study


def _provenance(report: RaterReport) -> Provenance:
    return Provenance(
        software={"delineate": __version__, "python": platform.python_version()},
        command=report.command,
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        policy=METRICS_RELOADED.name,
        tolerance_mm={s.name: report.settings.rules.tolerance_mm for s in report.settings.structures or ()},
        predictions={},
        references={},
        recorded={},
        grouping={},
    )


def _facts(report: RaterReport) -> tuple[Fact, ...]:
    rules = report.settings.rules
    folders = [Fact(label=f"Rater {name}", value=str(folder)) for name, folder in report.raters.items()]
    if report.predictions is not None:
        folders.append(Fact(label="Model", value=str(report.predictions)))
    return (
        *folders,
        Fact(label="Consensus", value=rules.consensus),
        Fact(label="Margin", value=f"{rules.margin:g}"),
        Fact(label="Command", value=report.command),
        Fact(label="Software", value=f"Delineate {__version__}, Python {platform.python_version()}"),
    )
