"""What is known of every structure beyond its name: codes, nomenclature, side, colour.

SNOMED CT codes are those that TotalSegmentator publishes for DICOM export, with a few added by hand; TG-263 names stand
only where the nomenclature (Mayo et al. 2018) has a name for exactly that structure. An absent entry is absent, never
guessed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Literal

TABLE = "structures.csv"
SNOMED = "SCT"
"""DICOM's designator of SNOMED CT."""
SIDE_CODES: Mapping[str, tuple[str, str]] = {"left": ("7771000", "Left"), "right": ("24028007", "Right")}
"""DICOM PS3.16, CID 244 (laterality)."""
GREY = (128, 128, 128)

Side = Literal["left", "right", ""]
Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """A coded concept as DICOM writes it."""

    value: str
    meaning: str
    scheme: str = SNOMED


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureFacts:
    """Facts of one structure."""

    name: str
    side: Side
    """Side of the body that it lies on; empty for structures in the middle or on both sides."""
    colour: Colour
    """Red, green, blue, 0 to 255."""
    category: Code | None = None
    kind: Code | None = None
    """SNOMED CT property type."""
    modifier: Code | None = None
    """Laterality of the property type."""
    region: Code | None = None
    """Anatomic region of a finding, such as the kidney of a cyst."""
    region_modifier: Code | None = None
    tg263: str | None = None


@lru_cache(maxsize=1)
def structure_facts() -> Mapping[str, StructureFacts]:
    """Return the facts of all structures by name."""
    text = resources.files(__package__).joinpath(TABLE).read_text(encoding="utf-8")
    return {row["name"]: _facts(row) for row in csv.DictReader(io.StringIO(text))}


def facts_of(name: str) -> StructureFacts:
    """Return the facts of a structure; one that is not in the table has a name and a grey colour."""
    return structure_facts().get(name) or StructureFacts(name=name, side="", colour=GREY)


def _facts(row: Mapping[str, str]) -> StructureFacts:
    text = row["colour"]
    side: Side = "left" if row["side"] == "left" else "right" if row["side"] == "right" else ""
    return StructureFacts(
        name=row["name"],
        side=side,
        colour=(int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)),
        category=_code(row["category_code"], row["category"]),
        kind=_code(row["type_code"], row["type"]),
        modifier=_side_code(row["modifier"]),
        region=_code(row["region_code"], row["region"]),
        region_modifier=_side_code(row["region_modifier"]),
        tg263=row["tg263"] or None,
    )


def _code(value: str, meaning: str) -> Code | None:
    return Code(value=value, meaning=meaning) if value else None


def _side_code(side: str) -> Code | None:
    if side not in SIDE_CODES:
        return None
    value, meaning = SIDE_CODES[side]
    return Code(value=value, meaning=meaning)
