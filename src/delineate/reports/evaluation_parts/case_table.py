"""All cases of an evaluation, one line each, the worst first."""

from __future__ import annotations

import math

from delineate.metrics.cohort import CaseRows
from delineate.metrics.evaluation.directions import goodness
from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.metrics.statistics import mean_or_nan
from delineate.reports.document import Cell, Column, Group, Section, Table, cells
from delineate.reports.metric_words import Units, label_of, telling, worse

MAX_OPEN_CASES = 40
"""Longer tables are folded away at first."""

MAX_COLUMNS = 8
"""Structures times metrics with a column of their own; with more, a case tells its worst structure."""

MAX_METRICS = 3

Shown = tuple[tuple[str, str], ...]
"""Structure and metric of each column."""


def all_cases(evaluation: Evaluation, units: Units) -> Section:
    """Return the table of all cases."""
    if not evaluation.cases or not evaluation.metrics:
        return Section(title="All cases", blocks=())
    metric = evaluation.metrics[0]
    means = [(mean_or_nan([row.values[metric] for row in case.rows]), case) for case in evaluation.cases]
    means.sort(key=lambda pair: _goodness(metric, pair[0]))
    shown = _shown(evaluation)
    failed = {case.case_id for case in evaluation.failed}
    rows = tuple(
        (*_head(case, mean, units, metric, failed=case.case_id in failed), *_values(case, shown, units, metric))
        for mean, case in means
    )
    table = Table(
        columns=_columns(metric, shown),
        groups=(Group(rows=rows),),
        title=f"{len(rows)} cases, worst mean {label_of(metric)} first",
        folded=len(rows) > MAX_OPEN_CASES,
    )
    return Section(title="All cases", blocks=(table,))


def _goodness(metric: str, mean: float) -> tuple[bool, float]:
    """Sorts the worst first and cases without a number last."""
    if math.isnan(mean):
        return True, 0.0
    return False, goodness(mean, metric)


def _shown(evaluation: Evaluation) -> Shown:
    names = [row.name for row in evaluation.table]
    room = MAX_COLUMNS // max(1, len(names))
    shown = telling(evaluation.metrics, min(room, MAX_METRICS))
    return tuple((name, metric) for name in names for metric in shown)


def _columns(metric: str, shown: Shown) -> tuple[Column, ...]:
    head = (Column(title="Case", words=True), Column(title=f"Mean {label_of(metric)}"))
    if not shown:
        return (*head, Column(title="Worst structure", words=True), Column(title=label_of(metric)))
    return (*head, *(Column(title=f"{name}\n{label_of(found)}") for name, found in shown))


def _head(case: CaseRows, mean: float, units: Units, metric: str, *, failed: bool) -> tuple[Cell, ...]:
    name = f"{case.case_id} (failed)" if failed else case.case_id
    return cells(name, Cell(text=units.scale(metric).text(mean), tone="strong"))


def _values(case: CaseRows, shown: Shown, units: Units, metric: str) -> tuple[Cell, ...]:
    if shown:
        by_name = {row.name: row.values for row in case.rows}
        return cells(*(units.scale(found).text(by_name[name][found]) for name, found in shown))
    worst = worse(metric, [row.values[metric] for row in case.rows])
    if worst is None:
        return cells("–", "–")
    return cells(case.rows[worst].name, units.scale(metric).text(case.rows[worst].values[metric]))
