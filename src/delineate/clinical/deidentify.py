"""De-identification of one DICOM object after PS3.15 Annex E: every attribute at every depth, private ones too.

Stricter than the standard where its table is silent: free texts, names and dates that it does not name are replaced,
and what is unknown is removed. UIDs are replaced by a keyed hash wherever one stands, so references between images,
segmentations, structure sets and reports stay valid; UIDs that the standard registers are left.

References
----------
DICOM PS3.15 Annex E (Attribute Confidentiality Profiles), PS3.3 C.7.1.1 and C.12.1 (marks of de-identified objects).
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from pydicom import DataElement, Dataset, Sequence, dcmwrite
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from delineate import __version__
from delineate.clinical.attributes import code_item
from delineate.clinical.deidentify_identifiers import SHORTEST_IN_STREAM, Identifiers, representation
from delineate.clinical.deidentify_keys import Keys
from delineate.clinical.deidentify_profile import CLEAN_PIXELS, Action, Profile
from delineate.clinical.deidentify_values import BYTES, age_told, dummy, known_words_only, shifted
from delineate.errors import InputError

IMPLEMENTATION_UID = UID("2.25.183746190283746501928374650192837465")
"""Of this program, in file meta information."""
PREAMBLE = bytes(128)
DATES = ("DA", "DT", "TM")
TEXTS = ("AE", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT")
FREE_TEXTS = ("AE", "LT", "ST", "UC", "UR", "UT")
"""Kinds of which attributes that the table does not name are replaced."""
CODED = ("LongCodeValue", "URNCodeValue", "CodingSchemeURL", "ContextUID")
"""Unlisted attributes of these kinds that hold codes."""
NO_INSTANCES = re.compile(
    "SOPClass|TransferSyntax|CodingScheme|^ContextUID|ContextGroup|MappingResourceUID|ImplementationClass"
)
"""Keywords of UIDs that name kinds and code sets, not things."""
CHARACTER_SET, PATIENT_NAME, PATIENT_ID, PATIENT_AGE = 0x00080005, 0x00100010, 0x00100020, 0x00101010
PIXELS, ROI_NAME, CONTENT, GRAPHICS = 0x7FE0, 0x30060026, 0x0040A730, 0x00700001
GRAPHIC_TEXTS, TEXT_VALUE = 0x00700008, 0x0040A160
SUBJECT_IDENTITY = ("121029", "121030", "121031")
"""Content items of reports (scheme DCM): the subject's name, identifier, birth date."""
SUBJECT_TRAITS = ("121032", "121033")
"""Sex and age; kept with the patient's characteristics."""
PERFORMED_STEP = 0x00081111
"""Referenced Performed Procedure Step Sequence: of type 2 in reports, where it must stay empty, else of type 3."""
ENCRYPTED = 0x04000500
"""Encrypted Attributes Sequence: not in the table, but made to hold identities."""
_UID_IN_TEXT = re.compile(r"\b(?:2\.25\.\d{20,39}|[0-2](?:\.\d+){5,})\b")

Done = Literal[
    "removed", "emptied", "dummy", "uid", "kept by option", "cleaned", "date shifted", "pseudonym", "identifier removed"
]
Counts = Counter[tuple[str, Done]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What is done to every object."""

    profile: Profile
    keys: Keys
    words: frozenset[str]
    """Words that cleaned texts may keep, in lower case."""
    safe_private: frozenset[tuple[str, int, int]] = frozenset()
    """Private attributes declared safe: creator, group, last two digits of the element."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """What is decided for one patient."""

    pseudonym: str
    days: int
    """By how much dates are moved."""
    identifiers: Identifiers


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Deidentified:
    """A de-identified object."""

    dataset: Dataset
    """With file meta information and an empty preamble."""
    counts: Counts
    """How often what was done, by tag (``(0010,0010)``) and deed."""
    uids: dict[str, str]
    """New UIDs by old."""


def deidentify(original: Dataset, rules: Rules, person: Person, *, pixels_cleaned: bool = False) -> Deidentified:
    """De-identify one object; the original stays as it is.

    Parameters
    ----------
    original
        A data set with its file meta information.
    rules
        Profile, options and key.
    person
        Pseudonym, shift of dates and identifiers of the patient.
    pixels_cleaned
        Whether declared rectangles were blanked before.

    Raises
    ------
    InputError
        If the object lacks the class or instance UID.
    """
    if not original.get("SOPInstanceUID") or not original.get("SOPClassUID"):
        raise InputError("Expected a DICOM object with SOP class and instance UID; export it again from its archive.")
    walk = _Walk(rules=rules, person=person)
    dataset = walk.of(original)
    _mark(dataset, rules.profile, pixels_cleaned=pixels_cleaned)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = original.file_meta.TransferSyntaxUID
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    dataset.file_meta = meta
    dataset.preamble = PREAMBLE
    return Deidentified(dataset=dataset, counts=walk.counts, uids=walk.uids)


def encoded(result: Deidentified, person: Person) -> bytes:
    """Return the bytes of a de-identified object after looking through them for the patient's identifiers.

    Raises
    ------
    InputError
        If an identifier is left; the message does not repeat it.
    """
    stream = io.BytesIO()
    dcmwrite(stream, result.dataset, enforce_file_format=True)
    content = stream.getvalue()
    pixels = [result.dataset.get_item(tag).value for tag in result.dataset.keys() if tag.group == PIXELS]
    start = len(content) - sum(len(value) for value in pixels if isinstance(value, bytes))
    left = person.identifiers.in_bytes(content[:start])
    if result.dataset.file_meta.TransferSyntaxUID.is_encapsulated:  # a comment within the stream
        left += person.identifiers.in_bytes(content[start:], shortest=SHORTEST_IN_STREAM)
    if left:
        raise InputError(
            f"{left} identifiers of the patient would be left, perhaps in a binary attribute or a comment within "
            "compressed pixels; the object was not written. Leave it out, or ask for fewer options."
        )
    return content


@dataclass(kw_only=True, slots=True)
class _Walk:
    """Goes through the items of one object."""

    rules: Rules
    person: Person
    counts: Counts = field(default_factory=Counter)
    uids: dict[str, str] = field(default_factory=dict)

    def of(self, dataset: Dataset) -> Dataset:
        made = Dataset()
        for tag in sorted(dataset.keys()):
            for element in self._element(dataset, tag):
                made[element.tag] = element
        # elements that stay as they were read are then written as they were read, not decoded and encoded
        implicit, little = dataset.original_encoding
        made.set_original_encoding(implicit, little, dataset.original_character_set)
        return made

    def _element(self, dataset: Dataset, tag: BaseTag) -> Iterator[DataElement | RawDataElement]:
        """Yield what takes the place of an element: one, or none."""
        vr = representation(dataset, tag)
        if tag.is_private:
            yield from self._private(dataset, tag, vr)
            return
        if tag.element == 0 or tag == CHARACTER_SET or tag.group == PIXELS:
            if tag.element:
                yield dataset.get_item(tag)
            return
        action = self.rules.profile.action(tag, sequence=vr == "SQ")
        if vr == "SQ":
            yield from self._sequence(dataset, tag, action)
        elif tag in (PATIENT_NAME, PATIENT_ID):
            self._count(tag, "pseudonym")
            yield DataElement(tag, vr, self.person.pseudonym)
        else:
            yield from self._leaf(dataset, tag, vr, action or self._unlisted(tag, vr))

    def _unlisted(self, tag: BaseTag, vr: str) -> Action:
        """Return what is done to what the table does not name: a dummy for what may tell a person, else nothing."""
        options = self.rules.profile.options
        if tag.group & 0xFF00 == 0x6000 or vr == "UN":
            return "remove"
        if vr == "UI":
            return "uid"
        if vr in DATES:
            return "keep" if "full_dates" in options else "clean" if "modified_dates" in options else "dummy"
        if vr in FREE_TEXTS and keyword_for_tag(tag) not in CODED:
            cleaning = {"clean_descriptors"} | ({"clean_structured"} if tag == TEXT_VALUE else set())
            return "clean" if cleaning & options else "dummy"
        return "dummy" if vr in ("PN", "AS") else "keep"

    def _private(self, dataset: Dataset, tag: BaseTag, vr: str) -> Iterator[DataElement | RawDataElement]:
        block = tag.element >> 8 if tag.element > 0xFF else tag.element
        creator = str(dataset[tag.group, block].value).strip() if (tag.group, block) in dataset else ""
        declared = {(group, low) for name, group, low in self.rules.safe_private if name == creator}
        is_creator = 0x10 <= tag.element <= 0xFF
        allowed = "retain_safe_private" in self.rules.profile.options and (
            any(group == tag.group for group, _ in declared)
            if is_creator
            else (tag.group, tag.element & 0xFF) in declared
        )
        if not allowed:
            self._count(tag, "removed")
        elif vr == "SQ":
            yield DataElement(tag, "SQ", Sequence([self.of(item) for item in dataset[tag].value]))
        else:
            self._count(tag, "kept by option")
            yield from self._kept(dataset, tag, vr)

    def _sequence(self, dataset: Dataset, tag: BaseTag, action: Action | None) -> Iterator[DataElement]:
        if tag == PERFORMED_STEP and action == "remove" and CONTENT in dataset:
            action = "empty"
        if action == "remove" or tag == ENCRYPTED:
            self._count(tag, "removed")
            return
        if action == "empty":
            self._count(tag, "emptied")
            items = []
        elif action == "dummy":
            self._count(tag, "dummy")
            items = [_told_removed()] if tag == CONTENT else [self._dummy_item(item) for item in dataset[tag].value[:1]]
        else:
            if action is not None and action != "uid":
                self._count(tag, "kept by option" if action == "keep" else "cleaned")
            items = [self.of(item) for item in dataset[tag].value if not self._tells_the_subject(item, tag)]
            if action == "clean" and tag == GRAPHICS:
                items = [self._without_texts(item) for item in items]
        yield DataElement(tag, "SQ", Sequence(items))

    def _tells_the_subject(self, item: Dataset, tag: BaseTag) -> bool:
        """Return whether a content item of a report names the patient, or a trait that is not kept."""
        if tag != CONTENT:
            return False
        kept = "retain_patient" in self.rules.profile.options
        told = SUBJECT_IDENTITY if kept else (*SUBJECT_IDENTITY, *SUBJECT_TRAITS)
        found = any(
            str(name.get("CodingSchemeDesignator", "")) == "DCM" and str(name.get("CodeValue", "")) in told
            for name in item.get("ConceptNameCodeSequence", [])
        )
        if found:
            self._count(tag, "removed")
        return found

    def _without_texts(self, item: Dataset) -> Dataset:
        if GRAPHIC_TEXTS in item:
            self._count(Tag(GRAPHIC_TEXTS), "removed")
            del item[GRAPHIC_TEXTS]
        return item

    def _dummy_item(self, item: Dataset) -> Dataset:
        """Return an item of the same attributes that says nothing."""
        made = Dataset()
        for tag in item.keys():
            vr = representation(item, tag)
            if not tag.is_private and vr != "SQ":
                made[tag] = _dummy_element(tag, vr, "", self.rules.keys)
        return made

    def _leaf(self, dataset: Dataset, tag: BaseTag, vr: str, action: Action) -> Iterator[DataElement | RawDataElement]:
        if vr == "UI" and action in ("dummy", "uid"):
            yield DataElement(tag, vr, self._mapped(dataset[tag].value, tag))
        elif action == "clean":
            yield from self._cleaned(dataset, tag, vr)
        elif action == "remove":
            self._count(tag, "removed")
        elif action == "empty":
            self._count(tag, "emptied")
            named = tag == ROI_NAME and bool(dataset[tag].value)
            yield DataElement(tag, vr, self.rules.keys.label(tag, str(dataset[tag].value)) if named else None)
        elif action == "dummy":
            self._count(tag, "dummy")
            yield _dummy_element(tag, vr, _text(dataset, tag), self.rules.keys)
        else:
            if self.rules.profile.action(tag) == "keep":
                self._count(tag, "kept by option")
            yield from self._kept(dataset, tag, vr)

    def _cleaned(self, dataset: Dataset, tag: BaseTag, vr: str) -> Iterator[DataElement | RawDataElement]:
        """Yield a shifted date or a text of known words; what cannot be cleaned is left to the basic profile."""
        values = [str(value) for value in _values(dataset[tag].value) if str(value)]
        if vr in DATES:
            moved = [shifted(vr, value, self.person.days) for value in values]
            if None not in moved:
                self._count(tag, "date shifted")
                yield DataElement(tag, vr, moved if len(moved) != 1 else moved[0])
                return
        elif vr in TEXTS or vr == "UN":
            texts = [self._known(value, vr) for value in values]
            if any(texts) or not values:
                self._count(tag, "cleaned")
                kept = [text for text in texts if text]
                yield DataElement(tag, vr, kept if len(kept) != 1 else kept[0])
                return
        yield from self._leaf(dataset, tag, vr, self.rules.profile.basic(tag) or "dummy")

    def _known(self, text: str, vr: str) -> str:
        kept = known_words_only(self.person.identifiers.removed_from(text), self.rules.words)
        return kept.upper()[:16].strip() if vr == "CS" else kept

    def _kept(self, dataset: Dataset, tag: BaseTag, vr: str) -> Iterator[DataElement | RawDataElement]:
        """Yield an element that stays, unless an identifier stands in it."""
        is_binary = bool(set(vr.split(" or ")) & set(BYTES))
        if not is_binary and vr not in (*TEXTS, "PN", "AS"):
            yield dataset.get_item(tag)
            return
        element = dataset.get_item(tag) if is_binary else dataset[tag]
        if is_binary:
            if isinstance(element.value, bytes) and self.person.identifiers.in_bytes(element.value):
                self._count(tag, "identifier removed")
            else:
                yield element
            return
        values = [str(value) for value in _values(element.value)]
        # a dummy where nothing is left: the attribute may be one that must have a value
        kept = [self._unnamed(value, vr) or (value and self.rules.keys.label(tag, value)) for value in values]
        if kept != values:
            self._count(tag, "identifier removed")
            element = DataElement(tag, vr, kept if len(kept) > 1 else kept[0])
        yield element

    def _unnamed(self, text: str, vr: str) -> str:
        if vr == "AS":
            return age_told(text)
        text = self.person.identifiers.removed_from(text, code=vr == "CS")
        if "retain_uids" in self.rules.profile.options:
            return text
        return _UID_IN_TEXT.sub(lambda found: self._uid(found.group()), text)

    def _mapped(self, value: Any, tag: BaseTag) -> Any:
        listed = self.rules.profile.action(tag) is not None
        if not listed and ("retain_uids" in self.rules.profile.options or NO_INSTANCES.search(keyword_for_tag(tag))):
            return value
        mapped = [self._uid(str(uid)) for uid in _values(value)]
        if mapped != [str(uid) for uid in _values(value)]:
            self._count(tag, "uid")
        return mapped if len(mapped) > 1 else mapped[0] if mapped else None

    def _uid(self, uid: str) -> str:
        if not uid or UID(uid).name != uid:  # registered by the standard
            return uid
        return self.uids.setdefault(uid, self.rules.keys.uid(uid))

    def _count(self, tag: BaseTag, done: Done) -> None:
        self.counts["private" if tag.is_private else str(tag), done] += 1


def _dummy_element(tag: BaseTag, vr: str, original: str, keys: Keys) -> DataElement:
    first = vr.split(" or ")[0]
    return DataElement(tag, first, "2.25.0" if first == "UI" else dummy(first, tag, original, keys))


def _values(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (MultiValue, list, tuple)) else [value]


def _text(dataset: Dataset, tag: BaseTag) -> str:
    value = dataset[tag].value
    return value.hex() if isinstance(value, bytes) else str(value)


def _told_removed() -> Dataset:
    item = Dataset()
    item.RelationshipType = "CONTAINS"
    item.ValueType = "TEXT"
    concept = Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = "121106", "DCM", "Comment"
    item.ConceptNameCodeSequence = [concept]
    item.TextValue = "Removed by de-identification"
    return item


def _mark(dataset: Dataset, profile: Profile, *, pixels_cleaned: bool) -> None:
    """Say that and how the object was de-identified."""
    codes = (*profile.codes, CLEAN_PIXELS) if pixels_cleaned else profile.codes
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = f"Delineate {__version__}: PS3.15 Annex E"
    dataset.DeidentificationMethodCodeSequence = [code_item(code) for code in codes]
    modified = "MODIFIED" if "modified_dates" in profile.options else "REMOVED"
    dataset.LongitudinalTemporalInformationModified = "UNMODIFIED" if "full_dates" in profile.options else modified
    for tag in (PATIENT_NAME, PATIENT_ID):
        if Tag(tag) not in dataset:
            dataset[tag] = DataElement(tag, "PN" if tag == PATIENT_NAME else "LO", None)
