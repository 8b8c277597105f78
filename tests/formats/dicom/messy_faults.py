"""Faults of DICOM series as scanners and archives leave them: one function each, and the code that tells it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from messy_series import (
    COLUMNS,
    ROWS,
    bytes_of,
    directory_of,
    put_pixels,
    repeated,
    stored_of,
)
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag
from pydicom.uid import MPEG2MPML, generate_uid


@dataclass(frozen=True)
class Fault:
    """What goes wrong, the code that tells it, and what becomes of the volume."""

    code: str
    severity: str
    apply: Callable[[list[Dataset]], list[Dataset]]
    spoil: Callable[[Path], None] | None = None
    """What happens to the folder afterwards."""
    parts: int = 1
    """How many volumes the series has then."""
    turn: int = 0
    """When it happens beside others: what spoils planes first, then phases, copies, and coding of pixels."""

    def __repr__(self) -> str:
        return self.apply.__name__


def missing_slice(planes: list[Dataset]) -> list[Dataset]:
    return planes[:2] + planes[3:]


def nearly_regular(planes: list[Dataset]) -> list[Dataset]:
    _move(planes[1], 0.03 * _step(planes), across=True)
    return planes


def irregular(planes: list[Dataset]) -> list[Dataset]:
    _move(planes[1], 0.3 * _step(planes), across=True)
    return planes


def gantry_tilt(planes: list[Dataset]) -> list[Dataset]:
    for number, plane in enumerate(planes):
        _move(plane, 0.6 * number, across=False)
    return planes


def slight_shear(planes: list[Dataset]) -> list[Dataset]:
    _move(planes[-1], 0.04, across=False)
    return planes


def identical_copy(planes: list[Dataset]) -> list[Dataset]:
    copied = copy.deepcopy(planes[1])
    copied.SOPInstanceUID = generate_uid(prefix=None)
    return [*planes, copied]


def same_file_twice(planes: list[Dataset]) -> list[Dataset]:
    return [*planes, copy.deepcopy(planes[1])]


def other_at_one_place(planes: list[Dataset]) -> list[Dataset]:
    other = copy.deepcopy(planes[1])
    other.SOPInstanceUID = generate_uid(prefix=None)
    put_pixels(other, 4095 - stored_of(planes[1]), bits=12)
    return [*planes, other]


def one_identifier(planes: list[Dataset]) -> list[Dataset]:
    planes[2].SOPInstanceUID = planes[1].SOPInstanceUID
    return planes


def no_position(planes: list[Dataset]) -> list[Dataset]:
    del planes[2].ImagePositionPatient
    return planes


def no_orientation(planes: list[Dataset]) -> list[Dataset]:
    planes[2].ImageOrientationPatient = None
    return planes


def no_spacing(planes: list[Dataset]) -> list[Dataset]:
    del planes[2].PixelSpacing
    return planes


def no_frame_of_reference(planes: list[Dataset]) -> list[Dataset]:
    for plane in planes:
        if "FrameOfReferenceUID" in plane:
            del plane.FrameOfReferenceUID
    return planes


def bad_orientation(planes: list[Dataset]) -> list[Dataset]:
    for plane in planes:
        if plane.get("ImageOrientationPatient"):
            plane.ImageOrientationPatient = [1.2 * float(v) for v in plane.ImageOrientationPatient]
    return planes


def other_patient(planes: list[Dataset]) -> list[Dataset]:
    planes[3].PatientID = "P2"
    return planes


def scout(planes: list[Dataset]) -> list[Dataset]:
    one = copy.deepcopy(planes[0])
    one.SOPInstanceUID, one.ImageType = generate_uid(prefix=None), ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    one.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    return [*planes, one]


def other_size(planes: list[Dataset]) -> list[Dataset]:
    one = copy.deepcopy(planes[0])
    one.SOPInstanceUID = generate_uid(prefix=None)
    put_pixels(one, np.zeros((ROWS, COLUMNS + 2)), bits=12)
    return [*planes, one]


def other_spacing(planes: list[Dataset]) -> list[Dataset]:
    planes[-1].PixelSpacing = [0.8, 0.5]
    return planes


def other_orientation(planes: list[Dataset]) -> list[Dataset]:
    planes[-1].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    return planes


def other_frame(planes: list[Dataset]) -> list[Dataset]:
    planes[-1].FrameOfReferenceUID = generate_uid(prefix=None)
    return planes


def colour(planes: list[Dataset]) -> list[Dataset]:
    for plane in planes:
        plane.SamplesPerPixel, plane.PhotometricInterpretation, plane.PlanarConfiguration = 3, "RGB", 0
        plane.PixelData = plane.PixelData * 3
    return planes


def unknown_compression(planes: list[Dataset]) -> list[Dataset]:
    planes[1].PixelData = encapsulate([b"\0" * 64])
    planes[1]["PixelData"].VR, planes[1]["PixelData"].is_undefined_length = "OB", True
    planes[1].syntax = MPEG2MPML
    return planes


def modality_table(planes: list[Dataset]) -> list[Dataset]:
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType, table.LUTData = [4, 0, 16], "HU", b"\0" * 8
    planes[1].ModalityLUTSequence = Items([table])
    return planes


def no_slope(planes: list[Dataset]) -> list[Dataset]:
    number = RawDataElement(Tag("RescaleIntercept"), "DS", 4, b"inf ", 0, False, True)
    planes[1][number.tag] = number
    return planes


def inverted(planes: list[Dataset]) -> list[Dataset]:
    for plane in planes:
        plane.PhotometricInterpretation = "MONOCHROME1"
    return planes


def padded(planes: list[Dataset]) -> list[Dataset]:
    for plane in planes:
        plane.add_new("PixelPaddingValue", "SS" if plane.PixelRepresentation else "US", 4095)
    return planes


def rescaled_each(planes: list[Dataset]) -> list[Dataset]:
    for number, plane in enumerate(planes):
        plane.RescaleSlope = 0.5 + 0.125 * number
    return planes


def lossy(planes: list[Dataset]) -> list[Dataset]:
    for plane in planes:
        plane.LossyImageCompression = "01"
    return planes


def incomplete_phase(planes: list[Dataset]) -> list[Dataset]:
    both = repeated(planes, 2, lambda plane, time: setattr(plane, "TemporalPositionIdentifier", time + 1))
    return both[:-1]


def as_it_is(planes: list[Dataset]) -> list[Dataset]:
    return planes


def truncated(planes: list[Dataset]) -> list[Dataset]:
    return planes


def truncated_header(planes: list[Dataset]) -> list[Dataset]:
    return planes


def empty_file(planes: list[Dataset]) -> list[Dataset]:
    return planes


def foreign_files(planes: list[Dataset]) -> list[Dataset]:
    return planes


def incomplete_directory(planes: list[Dataset]) -> list[Dataset]:
    return planes


def _first_file(folder: Path) -> Path:
    return min(path for path in folder.rglob("*") if path.suffix == ".dcm")


def _cut(folder: Path) -> None:
    file = _first_file(folder)
    file.write_bytes(file.read_bytes()[:-20])


def _cut_header(folder: Path) -> None:
    file = _first_file(folder)
    file.write_bytes(file.read_bytes()[:200])


def _empty(folder: Path) -> None:
    (folder / "zz.dcm").write_bytes(b"")


def _notes(folder: Path) -> None:
    (folder / "notes.txt").write_text("hello")


def _directory(folder: Path) -> None:
    import pydicom

    there = pydicom.dcmread(max(path for path in folder.rglob("*") if path.name.startswith("im")))
    gone = copy.deepcopy(there)
    gone.SOPInstanceUID = generate_uid(prefix=None)
    (folder / "DICOMDIR").write_bytes(bytes_of(directory_of([there, gone])))


FAULTS = (
    Fault("MISSING_SLICES", "refused", missing_slice),
    Fault("NEARLY_REGULAR_SPACING", "repaired", nearly_regular),
    Fault("IRREGULAR_SPACING", "refused", irregular),
    Fault("GANTRY_TILT", "refused", gantry_tilt),
    Fault("SLIGHT_SHEAR", "repaired", slight_shear),
    Fault("DUPLICATE_PLANES", "repaired", identical_copy, turn=2),
    Fault("DUPLICATE_INSTANCE", "repaired", same_file_twice, turn=2),
    Fault("DUPLICATE_POSITIONS", "refused", other_at_one_place, turn=2),
    Fault("CONFLICTING_INSTANCES", "refused", one_identifier),
    Fault("NO_GEOMETRY", "refused", no_position),
    Fault("NO_GEOMETRY", "refused", no_orientation),
    Fault("NO_GEOMETRY", "refused", no_spacing),
    Fault("NO_FRAME_OF_REFERENCE", "refused", no_frame_of_reference),
    Fault("BAD_ORIENTATION", "refused", bad_orientation),
    Fault("MIXED_STUDY", "refused", other_patient),
    Fault("LOCALIZER", "note", scout, turn=2),
    Fault("MIXED_SIZE", "note", other_size, parts=2, turn=2),
    Fault("MIXED_SPACING", "note", other_spacing, parts=2),
    Fault("MIXED_ORIENTATION", "note", other_orientation, parts=2),
    Fault("MIXED_FRAME_OF_REFERENCE", "note", other_frame, parts=2),
    Fault("COLOUR", "refused", colour, turn=3),
    Fault("UNKNOWN_COMPRESSION", "refused", unknown_compression, turn=3),
    Fault("MODALITY_TABLE", "refused", modality_table),
    Fault("BAD_RESCALE", "refused", no_slope, turn=3),
    Fault("MONOCHROME1", "note", inverted),
    Fault("PIXEL_PADDING", "repaired", padded),
    Fault("RESCALE_PER_SLICE", "note", rescaled_each),
    Fault("LOSSY_COMPRESSION", "note", lossy),
    Fault("INCOMPLETE_PART", "refused", incomplete_phase, parts=2, turn=1),
    Fault("DAMAGED_FILE", "refused", truncated, _cut),
    Fault("DAMAGED_FILE", "refused", truncated_header, _cut_header),
    Fault("DAMAGED_FILE", "refused", empty_file, _empty),
    Fault("OTHER_FILES", "note", foreign_files, _notes),
    Fault("MISSING_FILES", "refused", incomplete_directory, _directory),
)


def _step(planes: Sequence[Dataset]) -> float:
    return float(planes[0].SliceThickness)


def _move(plane: Dataset, distance_mm: float, *, across: bool) -> None:
    if "ImagePositionPatient" not in plane or not plane.get("ImageOrientationPatient"):
        return
    axes = np.array([float(v) for v in plane.ImageOrientationPatient]).reshape(2, 3)
    way = np.cross(axes[0], axes[1]) if across else axes[1]
    moved = np.array([float(v) for v in plane.ImagePositionPatient]) + distance_mm * way
    plane.ImagePositionPatient = [round(float(v), 6) for v in moved]
