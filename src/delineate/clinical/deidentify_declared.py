"""What a person declares for a de-identification: pseudonyms, safe private attributes, words; each a small file."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from delineate.errors import DatasetError, InputError

PSEUDONYM = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Also a folder's name."""


def read_pseudonyms(path: Path) -> Mapping[str, str]:
    """Read pseudonyms by Patient ID from a CSV table with the columns ``patient_id`` and ``pseudonym``.

    Raises
    ------
    DatasetError
        If rows are incomplete, or two patients would be called the same; all faults at once, by line.
    InputError
        If the file cannot be read, or lacks a column.
    """
    found: dict[str, str] = {}
    faults: list[str] = []
    for line, row in _rows(path, ("patient_id", "pseudonym")):
        patient, pseudonym = row["patient_id"].strip(), row["pseudonym"].strip()
        if not patient or not PSEUDONYM.fullmatch(pseudonym):
            faults.append(f"line {line}: expected a patient, and a pseudonym of up to 64 letters, digits, - and _")
        elif patient in found or pseudonym in found.values():
            faults.append(f"line {line}: the patient or the pseudonym is there twice")
        else:
            found[patient] = pseudonym
    if faults:
        raise DatasetError(f"{path}: {len(faults)} rows cannot be used.", faults)
    return found


def read_safe_private(path: Path) -> frozenset[tuple[str, int, int]]:
    """Read private attributes declared safe: CSV columns ``creator``, ``group``, ``element`` (hexadecimal, ``xx03``).

    Raises
    ------
    DatasetError
        If rows name no private attribute; all faults at once, by line.
    InputError
        If the file cannot be read, or lacks a column.
    """
    found: set[tuple[str, int, int]] = set()
    faults: list[str] = []
    for line, row in _rows(path, ("creator", "group", "element")):
        try:
            group, element = int(row["group"], 16), int(row["element"][-2:], 16)
        except ValueError:
            group = element = 0
        if not row["creator"].strip() or group % 2 == 0:
            faults.append(f"line {line}: expected a creator, an odd group and an element such as 7053, xx00")
        else:
            found.add((row["creator"].strip(), group, element))
    if faults:
        raise DatasetError(f"{path}: {len(faults)} rows name no private attribute.", faults)
    return frozenset(found)


def read_words(path: Path) -> frozenset[str]:
    """Read words that cleaned texts may keep: a text file, words apart by white space, ``#`` begins a comment.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    text = _text(path)
    return frozenset(word for line in text.splitlines() for word in line.split("#")[0].lower().split())


def _rows(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(_text(path).splitlines())
    missing = [column for column in columns if column not in (reader.fieldnames or [])]
    if missing:
        raise InputError(f"{path}: expected the columns {', '.join(columns)}; missing {', '.join(missing)}.")
    return [(number, {key: row[key] or "" for key in columns}) for number, row in enumerate(reader, start=2)]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected a UTF-8 text file; it cannot be read.") from error
