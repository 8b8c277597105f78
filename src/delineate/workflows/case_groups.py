"""Which group (site, scanner, sex) every case is of, by a table beside the dataset or one that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from delineate.errors import UsageError
from delineate.formats.cases_table import read_cases_table
from delineate.formats.datasets import CaseFiles
from delineate.formats.datasets.patients import TABLES


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseGroups:
    """The groups of a dataset's cases by one column of a table."""

    column: str
    """As the table spells it."""
    group_of: dict[str, str]
    """Group per case id; cases without a value are not here."""
    table: Path


def case_groups(cases: Sequence[CaseFiles], root: Path, column: str, table: Path | None = None) -> CaseGroups:
    """Return the group of every case.

    Parameters
    ----------
    cases
        Whose groups are wanted; a row is found by the case's id, else by its patient.
    root
        The dataset's folder.
    column
        Name of the column; capital and small letters are not told apart.
    table
        A CSV or TSV file; None: the first table of the dataset's folder that has the column.

    Raises
    ------
    UsageError
        If no table has the column; says which columns there are.
    DatasetError
        If the table cannot be read.
    """
    places = [table] if table is not None else [root / name for name in TABLES if (root / name).is_file()]
    seen = []
    for path in places:
        found = read_cases_table(path)
        spelled = next((name for name in found.columns if name.casefold() == column.casefold()), None)
        if spelled is not None:
            rows = found.matched([case.case_id for case in cases]).column(spelled)
            of_patient = found.column(spelled)
            groups = {case.case_id: rows.get(case.case_id, of_patient.get(case.patient_id, "")) for case in cases}
            return CaseGroups(column=spelled, group_of={i: group for i, group in groups.items() if group}, table=path)
        seen.append(f"{path} has {', '.join(found.columns) or 'no further columns'}")
    there = "; ".join(seen) or f"there is none of {', '.join(TABLES)} in {root}"
    raise UsageError(
        f"Dividing cases by '{column}' needs a table with a column of that name; {there}. Name one with --table."
    )
