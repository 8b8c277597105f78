"""What identifies people in a study: names and numbers, gathered before the work and looked for after it.

A profile works by attribute, but people type names where they do not belong: a patient's name in a station's model, an
accession number in a code. Whatever is gathered here is removed wherever it turns up, and the bytes of an object that
still holds it are not written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from delineate.clinical.deidentify_profile import Profile
from delineate.clinical.deidentify_values import DUMMIES, shipped_words

NUMBERS = (
    "PatientID",
    "OtherPatientIDs",
    "PatientBirthDate",
    "AccessionNumber",
    "AdmissionID",
    "ServiceEpisodeID",
    "MedicalRecordLocator",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
    "ClinicalTrialSubjectID",
    "InstitutionName",
    "InstitutionAddress",
)
"""Attributes whose whole value identifies a person or a place where few are."""
TITLES = frozenset({"dr", "md", "prof", "mr", "mrs", "ms", "phd", "jr", "sr", "the", "and", "von", "van", "de", "anon"})
MANY_WORDS = frozenset({"anonymous", "anonymized", "anonymised", "unknown", "none", "removed", "nobody", "test"})
SHORTEST_WORD, SHORTEST_NUMBER, SHORTEST_IN_BYTES, SHORTEST_IN_STREAM = 2, 4, 4, 6
"""Characters; the last in compressed pixels, which hold any four letters by chance."""
SHORTEST_DIGITS, SHORTEST_DIGITS_IN_BYTES = 6, 8
"""Numbers of fewer digits turn up by chance in texts, and in bytes."""
SHORTEST_CODE = 5
"""Letters of an identifier that is looked for in code strings, which are mostly terms of the standard."""
PIXEL_GROUP = 0x7FE0


@dataclass(frozen=True, kw_only=True, slots=True)
class Identifiers:
    """Names and numbers of people, in lower case."""

    words: frozenset[str] = frozenset()

    def removed_from(self, text: str, *, code: bool = False) -> str:
        """Return a text without the identifiers.

        Parameters
        ----------
        text
            Any text.
        code
            Whether it is a code string: terms of the standard and short words are then left.
        """
        lower = text.lower()
        found = [word for word in self.words if word in lower and (not word.isdigit() or len(word) >= SHORTEST_DIGITS)]
        if code:
            found = [word for word in found if len(word) >= SHORTEST_CODE and word not in shipped_words()]
        left = text
        for word in sorted(found, key=len, reverse=True):
            left = _whole(word).sub("", left)
        return text if left == text else " ".join(left.split())

    def in_bytes(self, content: bytes, *, shortest: int = SHORTEST_IN_BYTES) -> int:
        """Return how many identifiers stand in encoded attributes; terms of the standard and short ones do not count.

        Parameters
        ----------
        content
            An encoded object, or a part of it.
        shortest
            Letters of the shortest identifier that is looked for.
        """
        text = content.decode("latin-1").lower()
        both = (text, content.decode("utf-8", "replace").lower())
        telling = [w for w in self.words if len(w) >= shortest and w not in shipped_words()]
        looked_for = [w for w in telling if not w.isdigit() or len(w) >= SHORTEST_DIGITS_IN_BYTES]
        return sum(any(w in t and _whole(w).search(t) is not None for t in both) for w in looked_for)

    def without(self, allowed: Iterable[str]) -> Identifiers:
        """Return these identifiers without words that the output holds on purpose."""
        kept = {word.lower() for word in allowed}
        return Identifiers(words=self.words - kept)


def identifiers_of(dataset: Dataset, profile: Profile) -> Identifiers:
    """Gather the identifiers of an object; those that an option keeps are left out.

    Parameters
    ----------
    dataset
        An original object, pixels not needed.
    profile
        Says which attributes are kept.
    """
    dull = TITLES | MANY_WORDS | {str(value).lower() for value in DUMMIES.values()}
    numbers = {tag_for_keyword(name) for name in NUMBERS}
    words: set[str] = set()
    for item in _items(dataset):
        for tag in item.keys():
            is_name = not tag.is_private and representation(item, tag) == "PN"
            if (is_name or tag in numbers) and profile.action(tag) != "keep":
                words |= set(_words_of(item[tag].value, names=is_name))
    return Identifiers(words=frozenset(words - dull))


def _words_of(value: object, *, names: bool) -> Iterator[str]:
    for one in value if isinstance(value, (MultiValue, list)) else [value]:
        text = str(one or "").strip().lower()
        if names:
            yield from (word for word in re.split(r"[\^=\s,;.]+", text) if len(word) >= SHORTEST_WORD)
        elif len(text) >= SHORTEST_NUMBER:
            yield text


def _items(dataset: Dataset) -> Iterator[Dataset]:
    yield dataset
    for tag in dataset.keys():
        if tag.group != PIXEL_GROUP and representation(dataset, tag) == "SQ":
            for item in dataset[tag].value:
                yield from _items(item)


def representation(dataset: Dataset, tag: BaseTag) -> str:
    """Return the value representation of an element, of an unknown one that of the dictionary; values stay undecoded.

    Parameters
    ----------
    dataset
        Any data set.
    tag
        One of its tags.
    """
    found = str(dataset.get_item(tag).VR or "UN")
    if found != "UN":
        return found
    if tag.is_private:
        return str(dataset[tag].VR)
    try:
        listed = dictionary_VR(tag)
    except KeyError:
        return "UN"
    # a sequence that cannot be decoded stays unknown, and what is unknown is removed
    return str(dataset[tag].VR) if listed == "SQ" else listed


def _whole(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", re.IGNORECASE)
