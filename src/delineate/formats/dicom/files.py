"""The files of a folder, a zip or a DICOMDIR: which are DICOM images, what else lies there, and what is damaged.

Headers are parsed, pixels stay on the disk until they are asked for. Nothing that looks like a part of a series is
passed over in silence: a damaged file refuses its series, and every series if it cannot be told to which it belongs.
"""

from __future__ import annotations

import hashlib
import io
import stat
import warnings
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pydicom
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import UID, ImplicitVRLittleEndian

from delineate.errors import ImageReadError
from delineate.formats.dicom.planes import text_of
from delineate.formats.dicom.series_report import Finding, finding

NOT_IMAGES = ("SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "RTRECORD", "SR", "PR", "KO", "RWV", "ANN", "REG", "FID", "DOC")
"""Modalities of objects that refer to images and are none."""
DIRECTORY = "1.2.840.10008.1.3.10"
"""Media Storage Directory Storage: a DICOMDIR."""
PIXELS = (Tag(0x7FE0, 0x0010), Tag(0x7FE0, 0x0008), Tag(0x7FE0, 0x0009))
DICOM_ENDINGS = (".dcm", ".dicom", ".ima")
DEFER_BYTES = 16384
"""Longer values stay on the disk until they are asked for."""
LARGEST_ENTRY_BYTES = 2 << 30
LARGEST_ZIP_BYTES = 8 << 30
"""Of all entries of a zip together; they are held in memory."""
_UNDEFINED_LENGTH = 0xFFFFFFFF
_PREAMBLE = 128
_COUNTS = ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")
_MADE_OF = (
    "SeriesInstanceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "RescaleSlope",
    "RescaleIntercept",
)
"""What two copies of one image have in common beside their pixels."""
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Instance:
    """One DICOM image."""

    file: str
    """Name below the folder or zip."""
    dataset: Dataset


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pile:
    """What a place holds."""

    series: dict[str, list[Instance]] = field(default_factory=lambda: defaultdict(list))
    """Series Instance UID -> images."""
    findings: dict[str, list[Finding]] = field(default_factory=lambda: defaultdict(list))
    """Series Instance UID -> what was found; the empty UID for what concerns every series."""
    others: list[str] = field(default_factory=list)
    """Files that are no images."""

    def findings_of(self, series_uid: str) -> list[Finding]:
        """Return what concerns a series, with what concerns every series."""
        return [*self.findings[""], *(self.findings[series_uid] if series_uid else [])]


class _Damaged(Exception):
    """A file that begins as an image and does not end as one."""

    def __init__(self, series_uid: str = "") -> None:
        self.series_uid = series_uid


def open_pile(path: Path) -> Pile:
    """Open every image of a folder (with sub-folders), a zip, a DICOMDIR or a single file.

    Raises
    ------
    ImageReadError
        If there is nothing, or no DICOM image at all.
    """
    pile, listed, seen = Pile(), dict[str, str](), dict[str, Instance]()
    for name, source in _sources(path, pile):
        try:
            dataset = _opened(name, source)
        except _Damaged as damage:
            words = "a file is truncated or damaged, so a slice may be missing; copy it again, or take it away"
            pile.findings[damage.series_uid].append(finding("DAMAGED_FILE", "refused", words, [name]))
            continue
        if dataset is None:
            pile.others.append(name)
        elif _class_of(dataset) == DIRECTORY:
            listed |= _listed_instances(dataset)
        else:
            _add(pile, seen, Instance(file=name, dataset=dataset))
    if not pile.series:
        raise ImageReadError(_nothing(path, pile))
    _tell_missing(pile, listed, set(seen))
    if pile.others:
        words = f"{len(pile.others)} files beside the images are no DICOM images and were left out"
        pile.findings[""].append(finding("OTHER_FILES", "note", words, pile.others))
    return pile


def raw_pixels(dataset: Dataset, scratch: bytearray | None = None) -> bytes | memoryview:
    """Return the value of the pixel element as it is stored.

    Parameters
    ----------
    dataset
        An image of :func:`open_pile`.
    scratch
        Memory to read into if it is long enough; the value then lasts until the next call.

    Raises
    ------
    ImageReadError
        If it cannot be read any more.
    """
    tag = next(tag for tag in PIXELS if tag in dataset)
    raw: Any = dataset.get_item(tag, keep_deferred=True)
    if isinstance(raw, RawDataElement) and raw.value is None and raw.length != _UNDEFINED_LENGTH:
        with Path(str(dataset.filename)).open("rb") as stream:
            stream.seek(raw.value_tell)
            if scratch is None or len(scratch) < raw.length:
                return stream.read(raw.length)
            view = memoryview(scratch)
            return view[: stream.readinto(view[: raw.length])]
    value: bytes = raw.value if raw.value is not None else dataset[tag].value
    return value


def read_object(path: Path, modality: str, name: str) -> Dataset:
    """Read an object that refers to images: a structure set, a segmentation.

    Parameters
    ----------
    path
        The file.
    modality
        What it must be.
    name
        Its name in messages.

    Raises
    ------
    ImageReadError
        If it cannot be read, is something else, or ends too early.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a truncated file lacks is told below
            dataset = pydicom.dcmread(path)
    except FileNotFoundError as error:
        raise ImageReadError(f"{path}: expected {name}; there is nothing. Check the path.") from error
    except Exception as error:  # parsers raise whatever they like on damaged data
        raise ImageReadError(
            f"{path}: expected {name}; the file cannot be read ({type(error).__name__}). Copy it again."
        ) from error
    found = text_of(dataset, "Modality")
    if found != modality:
        raise ImageReadError(f"{path}: expected {name}; found modality {found or 'none'}. Choose its file.")
    last: Any = dataset.get_item(max(dataset.keys()))
    if isinstance(last, RawDataElement) and last.length != _UNDEFINED_LENGTH and len(last.value or b"") < last.length:
        raise ImageReadError(f"{path}: the file ends in the middle of an element; it is truncated. Copy it again.")
    return dataset


def modality_of(path: Path) -> str:
    """Return what a DICOM file says that it is: ``SEG``, ``RTSTRUCT``, ``CT``; empty if it does not say.

    Raises
    ------
    ImageReadError
        If the file cannot be read as DICOM.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return text_of(pydicom.dcmread(path, specific_tags=["Modality"]), "Modality")
    except Exception as error:  # parsers raise whatever they like on damaged data
        raise ImageReadError(f"{path}: expected a DICOM file; it cannot be read ({type(error).__name__}).") from error


def _nothing(path: Path, pile: Pile) -> str:
    damaged = sum(len(findings) for findings in pile.findings.values())
    if path.is_dir() and not pile.others and not damaged:
        return f"{path}: expected DICOM images; found 0 files. If an image was meant: found a folder of that name."
    return (
        f"{path}: expected DICOM images; found {len(pile.others)} files that are none and {damaged} that are damaged "
        "or were refused. Choose the folder of a series."
    )


def _add(pile: Pile, seen: dict[str, Instance], instance: Instance) -> None:
    """Add an image unless it is there already; one identifier on two different images is a trouble."""
    series, uid = (text_of(instance.dataset, keyword) for keyword in ("SeriesInstanceUID", "SOPInstanceUID"))
    if uid and uid in seen:
        if _fingerprint(seen[uid].dataset) == _fingerprint(instance.dataset):
            words = "an instance is there twice; the second copy was left out"
            pile.findings[series].append(finding("DUPLICATE_INSTANCE", "repaired", words, [instance.file]))
            return
        words = "two different images carry one SOP Instance UID; export the series again"
        told = finding("CONFLICTING_INSTANCES", "refused", words, [seen[uid].file, instance.file])
        pile.findings[series].append(told)
    seen.setdefault(uid, instance)
    pile.series[series].append(instance)


def _fingerprint(dataset: Dataset) -> tuple[str, ...]:
    place = (text_of(dataset, keyword) for keyword in _MADE_OF)
    return (*place, hashlib.sha256(raw_pixels(dataset)).hexdigest())


def _listed_instances(directory: Dataset) -> dict[str, str]:
    """Return the images that a DICOMDIR lists: SOP Instance UID -> Series Instance UID."""
    listed, series = {}, ""
    for record in directory.get("DirectoryRecordSequence", []):
        kind = str(record.get("DirectoryRecordType", ""))
        if kind == "SERIES":
            series = str(record.get("SeriesInstanceUID", ""))
        elif kind == "IMAGE" and "ReferencedSOPInstanceUIDInFile" in record:
            listed[str(record.ReferencedSOPInstanceUIDInFile)] = series
    return listed


def _tell_missing(pile: Pile, listed: dict[str, str], there: set[str]) -> None:
    missing: dict[str, int] = defaultdict(int)
    for uid, series in listed.items():
        if uid not in there:
            missing[series] += 1
    for series, count in missing.items():
        words = f"the DICOMDIR lists {count} images of this series that are not there; copy the whole medium"
        pile.findings[series].append(finding("MISSING_FILES", "refused", words, ["DICOMDIR"]))


def _sources(path: Path, pile: Pile) -> Iterator[tuple[str, Path | bytes]]:
    """Yield name and place, or content, of every file."""
    if not path.exists():
        raise ImageReadError(f"{path}: expected DICOM files; there is nothing. Check the path.")
    if path.name.upper() == "DICOMDIR" and path.is_file():
        path = path.parent
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")):
            yield str(file.relative_to(path)), file
    elif zipfile.is_zipfile(path):
        yield from _entries(path, pile)
    else:
        yield path.name, path


def _entries(path: Path, pile: Pile) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        unsafe = [entry.filename for entry in entries if not _is_safe(entry)]
        if unsafe:
            words = f"{len(unsafe)} entries of the zip lead out of it, are links, encrypted or too large; not read"
            pile.findings[""].append(finding("UNSAFE_ENTRIES", "note", words, unsafe))
        entries = [entry for entry in entries if _is_safe(entry)]
        total = sum(entry.file_size for entry in entries)
        if total > LARGEST_ZIP_BYTES:
            raise ImageReadError(
                f"{path}: expected at most {LARGEST_ZIP_BYTES >> 30} GiB in a zip; it unpacks to {total >> 30} GiB. "
                "Unpack it and give the folder."
            )
        for entry in entries:
            try:
                yield entry.filename, archive.read(entry)
            except (zipfile.BadZipFile, zlib.error, NotImplementedError, OSError, EOFError) as error:
                raise ImageReadError(
                    f"{path}: entry {entry.filename} cannot be unpacked ({error}). Copy the zip again."
                ) from error


def _is_safe(entry: zipfile.ZipInfo) -> bool:
    name = PurePosixPath(entry.filename.replace("\\", "/"))
    leads_out = name.is_absolute() or ".." in name.parts or ":" in entry.filename
    is_link = stat.S_ISLNK(entry.external_attr >> 16)
    return not (leads_out or is_link or entry.flag_bits & 0x1 or entry.file_size > LARGEST_ENTRY_BYTES)


def _opened(name: str, source: Path | bytes) -> Dataset | None:
    """Return the header of an image or a DICOMDIR; None for anything else."""
    if not _begins_as_dicom(source):
        if name.lower().endswith(DICOM_ENDINGS):
            raise _Damaged
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is odd is told by findings
            if isinstance(source, bytes):
                dataset = pydicom.dcmread(io.BytesIO(source), force=True)
            else:
                dataset = pydicom.dcmread(source, force=True, defer_size=DEFER_BYTES)
            if _class_of(dataset) == DIRECTORY:
                return dataset
            return _checked(dataset, source)
    except _Damaged:
        raise
    except Exception as error:  # parsers raise whatever they like on damaged data
        raise _Damaged from error


def _checked(dataset: Dataset, source: Path | bytes) -> Dataset | None:
    """Return an image whose pixels are all there; None for another object."""
    if text_of(dataset, "Modality") in NOT_IMAGES:
        return None
    if "Rows" not in dataset and "Image Storage" not in UID(_class_of(dataset)).name:
        if not _class_of(dataset):
            raise _Damaged
        return None
    series = text_of(dataset, "SeriesInstanceUID")
    stored = next((tag for tag in PIXELS if tag in dataset), None)
    if stored is None or "Rows" not in dataset:
        raise _Damaged(series)
    raw: Any = dataset.get_item(stored, keep_deferred=True)
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if raw.length != _UNDEFINED_LENGTH and (raw.value_tell + raw.length > size or raw.length < _least_bytes(dataset)):
        raise _Damaged(series)
    if not dataset.file_meta.get("TransferSyntaxUID"):
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return dataset


def _least_bytes(dataset: Dataset) -> int:
    """Return how long uncompressed pixels of the header's size are."""
    counts = [int(text_of(dataset, keyword) or 1) for keyword in _COUNTS]
    bits = int(text_of(dataset, "BitsAllocated") or 8)
    for count in counts:
        bits *= count
    # YBR_FULL_422 stores two colours of three
    return 0 if "422" in text_of(dataset, "PhotometricInterpretation") else bits // 8


def _class_of(dataset: Dataset) -> str:
    meta = getattr(dataset, "file_meta", Dataset())
    return text_of(dataset, "SOPClassUID") or text_of(meta, "MediaStorageSOPClassUID")


def _begins_as_dicom(source: Path | bytes) -> bool:
    if isinstance(source, bytes):
        head = source[: _PREAMBLE + 4]
    else:
        with source.open("rb") as stream:
            head = stream.read(_PREAMBLE + 4)
    # files of old scanners begin with their first element, without preamble
    return head[_PREAMBLE:] == b"DICM" or (len(head) > 8 and head[:2] in _FIRST_GROUPS and head[3:4] == b"\x00")
