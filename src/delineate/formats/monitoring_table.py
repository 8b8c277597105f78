"""CSV tables of monitored cases and of edits to be recorded: columns in words, all faults at once.

The module knows columns and their types; it does not know what the numbers mean.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from delineate.errors import DatasetError
from delineate.execution import write_text
from delineate.metrics.case_statistics import Value

PLAIN_COLUMNS = ("case", "site", "day")
_FLAGS = {"true": True, "false": False}
_MISSING = {"", "nan", "na", "none"}


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureRow:
    """One case of a table of features."""

    case_id: str
    site: str
    day: str
    values: dict[str, Value]
    """Empty cells are left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EditRow:
    """One pair of label maps whose difference is to be recorded."""

    draft: Path
    approved: Path
    case_id: str
    reader: str
    seconds: float | None
    site: str
    day: str


def read_features(path: Path) -> tuple[FeatureRow, ...]:
    """Read a table with the columns ``case``, optionally ``site`` and ``day``, and one column per feature.

    A column of true and false is a yes/no feature, one of numbers a number, any other a category. Rows are in the
    order of time.

    Raises
    ------
    DatasetError
        If the table cannot be read, or a row has no case.
    """
    rows = _rows(path, ("case",))
    columns = [name for name in rows[0] if name not in PLAIN_COLUMNS]
    typed = {name: _typed([row[name] for row in rows]) for name in columns}
    return tuple(
        FeatureRow(
            case_id=row["case"],
            site=row.get("site", ""),
            day=row.get("day", ""),
            values={name: value for name in columns if (value := typed[name][i]) is not None},
        )
        for i, row in enumerate(rows)
    )


def read_edits(path: Path) -> tuple[EditRow, ...]:
    """Read a table with the columns ``draft``, ``approved``, ``case``, ``reader`` and optionally more.

    Those are ``seconds``, ``site`` and ``day``; paths are relative to the table.

    Raises
    ------
    DatasetError
        If the table cannot be read, a cell is missing, or seconds are no number; names all of them.
    """
    rows = _rows(path, ("draft", "approved", "case", "reader"))
    faults = [
        f"row {number} (case {row['case']}): seconds are '{row['seconds']}', not a number of 0 or more"
        for number, row in enumerate(rows, start=2)
        if row.get("seconds") and not _is_duration(row["seconds"])
    ]
    if faults:
        raise DatasetError(f"{path}: {len(faults)} rows have faults.", faults)
    return tuple(
        EditRow(
            draft=path.parent / row["draft"],
            approved=path.parent / row["approved"],
            case_id=row["case"],
            reader=row["reader"],
            seconds=float(row["seconds"]) if row.get("seconds") else None,
            site=row.get("site", ""),
            day=row.get("day", ""),
        )
        for row in rows
    )


def write_table(columns: Sequence[str], rows: Iterable[Sequence[object]], path: Path) -> None:
    """Write a CSV file; it appears whole or not at all. None and NaN become empty cells.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    write_text(path, stream.getvalue())


def _cell(value: object) -> object:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return ("true" if value else "false") if isinstance(value, bool) else value


def _rows(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            rows = [{str(k).strip(): (v or "").strip() for k, v in row.items() if k} for row in reader]
            columns = [str(name).strip() for name in reader.fieldnames or ()]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: expected a CSV table; it cannot be read ({error}).") from error
    missing = [name for name in needed if name not in columns]
    if missing or not rows:
        raise DatasetError(
            f"{path}: expected a CSV table with the columns {', '.join(needed)} and at least one row; found "
            f"{len(rows)} rows and the columns {', '.join(columns) or 'none'}."
        )
    faults = [
        f"row {number}: '{name}' is empty" for number, row in enumerate(rows, 2) for name in needed if not row[name]
    ]
    if faults:
        raise DatasetError(f"{path}: {len(faults)} cells are missing.", faults)
    return rows


def _typed(cells: Sequence[str]) -> list[Value | None]:
    known = [cell for cell in cells if cell.lower() not in _MISSING]
    if known and all(cell.lower() in _FLAGS for cell in known):
        return [_FLAGS.get(cell.lower()) for cell in cells]
    if all(_is_number(cell) for cell in known):
        return [float(cell) if cell in known else None for cell in cells]
    return [cell if cell in known else None for cell in cells]


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _is_duration(cell: str) -> bool:
    return _is_number(cell) and float(cell) >= 0
