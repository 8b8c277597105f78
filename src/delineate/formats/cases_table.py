"""Tables that say something about cases: sites, scanners, sexes, ages, patients.

CSV with commas, semicolons or tabs, or a BIDS ``participants.tsv``. The column of cases is called ``case``,
``case_id``, ``id``, ``image``, ``file`` or ``participant_id``; a column ``patient`` or the like says which cases belong
together. Knows names and words; does not know what was measured.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from delineate.errors import DatasetError, UsageError
from delineate.formats.magic import image_stem

CASE_COLUMNS = ("case", "case_id", "caseid", "id", "image", "image_id", "file", "filename", "name", "participant_id")
"""Names of the column of cases, the first that is there counts; capitals do not matter."""
PATIENT_COLUMNS = ("patient", "patient_id", "patientid", "subject", "subject_id", "participant_id")
ABSENT = ("", "n/a", "na", "nan", "none", "null", "?", "-", "unknown", "not recorded")
"""Cells that say nothing, whatever their capitals."""
DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True, kw_only=True, slots=True)
class CasesTable:
    """What a table says of cases."""

    path: Path
    columns: tuple[str, ...]
    """As the file spells them, without those of case and patient."""
    rows: Mapping[str, Mapping[str, str]]
    """Case id -> column -> text; cells that say nothing are left out."""
    patients: Mapping[str, str]
    """Case id -> patient; empty if the table has no such column."""

    def column(self, name: str) -> dict[str, str]:
        """Return case id -> text of one column, for the cases that have it; capitals of the name do not matter.

        Raises
        ------
        UsageError
            If there is no such column; names those that there are.
        """
        found = next((column for column in self.columns if column.casefold() == name.casefold()), None)
        if found is None:
            raise UsageError(f"{self.path} has no column '{name}'; it has: {', '.join(self.columns) or 'none'}.")
        return {case: row[found] for case, row in self.rows.items() if found in row}

    def matched(self, case_ids: Sequence[str]) -> CasesTable:
        """Return the table with its cases under the names that the evaluation gives them.

        A row fits if it is called like the case, like its file, or, in a table of participants, like its patient
        (``sub-01`` of ``sub-01_ses-1_T2w``).
        """
        names = {case: found for case in case_ids if (found := self._row_of(case)) is not None}
        used = set(names.values())
        rows = {case: self.rows[found] for case, found in names.items()}
        left = {row: cells for row, cells in self.rows.items() if row not in used}
        patients = {case: self.patients[found] for case, found in names.items() if found in self.patients}
        return CasesTable(path=self.path, columns=self.columns, rows={**rows, **left}, patients=patients)

    def _row_of(self, case: str) -> str | None:
        if case in self.rows:
            return case
        by_subject = f"sub-{case}"
        participant = case.split("_")[0]
        return next((name for name in (by_subject, participant) if name.startswith("sub-") and name in self.rows), None)


def read_cases_table(path: Path) -> CasesTable:
    """Read a table of cases.

    Raises
    ------
    DatasetError
        If the file cannot be read, has no column of cases, names a column or a case twice, or has rows of another
        length; tells all of them.
    """
    header, rows = _read(path)
    folded = [cell.casefold() for cell in header]
    case_at = next((folded.index(name) for name in CASE_COLUMNS if name in folded), None)
    if case_at is None:
        raise DatasetError(
            f"{path}: expected a column of cases called {', '.join(CASE_COLUMNS[:3])} or participant_id; found "
            f"{', '.join(header) or 'an empty file'}."
        )
    patient_at = next((folded.index(name) for name in PATIENT_COLUMNS if name in folded), None)
    faults = [f"column '{name}' is there {n} times" for name, n in Counter(folded).items() if n > 1 and name]
    faults += [f"line {n}: {len(row)} cells, expected {len(header)}" for n, row in rows if len(row) != len(header)]
    whole = [(n, row) for n, row in rows if len(row) == len(header)]
    faults += [f"line {n}: names no case" for n, row in whole if not row[case_at]]
    cases = [image_stem(Path(row[case_at])) for _, row in whole]
    faults += [f"case {case} has {n} rows" for case, n in Counter(cases).items() if n > 1 and case]
    if faults:
        raise DatasetError(f"{path}: the table has {len(faults)} fault(s); correct it.", faults)
    kept = [i for i, name in enumerate(header) if i not in (case_at, patient_at) and name]
    by_case = dict(zip(cases, (row for _, row in whole), strict=True))
    return CasesTable(
        path=path,
        columns=tuple(header[i] for i in kept),
        rows={case: {header[i]: row[i] for i in kept if _says(row[i])} for case, row in by_case.items()},
        patients={}
        if patient_at is None
        else {c: row[patient_at] for c, row in by_case.items() if _says(row[patient_at])},
    )


def with_column(table: CasesTable | None, name: str, values: Mapping[str, str]) -> CasesTable:
    """Return the table with one more column, or a new one; a column of that name that is there already stays."""
    if table is None:
        rows = {case: {name: value} for case, value in values.items()}
        return CasesTable(path=Path(name), columns=(name,), rows=rows, patients={})
    if name.casefold() in map(str.casefold, table.columns):
        return table
    added = {case: {**table.rows.get(case, {}), name: value} for case, value in values.items()}
    return replace(table, columns=(*table.columns, name), rows={**table.rows, **added})


def _says(cell: str) -> bool:
    return cell.casefold() not in ABSENT


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header and the rows with their line numbers; cells are stripped, empty lines left out."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = next((line for line in text.splitlines() if line.strip()), "")
        delimiter = "\t" if path.suffix == ".tsv" else max(DELIMITERS, key=first.count)
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
        rows = [
            (reader.line_num, [cell.strip() for cell in row]) for row in reader if any(cell.strip() for cell in row)
        ]
    except FileNotFoundError:
        raise DatasetError(f"{path}: expected a table of cases; there is none of that name.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{path}: expected a table of cases as text (CSV or TSV); it cannot be read ({error})."
        ) from error
    return (rows[0][1], rows[1:]) if rows else ([], [])
