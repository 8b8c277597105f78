"""Which group (site, scanner, sex) every case is of, by a table beside the dataset or one that the user names."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from delineate.errors import DatasetError, UsageError
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
        header, rows = _read(path)
        spelled = next((name for name in header if name.casefold() == column.casefold()), None)
        if spelled is not None:
            return CaseGroups(column=spelled, group_of=_groups(cases, rows, spelled), table=path)
        seen.append(f"{path} has {', '.join(header)}")
    found = "; ".join(seen) or f"there is none of {', '.join(TABLES)} in {root}"
    raise UsageError(f"Splitting by {column} needs a table with a column of that name; {found}. Name one with --table.")


def _groups(cases: Sequence[CaseFiles], rows: dict[str, dict[str, str]], column: str) -> dict[str, str]:
    value_of = {case.case_id: rows.get(case.case_id, rows.get(case.patient_id, {})).get(column, "") for case in cases}
    return {case_id: value for case_id, value in value_of.items() if value}


def _read(path: Path) -> tuple[list[str], dict[str, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.reader(stream, delimiter="\t" if path.suffix == ".tsv" else ","))
    except OSError as error:
        raise DatasetError(f"{path}: {error}") from error
    header = rows[0]
    return header, {row[0]: dict(zip(header, row, strict=False)) for row in rows[1:] if row}
