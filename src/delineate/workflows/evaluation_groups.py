"""Which groups of cases are compared: columns of the table, bands of numbers, sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Unpack

from delineate.errors import UsageError
from delineate.execution import Watched, map_items
from delineate.formats.cases_table import CasesTable
from delineate.metrics.cohort import CaseRows
from delineate.metrics.evaluation.bands import SIZE, groups_of, size_groups
from delineate.metrics.evaluation.subgroups import Subgrouping, adjust_over_columns, compare_groups
from delineate.workflows.evaluation_request import EvaluationRequest

FEW_GROUPINGS = 20
"""Up to so many comparisons of groups are done before other processes would have started."""


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


def check_columns(by: Sequence[str], table: CasesTable | None, case_ids: Sequence[str]) -> None:
    """Make sure that every column exists and gives groups, before anything is measured.

    Raises
    ------
    UsageError
        If a column does not exist, gives no groups, or there is no table.
    """
    for name, width in map(_column_of, by):
        if not _is_size(name, table):
            _recorded_groups(name, width, table, case_ids)


def _is_size(name: str, table: CasesTable | None) -> bool:
    """Say whether the built-in column is meant; a column of the table that is called so goes first."""
    return name.casefold() == SIZE and (table is None or SIZE not in map(str.casefold, table.columns))


def _recorded_groups(
    name: str, width: float | None, table: CasesTable | None, case_ids: Sequence[str]
) -> tuple[dict[str, str], str | None]:
    if table is None:
        raise UsageError(f"Column '{name}' needs a table of cases (--table); without one there is only '{SIZE}'.")
    counted = set(case_ids)
    return groups_of({c: text for c, text in table.column(name).items() if c in counted}, name, width=width)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Grouping:
    """Groups of cases for one comparison."""

    column: str
    cases: tuple[CaseRows, ...]
    group_of: Mapping[str, str]


def group_cases(
    cases: tuple[CaseRows, ...],
    table: CasesTable | None,
    request: EvaluationRequest,
    **watched: Unpack[Watched],
) -> tuple[tuple[Subgrouping, ...], dict[str, str]]:
    """Compare the groups of all columns that were asked for.

    Returns
    -------
    tuple
        The comparisons, with p values adjusted over the columns; and by column in words how numbers became groups.

    Raises
    ------
    UsageError
        If a column gives no groups.
    Interrupted
        If a stop was requested.
    """
    groupings, told = _groupings(cases, table, request.by)
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


def _groupings(
    cases: tuple[CaseRows, ...], table: CasesTable | None, by: Sequence[str]
) -> tuple[list[_Grouping], dict[str, str]]:
    """Return one grouping per column and structure; the thirds of sizes differ between structures."""
    groupings: list[_Grouping] = []
    told: dict[str, str] = {}
    ids, alone = [case.case_id for case in cases], [_structure_only(cases, i) for i in range(len(cases[0].rows))]
    for name, width in map(_column_of, by):
        if not _is_size(name, table):
            group_of, words = _recorded_groups(name, width, table, ids)
            groupings += [_Grouping(column=name, cases=one, group_of=group_of) for one in alone]
            told |= {name: words} if words else {}
            continue
        groupings += [_Grouping(column=SIZE, cases=one, group_of=size_groups(one, 0)) for one in alone]
        told[SIZE] = "size is cut into thirds of the cases by each structure's reference"
    return groupings, told


def _structure_only(cases: Sequence[CaseRows], index: int) -> tuple[CaseRows, ...]:
    return tuple(replace(case, rows=(case.rows[index],)) for case in cases)


def _compared(metrics: tuple[str, ...], least_cases: int, seed: int, grouping: _Grouping) -> tuple[Subgrouping, ...]:
    return compare_groups(
        grouping.cases, grouping.column, grouping.group_of, metrics, least_cases=least_cases, seed=seed
    )
