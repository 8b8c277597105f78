"""Codes of structures: what a label is called in SNOMED, in TG-263 and in radiotherapy."""

from __future__ import annotations

import colorsys
import hashlib
import hmac
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from delineate.case import Structure
from delineate.clinical.common_structures import COMMON_STRUCTURES, TARGETS, CommonStructure
from delineate.planning.anatomy import StructureFacts, structure_facts

SNOMED = "SCT"
LABEL_LENGTH = 16
"""Characters of a short string: structure labels of planning systems, and TG-263."""
_SIDES = {"left": "left", "right": "right", "l": "left", "r": "right"}
_GOLDEN = 0.618034
"""Turns the hue so that neighbours in a list look different."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """A coded concept of DICOM: value, scheme (``SCT``, ``DCM``, ``99...``), meaning."""

    value: str
    scheme: str
    meaning: str


ANATOMY = Code(value="91723000", scheme=SNOMED, meaning="Anatomical Structure")
ABNORMAL = Code(value="49755003", scheme=SNOMED, meaning="Morphologically Abnormal Structure")
CONCEPT = Code(value="309825002", scheme=SNOMED, meaning="Spatial and Relational Concept")
TISSUE = Code(value="85756007", scheme=SNOMED, meaning="Tissue")
"""Category and type of a structure of which no more is known."""
LATERALITY = {
    "left": Code(value="7771000", scheme=SNOMED, meaning="Left"),
    "right": Code(value="24028007", scheme=SNOMED, meaning="Right"),
}
"""DICOM PS3.16, CID 244."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CodedStructure:
    """One structure of a label map with everything that exports say of it."""

    name: str
    """As in the label scheme."""
    values: tuple[int, ...]
    """Label values; several are a region."""
    label: str
    """TG-263 name where there is one, else the name cut to what DICOM allows."""
    category: Code
    """CID 7150: anatomical structure, morphologically abnormal structure, ..."""
    type: Code
    """CID 7151."""
    laterality: Code | None
    interpreted_type: str
    """RT ROI Interpreted Type: ``ORGAN``, ``GTV``, ...; empty if unknown."""
    colour: tuple[int, int, int]
    tracking_id: str
    tracking_uid: str
    region: Code | None = None
    """Where an abnormal structure lies: the liver of a liver tumour."""

    @property
    def site(self) -> Code | None:
        """The anatomy that the structure is or lies in; None where no more than an abnormality or a target is known."""
        if self.region is not None:
            return self.region
        return None if self.category in (ABNORMAL, CONCEPT) else self.type


@dataclass(frozen=True, kw_only=True, slots=True)
class Coding:
    """Structures, coded, and what could not be coded exactly."""

    structures: tuple[CodedStructure, ...]
    notices: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    """What the tables say of a name."""

    category: Code
    type: Code
    side: str
    tg263: str = ""
    interpreted_type: str = ""
    region: Code | None = None
    colour: tuple[int, int, int] | None = None
    notice: str = ""


def code_structures(structures: Sequence[Structure], *, series_uid: str, key: bytes = b"") -> Coding:
    """Return structures with codes, names, colours and identities.

    A name is looked up in the table of anatomy, among TG-263 names and among common structures, with and without its
    side. A name that none of them knows is coded as tissue, with a notice; it never gets a similar organ's code.

    Parameters
    ----------
    structures
        What the values of the label map mean; background is left out.
    series_uid
        The series that was segmented. With the name it makes the tracking identity of a structure, so that the same
        structure of the same series has one identity in every object and every version.
    key
        Secret that keeps others from computing the identity; empty: a plain hash.
    """
    notices: list[str] = []
    coded: list[CodedStructure] = []
    taken: set[str] = set()
    for number, structure in enumerate(s for s in structures if any(v > 0 for v in s.values)):
        known = _known(structure.name)
        if known.notice:
            notices.append(f"{structure.name}: {known.notice}")
        label = _unique_label(known.tg263 or _short(structure.name), taken)
        coded.append(_coded(structure, known, label, number, _tracking_uid(series_uid, structure.name, key)))
    return Coding(structures=tuple(coded), notices=tuple(notices))


def _coded(structure: Structure, known: _Known, label: str, number: int, tracking_uid: str) -> CodedStructure:
    return CodedStructure(
        name=structure.name,
        values=tuple(v for v in structure.values if v > 0),
        label=label,
        category=known.category,
        type=known.type,
        laterality=LATERALITY.get(known.side),
        interpreted_type=known.interpreted_type,
        colour=known.colour or _colour(number),
        tracking_id=structure.name[:64],
        tracking_uid=tracking_uid,
        region=known.region,
    )


def _known(name: str) -> _Known:
    words = _words(name)
    base, side = _without_side(words)
    facts = _facts_of(words, base, side)
    if facts is not None:
        return _from_facts(facts)
    whole = COMMON_STRUCTURES.get("_".join(words)) or _target(name)
    if whole is not None:
        return _from_common(whole, "" if whole.tg263 else side)
    common = COMMON_STRUCTURES.get(base)
    if common is not None:
        return _from_common(common, side)
    either = _coded_anatomy()[0].get(f"{base}_left")
    if either is not None and not side:
        return replace(_from_facts(either), side="", tg263="")
    return _Known(
        category=TISSUE,
        type=TISSUE,
        side=side,
        notice="no code is known for this name; it is coded as tissue. Rename the structure to code it.",
    )


def _words(name: str) -> list[str]:
    """Return the words of a name in lower case; ``SpinalCord`` is two, ``Kidney_L`` is two."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", name)
    return [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]


def _without_side(words: list[str]) -> tuple[str, str]:
    """Return the name without its side, and the side; it stands first or last."""
    if len(words) > 1 and words[-1] in _SIDES:
        return "_".join(words[:-1]), _SIDES[words[-1]]
    if len(words) > 1 and words[0] in ("left", "right"):
        return "_".join(words[1:]), words[0]
    return "_".join(words), ""


def _facts_of(words: list[str], base: str, side: str) -> StructureFacts | None:
    """Return the row of the anatomy table that has codes and is exactly this structure."""
    names = ["_".join(words)]
    if side:
        names += [f"{base}_{side}", f"{side}_{base}"]
    by_name, by_tg263 = _coded_anatomy()
    found = [by_name[name] for name in names if name in by_name]
    return found[0] if found else by_tg263.get("".join(words))


@lru_cache(maxsize=1)
def _coded_anatomy() -> tuple[Mapping[str, StructureFacts], Mapping[str, StructureFacts]]:
    """Return the rows of the anatomy table that have codes, by name and by TG-263 name, both in plain words."""
    coded = [facts for facts in structure_facts().values() if facts.kind is not None and facts.category is not None]
    by_name = {"_".join(_words(facts.name)): facts for facts in coded}
    return by_name, {"".join(_words(facts.tg263)): facts for facts in coded if facts.tg263}


def _from_facts(facts: StructureFacts) -> _Known:
    abnormal = facts.category is not None and facts.category.value == ABNORMAL.value
    tumour = facts.kind is not None and facts.kind.value in {
        t.type[0] for t in COMMON_STRUCTURES.values() if _is_gtv(t)
    }
    return _Known(
        category=ABNORMAL if abnormal else ANATOMY,
        type=TISSUE if facts.kind is None else _code(facts.kind.value, facts.kind.meaning),
        side=facts.side,
        tg263=(facts.tg263 or "")[:LABEL_LENGTH],
        interpreted_type="GTV" if tumour else "" if abnormal else "ORGAN",
        region=None if facts.region is None else _code(facts.region.value, facts.region.meaning),
        colour=facts.colour,
    )


def _from_common(common: CommonStructure, side: str) -> _Known:
    suffix = f"_{side[0].upper()}" if side else ""
    fits = common.tg263 and len(common.tg263) + len(suffix) <= LABEL_LENGTH
    return _Known(
        category=CONCEPT if common.concept else ABNORMAL if common.abnormal else ANATOMY,
        type=_code(*common.type),
        side=side,
        tg263=common.tg263 + suffix if fits else "",
        interpreted_type=common.interpreted_type,
        notice=f"has no code of its own; it is coded as {common.type[1]}, of which it is a part."
        if common.part_of_type
        else "",
    )


def _target(name: str) -> CommonStructure | None:
    return TARGETS.get(name[:3].lower()) if re.match(r"[gcpGCP][tT][vV](?![a-z]{3})", name) else None


def _is_gtv(common: CommonStructure) -> bool:
    return common.interpreted_type == "GTV"


def _code(value: str, meaning: str) -> Code:
    return Code(value=value, scheme=SNOMED, meaning=meaning)


def _short(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_~^-]+", "_", name)[:LABEL_LENGTH]


def _unique_label(label: str, taken: set[str]) -> str:
    """Return the label, or with a number when another structure has it already; planning systems merge equal names."""
    candidate, number = label, 1
    while candidate.lower() in taken:
        number += 1
        suffix = f"_{number}"
        candidate = label[: LABEL_LENGTH - len(suffix)] + suffix
    taken.add(candidate.lower())
    return candidate


def _tracking_uid(series_uid: str, name: str, key: bytes) -> str:
    text = f"delineate structure\n{series_uid}\n{name}".encode()
    digest = hmac.new(key, text, hashlib.sha256).digest() if key else hashlib.sha256(text).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def _colour(number: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN % 1.0, 0.65, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)
