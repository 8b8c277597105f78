"""Which case belongs to which patient, so that no patient falls on both sides of a split.

A table beside the cases says it; without one, file names of well-known collections do; otherwise every case is its own
patient. Knows names only, never persons: the ids are those of the files.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from delineate.errors import DatasetError

_log = logging.getLogger(__name__)

TABLES = ("patients.csv", "cases.csv", "participants.tsv", "patients.tsv")
"""Tables that are looked for in the dataset's folder, in this order; columns ``case`` and ``patient``."""

NAME_RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("BIDS: sub-XX (a trailing SesN is a session)", re.compile(r"^(sub-[0-9A-Za-z]+?)(?:[Ss]es\d+)?(?=[_-]|$)")),
    ("Sunnybrook: SC-XX-00-IM-slice-phase", re.compile(r"^(SC-.+?)-IM-\d+")),
    ("BraTS: BraTS-XXX-patient-timepoint", re.compile(r"^(BraTS-[A-Za-z]+-\d+)-\d+")),
    ("TCGA: TCGA-site-patient", re.compile(r"^(TCGA-\w{2}-\w{4})")),
)
"""File names that carry the patient: what the rule is, and its pattern (group 1 is the patient)."""

_CASE_COLUMNS = ("case", "case_id", "id")
_PATIENT_COLUMNS = ("patient", "patient_id", "subject", "participant_id")


def patients_of(root: Path, case_ids: Sequence[str]) -> dict[str, str]:
    """Return the patient id of every case.

    Raises
    ------
    DatasetError
        If there is a table, but it names one case twice with different patients or cannot be read.
    """
    table = _table(root)
    absent = [case for case in case_ids if table and case not in table]
    if absent:
        _log.warning("%s: %d case(s) are not in the table of patients, for example %s", root, len(absent), absent[0])
    return {case: table.get(case) or patient_from_name(case) for case in case_ids}


def patient_from_name(case_id: str) -> str:
    """Return the patient that the name of a case carries, or the name itself."""
    found = (pattern.match(case_id) for _, pattern in NAME_RULES)
    return next((match.group(1) for match in found if match), case_id)


def _table(root: Path) -> dict[str, str]:
    for name in TABLES:
        path = root / name
        if path.is_file() and (table := _read(path)) is not None:
            return table
    return {}


def _read(path: Path) -> dict[str, str] | None:
    """Return case -> patient, or None if the file has no such columns (a BIDS participants.tsv)."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.reader(stream, delimiter="\t" if path.suffix == ".tsv" else _delimiter(path)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{path}: expected a table with columns case and patient; it cannot be read ({error})."
        ) from error
    header = [cell.strip().casefold() for cell in rows[0]] if rows else []
    case_column = next((header.index(name) for name in _CASE_COLUMNS if name in header), None)
    patient_column = next((header.index(name) for name in _PATIENT_COLUMNS if name in header), None)
    if case_column is None or patient_column is None:
        return None
    return _unambiguous(path, [(row[case_column].strip(), row[patient_column].strip()) for row in rows[1:] if any(row)])


def _delimiter(path: Path) -> str:
    with path.open(encoding="utf-8-sig") as stream:
        return ";" if ";" in stream.readline() else ","


def _unambiguous(path: Path, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    table: dict[str, str] = {}
    faults = []
    for case, patient in pairs:
        if table.setdefault(case, patient) != patient:
            faults.append(f"case {case} belongs to patient {table[case]} and to patient {patient}")
    if faults:
        raise DatasetError(f"{path}: a case belongs to one patient only; correct the table.", faults)
    return table
