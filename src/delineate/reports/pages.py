"""The page: one HTML file that needs nothing else, neither network nor scripts, and prints well.

The module brings numbers, words and pictures into the template; it decides nothing about them. Every text that comes
from outside is escaped by the template engine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from delineate.execution.atomic import write_bytes
from delineate.metrics.scores import CaseScores
from delineate.metrics.statistics import mean_or_nan
from delineate.metrics.summary import Summary, summarise
from delineate.reports import findings
from delineate.reports.agreement import MAX_PANELS, UNITS_PER_ML, volume_agreement
from delineate.reports.axes import Axis, axis_for
from delineate.reports.curves import Figure, learning_curves
from delineate.reports.distributions import Row, strip_chart
from delineate.reports.report_data import Fold, ReportData
from delineate.reports.svg import number, quantity

TEMPLATE = "report.html.j2"

MAX_COLUMNS = 12
"""Structures that get columns of their own in the tables of folds and cases; with more, cases tell their lowest."""

MAX_OPEN_CASES = 60
"""Longer case tables are folded away at first."""


def render_report(report: ReportData, path: Path) -> None:
    """Write a report as one self-contained HTML file; equal data give equal bytes.

    Parameters
    ----------
    report
        What the report says.
    path
        File to write; it appears whole or not at all.

    Raises
    ------
    InputError
        If cases are scored twice or for different structures.
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    # names of files can hold bytes that are no text; they must not cost the reader the report
    write_bytes(path, report_html(report).encode("utf-8", errors="replace"))


def report_html(report: ReportData) -> str:
    """Return a report as HTML text.

    Raises
    ------
    InputError
        If cases are scored twice or for different structures.
    """
    summary = summarise(report.scores, seed=report.seed)
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            data=report,
            summary=summary,
            headline=findings.headline(report, summary),
            warnings=findings.find_warnings(report, summary),
            statements=findings.statements(report, summary),
            figures=_figures(report, summary),
            curves=learning_curves(report.histories),
            folds=[_fold_line(fold, report.scores, summary) for fold in report.folds],
            factor=UNITS_PER_ML[report.size_unit],
            cases=sorted(report.scores, key=_dice_then_id),
            fold_away=len(report.scores) > MAX_OPEN_CASES,
            many=len(summary.structures) > MAX_COLUMNS,
        )
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _FoldLine:
    name: str
    n_cases: int
    mean_dice: float
    per_structure: tuple[float, ...]


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("delineate.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["quantity"] = quantity
    environment.filters["percent"] = lambda value: (
        "–" if math.isnan(value) else f"{number(100 * value, 1, signed=True)} %"
    )
    return environment


def _figures(report: ReportData, summary: Summary) -> dict[str, Figure]:
    if not summary.case_dice.n_used:
        return {}
    unit = report.size_unit
    dots = "One dot per case; box: middle half of the cases; line: median; diamond and bar: mean and its 95 % interval."
    figures = {"dice": Figure(title="Dice by structure", svg=_dice_chart(report.scores, summary), note=dots)}
    if any(s.relative_volume_error.n_used for s in summary.structures):
        figures["size"] = Figure(title="Relative size error", svg=_size_chart(report.scores, summary), note=dots)
    left_out = len(summary.structures) - MAX_PANELS
    figures["agreement"] = Figure(
        title="Predicted against reference size",
        svg=volume_agreement(report.scores, unit),
        note="On the line, predicted and reference size are equal."
        + (f" The first {MAX_PANELS} structures are drawn; the table has all." if left_out > 0 else ""),
    )
    return figures


def _dice_chart(scores: Sequence[CaseScores], summary: Summary) -> Markup:
    ids = tuple(case.case_id for case in scores)
    rows = [
        Row(name=s.name, case_ids=ids, values=tuple(case.structure(s.name).dice for case in scores), spread=s.dice)
        for s in summary.structures
    ]
    if len(rows) > 1:
        values = tuple(case.mean_dice for case in scores)
        rows.append(Row(name="Mean of the case", case_ids=ids, values=values, spread=summary.case_dice))
    lowest = min(row.spread.minimum for row in rows if row.spread.n_used)
    axis = Axis(low=max(0.0, math.floor(10 * lowest - 0.2) / 10), high=1.0, text="Dice")
    return strip_chart(rows, axis, caption="Dice of every case by structure")


def _size_chart(scores: Sequence[CaseScores], summary: Summary) -> Markup:
    ids = tuple(case.case_id for case in scores)
    rows = [
        Row(
            name=s.name,
            case_ids=ids,
            values=tuple(100 * case.structure(s.name).relative_volume_error for case in scores),
            spread=s.relative_volume_error.scaled(100),
        )
        for s in summary.structures
    ]
    values = (v for row in rows for v in (*row.values, 0.0))
    axis = axis_for(values, "predicted − reference, % of the reference", log=False)
    return strip_chart(rows, axis, caption="Relative size error of every case by structure", decimals=1)


def _fold_line(fold: Fold, scores: Sequence[CaseScores], summary: Summary) -> _FoldLine:
    members = set(fold.case_ids)
    chosen = [case for case in scores if case.case_id in members]
    return _FoldLine(
        name=fold.name,
        n_cases=len(chosen),
        mean_dice=mean_or_nan([case.mean_dice for case in chosen]),
        per_structure=tuple(mean_or_nan([case.structure(s.name).dice for case in chosen]) for s in summary.structures),
    )


def _dice_then_id(case: CaseScores) -> tuple[bool, float, str]:
    unknown = math.isnan(case.mean_dice)
    return unknown, 0.0 if unknown else case.mean_dice, case.case_id
