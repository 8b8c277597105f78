"""Series of DICOM images as scanners and archives leave them: valid ones of any orientation, then one fault each."""

from __future__ import annotations

import copy
import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    MPEG2MPML,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
ROWS, COLUMNS, PLANES = 6, 5, 6


def make_series(
    modality: str = "CT",
    *,
    shape: tuple[int, int, int] = (PLANES, ROWS, COLUMNS),
    axes: tuple[Sequence[float], Sequence[float]] = AXIAL,
    step_mm: Sequence[float] | None = None,
    spacing_mm: tuple[float, float, float] = (2.5, 0.75, 0.5),
    origin_mm: Sequence[float] = (-10.0, 4.0, 30.0),
    seed: int = 4,
) -> list[Dataset]:
    """A valid series: one dataset per plane in acquisition order; ``step_mm`` None: along the normal."""
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 4096, shape).astype(np.uint16)
    normal = np.cross(np.array(axes[0]), np.array(axes[1]))
    step = np.array(step_mm) if step_mm is not None else normal * spacing_mm[0]
    study, series, frame = (generate_uid(prefix=None) for _ in range(3))
    planes = []
    for number, value in enumerate(values):
        plane = Dataset()
        plane.SpecificCharacterSet = "ISO_IR 192"
        plane.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        plane.SOPClassUID, plane.SOPInstanceUID = CLASSES[modality], generate_uid(prefix=None)
        plane.StudyInstanceUID, plane.SeriesInstanceUID, plane.FrameOfReferenceUID = study, series, frame
        plane.Modality, plane.PatientName, plane.PatientID = modality, "Doe^Jane", "P1"
        plane.SeriesDescription, plane.AcquisitionNumber, plane.InstanceNumber = "test series", 1, number + 1
        plane.ContentTime = "101112"
        plane.SliceThickness = spacing_mm[0]
        plane.ImagePositionPatient = [round(float(v), 6) for v in np.array(origin_mm) + number * step]
        plane.ImageOrientationPatient = [round(float(v), 9) for v in (*axes[0], *axes[1])]
        plane.PixelSpacing = [spacing_mm[1], spacing_mm[2]]
        plane.RescaleSlope, plane.RescaleIntercept = 1, -1024
        put_pixels(plane, value, bits=12)
        planes.append(plane)
    return planes


def put_pixels(plane: Dataset, stored: NDArray[Any], *, bits: int, signed: bool = False) -> None:
    """Put numbers into a plane, uncompressed."""
    plane.SamplesPerPixel, plane.PhotometricInterpretation = 1, "MONOCHROME2"
    plane.Rows, plane.Columns = stored.shape[-2:]
    plane.BitsAllocated = 8 if bits <= 8 else 16
    plane.BitsStored, plane.HighBit, plane.PixelRepresentation = bits, bits - 1, int(signed)
    mask = (1 << bits) - 1
    kind = np.uint8 if bits <= 8 else np.uint16
    content = (stored.astype(np.int64) & mask).astype(kind).tobytes()
    plane.PixelData = content + b"\0" * (len(content) % 2)
    plane["PixelData"].VR = "OB" if bits <= 8 else "OW"


def stored_of(plane: Dataset) -> NDArray[Any]:
    """The numbers of an uncompressed plane of :func:`put_pixels`."""
    kind = np.dtype("u1" if plane.BitsAllocated == 8 else "u2")
    raw = np.frombuffer(plane.PixelData, kind, plane.Rows * plane.Columns).reshape(plane.Rows, plane.Columns)
    values = raw.astype(np.int64)
    high = 1 << (plane.BitsStored - 1)
    return np.where(values >= high, values - 2 * high, values) if plane.PixelRepresentation else values


def intensities(planes: Sequence[Dataset]) -> NDArray[np.float64]:
    """Rescaled values of planes in their order, (z, y, x)."""
    return np.stack([stored_of(p) * float(p.RescaleSlope) + float(p.RescaleIntercept) for p in planes])


def _bytes_of(plane: Dataset) -> bytes:
    plane = copy.deepcopy(plane)
    syntax = plane.__dict__.pop("syntax", ExplicitVRLittleEndian)
    if not hasattr(plane, "file_meta"):
        plane.file_meta = FileMetaDataset()
        plane.file_meta.TransferSyntaxUID = syntax
        plane.file_meta.MediaStorageSOPClassUID = plane.get("SOPClassUID")
        plane.file_meta.MediaStorageSOPInstanceUID = plane.get("SOPInstanceUID") or "1.2.3"
    stream = io.BytesIO()
    dcmwrite(stream, plane, enforce_file_format=True)
    return stream.getvalue()


def write_series(folder: Path, planes: Sequence[Dataset], *, ending: str = ".dcm", prefix: str = "im") -> list[Path]:
    """Write planes under names whose order is none of theirs."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, plane in enumerate(planes):
        files.append(folder / f"{prefix}{(number * 7919) % 10007:05d}{ending}")
        files[-1].write_bytes(_bytes_of(plane))
    return files


def compress(plane: Dataset, syntax: str) -> None:
    """Compress the pixels of a plane of :func:`put_pixels`."""
    bits = int(plane.BitsStored)
    kind = np.uint8 if bits <= 8 else np.uint16
    raw = np.frombuffer(plane.PixelData, kind, plane.Rows * plane.Columns).reshape(plane.Rows, plane.Columns)
    if syntax == RLELossless:
        coded = RLELosslessEncoder.encode(
            raw,
            encoding_plugin="pydicom",
            rows=plane.Rows,
            columns=plane.Columns,
            samples_per_pixel=1,
            number_of_frames=1,
            bits_allocated=plane.BitsAllocated,
            bits_stored=bits,
            pixel_representation=0,
            photometric_interpretation="MONOCHROME2",
        )
    elif syntax in (JPEGLossless, JPEGLosslessSV1):
        coded = imagecodecs.ljpeg_encode(raw, bitspersample=bits)
    elif syntax == JPEGLSLossless:
        coded = imagecodecs.jpegls_encode(raw)
    elif syntax == HTJ2KLossless:
        coded = imagecodecs.htj2k_encode(raw)
    elif syntax == JPEGExtended12Bit:
        coded = imagecodecs.jpeg_encode(raw, level=98, bitspersample=12)
    else:
        signed = raw.view(np.int8 if bits <= 8 else np.int16) if plane.PixelRepresentation and bits in (8, 16) else raw
        coded = imagecodecs.jpeg2k_encode(signed, bitspersample=bits, reversible=True, level=0, codecformat="j2k")
    plane.PixelData = encapsulate([bytes(coded)])
    plane["PixelData"].VR = "OB"
    plane["PixelData"].is_undefined_length = True
    plane.syntax = syntax


LOSSLESS = (JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless, RLELossless)


def enhanced(planes: Sequence[Dataset], stacks: Sequence[str] | None = None) -> Dataset:
    """The same planes as one multi-frame image, optionally each in a stack."""
    whole = copy.deepcopy(planes[0])
    whole.SOPClassUID, whole.SOPInstanceUID = ENHANCED_MR, generate_uid(prefix=None)
    whole.NumberOfFrames = len(planes)
    whole.PixelData = b"".join(plane.PixelData for plane in planes)
    measures, rescale = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = whole.PixelSpacing, whole.SliceThickness
    rescale.RescaleSlope, rescale.RescaleIntercept = whole.RescaleSlope, whole.RescaleIntercept
    shared = Dataset()
    shared.PixelMeasuresSequence = Items([measures])
    shared.PixelValueTransformationSequence = Items([rescale])
    whole.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for number, plane in enumerate(planes):
        position, orientation, content, frame = Dataset(), Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = plane.ImagePositionPatient
        orientation.ImageOrientationPatient = plane.ImageOrientationPatient
        if stacks is not None:
            content.StackID = stacks[number]
        if "TemporalPositionIdentifier" in plane:
            content.TemporalPositionIndex = plane.TemporalPositionIdentifier
        frame.PlanePositionSequence, frame.PlaneOrientationSequence = Items([position]), Items([orientation])
        frame.FrameContentSequence = Items([content])
        frames.append(frame)
    whole.PerFrameFunctionalGroupsSequence = Items(frames)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
        delattr(whole, keyword)
    for keyword in ("RescaleIntercept", "SliceThickness", "TemporalPositionIdentifier"):
        if keyword in whole:
            delattr(whole, keyword)
    return whole


def repeated(planes: Sequence[Dataset], times: int, tell: Callable[[Dataset, int], None]) -> list[Dataset]:
    """A 4-D series: the planes several times with other values; ``tell`` writes what parts the volumes."""
    found = []
    for time in range(times):
        for plane in planes:
            other = copy.deepcopy(plane)
            other.SOPInstanceUID = generate_uid(prefix=None)
            put_pixels(other, (stored_of(plane) + time) % 4096, bits=12)
            tell(other, time)
            found.append(other)
    return found


def write_zip(path: Path, planes: Sequence[Dataset], extra: Sequence[tuple[zipfile.ZipInfo, bytes]] = ()) -> None:
    """Write planes into a zip, in a folder of it, with further entries."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, plane in enumerate(planes):
            archive.writestr(f"study/IM{number}", _bytes_of(plane))
        for info, content in extra:
            archive.writestr(info, content)


def directory_of(planes: Sequence[Dataset]) -> Dataset:
    """A DICOMDIR that lists planes."""
    whole = Dataset()
    whole.SOPClassUID, whole.SOPInstanceUID = "1.2.840.10008.1.3.10", generate_uid(prefix=None)
    series = Dataset()
    series.DirectoryRecordType, series.SeriesInstanceUID = "SERIES", planes[0].SeriesInstanceUID
    records = [series]
    for plane in planes:
        record = Dataset()
        record.DirectoryRecordType = "IMAGE"
        record.ReferencedSOPInstanceUIDInFile = plane.SOPInstanceUID
        records.append(record)
    whole.DirectoryRecordSequence = Items(records)
    return whole


# --- faults -------------------------------------------------------------------------------------------------------


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
    (folder / "DICOMDIR").write_bytes(_bytes_of(directory_of([there, gone])))


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
