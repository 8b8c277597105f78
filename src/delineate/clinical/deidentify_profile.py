"""What PS3.15 Annex E asks to be done with each attribute, for the basic profile and the chosen options.

The table is facts in ``deidentify_profile.csv``: one row per attribute of Table E.1-1 of the 2026c edition; the cells
of the options are those of the 2025b edition (column ``options_of``; the one attribute that is newer has none, so no
option keeps it). Where the standard leaves a choice (``X/Z``, ``X/Z/D``) to the object's definition, the action is
taken that every definition allows: empty rather than gone, a dummy rather than empty.

References
----------
DICOM PS3.15 Annex E, Tables E.1-1 and E.1-1a; PS3.16 CID 7050 (codes of profile and options).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from delineate.clinical.coding import Code
from delineate.errors import UsageError

TABLE = "deidentify_profile.csv"
EDITION, OPTIONS_EDITION = "2026c", "2025b"

Action = Literal["remove", "empty", "dummy", "uid", "keep", "clean"]
Option = Literal[
    "retain_safe_private",
    "retain_uids",
    "retain_device",
    "retain_institution",
    "retain_patient",
    "full_dates",
    "modified_dates",
    "clean_descriptors",
    "clean_structured",
    "clean_graphics",
]

BASIC_PROFILE = Code(value="113100", scheme="DCM", meaning="Basic Application Confidentiality Profile")
CLEAN_PIXELS = Code(value="113101", scheme="DCM", meaning="Clean Pixel Data Option")
_CODES: tuple[tuple[Option, str, str], ...] = (
    ("clean_graphics", "113103", "Clean Graphics"),
    ("clean_structured", "113104", "Clean Structured Content"),
    ("clean_descriptors", "113105", "Clean Descriptors"),
    ("full_dates", "113106", "Retain Longitudinal Temporal Information Full Dates"),
    ("modified_dates", "113107", "Retain Longitudinal Temporal Information Modified Dates"),
    ("retain_patient", "113108", "Retain Patient Characteristics"),
    ("retain_device", "113109", "Retain Device Identity"),
    ("retain_uids", "113110", "Retain UIDs"),
    ("retain_safe_private", "113111", "Retain Safe Private"),
    ("retain_institution", "113112", "Retain Institution Identity"),
)
OPTION_CODES: Mapping[Option, Code] = {
    option: Code(value=value, scheme="DCM", meaning=f"{meaning} Option") for option, value, meaning in _CODES
}
_WORDS: Mapping[str, Action] = {"X": "remove", "Z": "empty", "D": "dummy", "U": "uid", "K": "keep", "C": "clean"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileRow:
    """One attribute of the table."""

    tag: str
    """Eight hexadecimal digits, ``x`` for any digit; ``private``."""
    name: str
    basic: str
    """Code of the basic profile: ``X``, ``Z``, ``D``, ``U`` or a choice such as ``X/Z/D``."""
    options: Mapping[str, str]
    """``K`` or ``C`` by option."""


@cache
def profile_rows() -> tuple[ProfileRow, ...]:
    """Return the table."""
    text = resources.files(__package__).joinpath(TABLE).read_text(encoding="utf-8")
    return tuple(
        ProfileRow(
            tag=row["tag"],
            name=row["name"],
            basic=row["basic"],
            options={option: row[option] for option in OPTION_CODES if row[option]},
        )
        for row in csv.DictReader(text.splitlines())
    )


@cache
def _rows_by_tag() -> Mapping[str, ProfileRow]:
    return {row.tag: row for row in profile_rows()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """The basic profile with options.

    Raises
    ------
    UsageError
        If full and modified dates are asked for together.
    """

    options: frozenset[Option] = frozenset()

    def __post_init__(self) -> None:
        if {"full_dates", "modified_dates"} <= self.options:
            raise UsageError("Dates are kept in full or shifted, not both; choose one of the two options.")

    def row(self, tag: int) -> ProfileRow | None:
        """Return the row of an attribute, None if the table does not name it."""
        rows = _rows_by_tag()
        group, element = tag >> 16, tag & 0xFFFF
        if group & 1:
            return rows["private"]
        if group & 0xFF00 == 0x5000:
            return rows["50xxxxxx"]
        if group & 0xFF00 == 0x6000:
            return rows.get(f"60xx{element:04x}")
        return rows.get(f"{tag:08x}")

    def action(self, tag: int, *, sequence: bool = False) -> Action | None:
        """Return what is to be done with an attribute; None if the table does not name it.

        An option that keeps goes before one that cleans, and that before the basic profile.
        """
        row = self.row(tag)
        if row is None:
            return None
        asked = {cell for option, cell in row.options.items() if option in self.options}
        for code in ("K", "C"):
            if code in asked:
                return _WORDS[code]
        return _basic(row.basic, sequence=sequence)

    def basic(self, tag: int) -> Action | None:
        """Return what the basic profile does with an attribute that is no sequence; None if it is not in the table."""
        row = self.row(tag)
        return None if row is None else _basic(row.basic, sequence=False)

    @property
    def codes(self) -> tuple[Code, ...]:
        """Codes of the profile and of its options."""
        return (BASIC_PROFILE, *(code for option, code in OPTION_CODES.items() if option in self.options))


def _basic(code: str, *, sequence: bool) -> Action:
    """Choose among ``X/Z/D``: the last; for sequences the first if the last is a dummy, which would say nothing."""
    choices = code.rstrip("*").split("/")
    return _WORDS[choices[0] if sequence and choices[-1] == "D" else choices[-1]]
