"""DICOM files on their way through de-identification: what is in a folder and may go, and one file done."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.errors import InvalidDicomError
from pydicom.uid import MediaStorageDirectoryStorage

from delineate.clinical.deidentify import Counts, Person, Rules, deidentify, encoded
from delineate.clinical.deidentify_identifiers import Identifiers, identifiers_of
from delineate.clinical.deidentify_pixels import ENCAPSULATED, Rectangle, blank, burnt_in_risk, shows_face
from delineate.clinical.deidentify_profile import Profile
from delineate.errors import ImageReadError
from delineate.execution import Cancellation, Progress

PLAIN_UID = re.compile(r"\d+(\.\d+)*")
UNDEFINED_LENGTH = 0xFFFFFFFF
UNREADABLE = (OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, NotImplementedError, RecursionError)


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundObject:
    """One DICOM object of a folder."""

    path: Path
    patient: str
    """What tells its patient from others: Patient ID, else name and birth date, else the study."""
    patient_id: str
    sop_instance_uid: str
    modality: str
    risk: str
    """Why text may be burnt into its pixels; empty if nothing speaks for it."""
    shows_face: bool
    size_px: tuple[int, int]
    """Columns and rows; (0, 0) of what is no image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What is in a folder."""

    objects: tuple[FoundObject, ...]
    identifiers: dict[str, Identifiers]
    """By patient, of all objects."""
    left_out: tuple[tuple[Path, str], ...]
    """Files that are not carried over, and why."""
    faults: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class DoneObject:
    """One object, de-identified and encoded."""

    content: bytes
    place: str
    """Where it belongs: ``pseudonym/study/series/instance.dcm``."""
    counts: Counts
    uids: dict[str, str]


def survey_folder(source: Path, profile: Profile, *, progress: Progress, cancellation: Cancellation) -> Survey:
    """Look at the attributes of every file of a folder (with sub-folders), or at one file.

    Raises
    ------
    ImageReadError
        If there is no file.
    Interrupted
        If a stop was requested.
    """
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    if not files:
        raise ImageReadError(f"{source}: expected DICOM files; there is nothing. Check the path.")
    gathering = _Gathering(source=source, profile=profile)
    progress.start("looking", len(files))
    for path in files:
        cancellation.check()
        with disable_value_validation():
            gathering.add(path)
        progress.advance()
    progress.finish()
    return gathering.survey()


def deidentify_file(path: Path, rules: Rules, person: Person, *, rectangles: Sequence[Rectangle] = ()) -> DoneObject:
    """De-identify one file.

    Parameters
    ----------
    path
        The original; it is only read.
    rules, person
        See :func:`~delineate.clinical.deidentify.deidentify`.
    rectangles
        Blanked in the pixels first.

    Raises
    ------
    ImageReadError
        If the file is damaged, or its pixels cannot be blanked.
    InputError
        If an identifier would be left in it.
    """
    with disable_value_validation():
        try:
            original: Dataset = pydicom.dcmread(path)
            _require_whole(original)
            if rectangles:
                original = blank(original, rectangles)
            result = deidentify(original, rules, person, pixels_cleaned=bool(rectangles))
            content = encoded(result, person)
            place = _place(result.dataset, rules, person)
        except UNREADABLE as error:
            raise ImageReadError(
                f"the file is damaged ({type(error).__name__}); export it again, or leave it out"
            ) from error
    return DoneObject(content=content, place=place, counts=result.counts, uids=result.uids)


def _place(dataset: Dataset, rules: Rules, person: Person) -> str:
    """Return where an object belongs; a retained UID that is none, but perhaps a path, does not become one."""
    uids = [str(dataset.get(name) or "0") for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
    names = [uid if PLAIN_UID.fullmatch(uid) else rules.keys.uid(uid) for uid in uids]
    return "/".join([person.pseudonym, *names]) + ".dcm"


def _require_whole(dataset: Dataset) -> None:
    """Refuse an object whose last values were cut off, which the reader takes as they are."""
    for tag in dataset.keys():
        element = dataset.get_item(tag)
        length = getattr(element, "length", UNDEFINED_LENGTH)
        if length != UNDEFINED_LENGTH and isinstance(element.value, bytes) and len(element.value) < length:
            raise EOFError


class _Gathering:
    """What was seen so far."""

    def __init__(self, *, source: Path, profile: Profile) -> None:
        self._root = source if source.is_dir() else source.parent
        self._profile = profile
        self._objects: dict[str, FoundObject] = {}
        self._words: dict[str, set[str]] = defaultdict(set)
        self._left_out: list[tuple[Path, str]] = []
        self._faults: list[str] = []

    def add(self, path: Path) -> None:
        name = path.relative_to(self._root)
        try:
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
                self._left_out.append((path, "directory of a medium"))
                return
            fault = _fault_of(dataset) or self._keep(path, dataset)
        except InvalidDicomError:
            self._left_out.append((path, "no DICOM file"))
            return
        except UNREADABLE as error:
            fault = f"the file is damaged ({type(error).__name__}); export it again, or leave it out"
        if fault:
            self._faults.append(f"{name}: {fault}")

    def _keep(self, path: Path, dataset: Dataset) -> str:
        uid = str(dataset.SOPInstanceUID)
        known = self._objects.get(uid)
        if known is not None:
            if _digest(known.path) != _digest(path):
                return f"another object of the same SOP Instance UID is {known.path.relative_to(self._root)}"
            self._left_out.append((path, "second copy"))
            return ""
        found = _found(path, dataset)
        self._objects[uid] = found
        self._words[found.patient] |= identifiers_of(dataset, self._profile).words
        return ""

    def survey(self) -> Survey:
        return Survey(
            objects=tuple(self._objects.values()),
            identifiers={patient: Identifiers(words=frozenset(words)) for patient, words in self._words.items()},
            left_out=tuple(self._left_out),
            faults=tuple(self._faults),
        )


def _fault_of(dataset: Dataset) -> str:
    if not dataset.get("SOPInstanceUID") or not dataset.get("SOPClassUID"):
        return "it has no SOP class or instance UID; export it again from its archive"
    if not dataset.file_meta.get("TransferSyntaxUID"):
        return "it does not say its transfer syntax; export it again from its archive"
    if str(dataset.SOPClassUID).startswith(ENCAPSULATED):
        return "documents within DICOM cannot be de-identified; leave the file out"
    return ""


def _found(path: Path, dataset: Dataset) -> FoundObject:
    patient_id = str(dataset.get("PatientID") or "").strip()
    born, named = dataset.get("PatientBirthDate") or "", str(dataset.get("PatientName") or "").strip()
    study = str(dataset.get("StudyInstanceUID") or dataset.SOPInstanceUID)
    return FoundObject(
        path=path,
        patient=patient_id or (f"{named}|{born}" if named else study),
        patient_id=patient_id,
        sop_instance_uid=str(dataset.SOPInstanceUID),
        modality=str(dataset.get("Modality") or ""),
        risk=burnt_in_risk(dataset),
        shows_face=shows_face(dataset),
        size_px=(int(dataset.get("Columns") or 0), int(dataset.get("Rows") or 0)),
    )


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
