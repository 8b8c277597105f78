"""Valid series of DICOM images of any orientation, in files of every kind; :mod:`messy_faults` spoils them."""

from __future__ import annotations

import copy
import io
import zipfile
from collections.abc import Callable, Sequence
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


def bytes_of(plane: Dataset) -> bytes:
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
        files[-1].write_bytes(bytes_of(plane))
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
            archive.writestr(f"study/IM{number}", bytes_of(plane))
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
