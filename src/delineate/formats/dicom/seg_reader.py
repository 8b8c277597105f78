"""DICOM Segmentations of any writer as masks on the grid of their images: binary, fractional and label map.

Every frame is placed by its own position and orientation, whatever the order, the number and the axes of frames; a
frame that does not fall on voxels of the images is refused, never resampled. Segments may overlap.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from delineate.errors import GeometryError, ImageReadError, LabelError
from delineate.formats.dicom.pixels import stored_frames
from delineate.formats.dicom.planes import Plane, planes_of
from delineate.formats.dicom.source_series import SourceSeries

ON_VOXELS = 0.05
"""Largest distance, in voxels, of a frame's corner or step from the voxels of the images: headers round positions."""
HALF = 0.5
"""A voxel belongs to a fractional segment from this share on."""

Kind = Literal["binary", "fractional", "labelmap"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadSegment:
    """What the file says of one segment."""

    number: int
    label: str
    category: tuple[str, str, str]
    """Code value, scheme, meaning; empty strings where the file has none."""
    type: tuple[str, str, str]
    algorithm_type: str
    tracking_id: str
    tracking_uid: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Placement:
    """Where a frame's rows and columns lie in the array of the images."""

    origin_zyx: tuple[int, int, int]
    row_step: tuple[int, int]
    """Axis and direction along which the row index grows."""
    column_step: tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReadSegmentation:
    """A segmentation on the grid of its images; masks are made when they are asked for."""

    kind: Kind
    segments: tuple[ReadSegment, ...]
    """Without the background of a label map."""
    content_label: str
    content_description: str
    notices: tuple[str, ...]
    shape: tuple[int, ...]
    """Of the images, (z, y, x)."""
    _stored: NDArray[Any]
    """(frame, row, column) as stored."""
    _placements: tuple[_Placement | None, ...]
    """None: beyond the images."""
    _segment_of: tuple[int, ...]
    """Segment number of every frame; 0 for label maps, whose frames hold all segments."""
    _full: int
    """The stored number that stands for one."""

    def mask(self, number: int) -> NDArray[np.bool_]:
        """Return a segment as a mask (z, y, x); of a fractional one, where it fills half a voxel or more.

        Raises
        ------
        LabelError
            If there is no segment of that number.
        """
        if self.kind == "fractional":
            found: NDArray[np.bool_] = self.fraction(number) >= HALF
            return found
        wanted = number if self.kind == "labelmap" else 1
        mask = np.zeros(self.shape, dtype=bool)
        for frame, placement in self._frames_of(number):
            _view(mask, placement, frame.shape)[...] |= frame == wanted
        return mask

    def fraction(self, number: int) -> NDArray[np.float32]:
        """Return a segment's probability or occupancy (z, y, x) float32, 0 to 1; of other kinds, its mask.

        Raises
        ------
        LabelError
            If there is no segment of that number.
        """
        if self.kind != "fractional":
            return self.mask(number).astype(np.float32)
        values = np.zeros(self.shape, dtype=np.float32)
        for frame, placement in self._frames_of(number):
            _view(values, placement, frame.shape)[...] = frame.astype(np.float32) / np.float32(self._full)
        return values

    def labels(self) -> NDArray[Any]:
        """Return one label map (z, y, x) whose values are the segment numbers.

        Raises
        ------
        LabelError
            If segments overlap; names them.
        """
        largest = max((segment.number for segment in self.segments), default=0)
        labels = np.zeros(self.shape, dtype=np.uint8 if largest < 256 else np.uint16)
        clashes = []
        for segment in self.segments:
            mask = self.mask(segment.number)
            for other in np.unique(labels[mask & (labels > 0)]).tolist():
                clashes.append(f"{other} with {segment.number}")
            labels[mask] = segment.number
        if clashes:
            raise LabelError(f"Segments overlap and make no single label map: {', '.join(clashes)}; take their masks.")
        return labels

    def _frames_of(self, number: int) -> list[tuple[NDArray[Any], _Placement]]:
        if number not in {segment.number for segment in self.segments}:
            raise LabelError(f"The segmentation has no segment {number}; it has {[s.number for s in self.segments]}.")
        return [
            (frame, placement)
            for frame, placement, segment in zip(self._stored, self._placements, self._segment_of, strict=True)
            if placement is not None and segment in (0, number)
        ]


def read_seg(path: Path, source: SourceSeries) -> ReadSegmentation:
    """Read a segmentation of a series.

    Parameters
    ----------
    path
        The segmentation.
    source
        The images that it was made of, or others of the same frame of reference and voxels.

    Raises
    ------
    ImageReadError
        If the file is no segmentation, or damaged.
    GeometryError
        If it lies in another frame of reference, or between the voxels of the images.
    """
    dataset = _opened(path)
    if str(dataset.get("FrameOfReferenceUID", "")) not in ("", source.frame_of_reference_uid):
        raise GeometryError(
            f"{path}: the segmentation lies in another frame of reference than the images; choose the series that it "
            "was made of."
        )
    planes = planes_of(path.name, dataset)
    if any(plane.stated is None for plane in planes):
        raise ImageReadError(f"{path}: its frames do not say where they lie; it cannot be placed on the images.")
    placements = _placements(path, planes, source)
    stored = _frames(path, dataset, planes[0])
    kind = _kind(path, dataset)
    background = int(dataset.get("PixelPaddingValue", 0)) if kind == "labelmap" else None
    return ReadSegmentation(
        kind=kind,
        segments=tuple(
            _segment(item)
            for item in dataset.get("SegmentSequence", [])
            if int(item.SegmentNumber) not in _not_segments(kind, background)
        ),
        content_label=str(dataset.get("ContentLabel", "")),
        content_description=str(dataset.get("ContentDescription", "") or ""),
        notices=_notices(placements, stored),
        shape=source.grid.shape,
        _stored=stored,
        _placements=placements,
        _segment_of=_segment_numbers(path, dataset, len(planes), kind),
        _full=int(dataset.get("MaximumFractionalValue", 1)),
    )


def _not_segments(kind: Kind, background: int | None) -> tuple[int, ...]:
    return (0, background) if kind == "labelmap" and background is not None else ()


def _opened(path: Path) -> Dataset:
    try:
        dataset = pydicom.dcmread(path)
    except (InvalidDicomError, OSError, EOFError, ValueError) as error:
        raise ImageReadError(f"{path}: expected a DICOM segmentation; the file cannot be read ({error}).") from error
    if str(dataset.get("Modality", "")) != "SEG" or "PixelData" not in dataset:
        raise ImageReadError(
            f"{path}: expected a DICOM segmentation; found modality {dataset.get('Modality', 'none')}. Choose its file."
        )
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        raise ImageReadError(f"{path}: the segmentation has no functional groups; its frames cannot be placed.")
    return dataset


def _kind(path: Path, dataset: Dataset) -> Kind:
    word = str(dataset.get("SegmentationType", "")).lower()
    if word == "binary":
        return "binary"
    if word == "fractional":
        return "fractional"
    if word == "labelmap":
        return "labelmap"
    raise ImageReadError(f"{path}: the segmentation is of type '{word}'; known are binary, fractional and labelmap.")


def _frames(path: Path, dataset: Dataset, plane: Plane) -> NDArray[Any]:
    """Return the stored numbers (frame, row, column)."""
    count, rows, columns = int(dataset.get("NumberOfFrames", 1)), plane.rows, plane.columns
    if int(dataset.BitsAllocated) > 1 or dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        try:
            return stored_frames(plane)
        except Exception as error:  # decoders raise whatever they like on damaged data
            raise ImageReadError(
                f"{path}: its frames cannot be decoded ({type(error).__name__}). Copy or export it again."
            ) from error
    data = np.frombuffer(dataset.PixelData, dtype=np.uint8)
    bits = rows * columns
    whole, padded = -(-count * bits // 8), count * -(-bits // 8)
    unpacked = np.unpackbits(data, bitorder="little")
    if len(data) - whole in (0, 1):
        return unpacked[: count * bits].reshape(count, rows, columns)
    if len(data) - padded in (0, 1):  # early writers began every frame at a new byte
        return unpacked[: padded * 8].reshape(count, -1)[:, :bits].reshape(count, rows, columns)
    raise ImageReadError(
        f"{path}: {count} frames of {rows} x {columns} bits need {whole} bytes; found {len(data)}. Copy it again."
    )


def _segment_numbers(path: Path, dataset: Dataset, count: int, kind: Kind) -> tuple[int, ...]:
    if kind == "labelmap":
        return (0,) * count
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    numbers = []
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        found = frame.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
        if not found:
            raise ImageReadError(f"{path}: a frame does not say which segment it belongs to.")
        numbers.append(int(found[0].ReferencedSegmentNumber))
    return tuple(numbers)


def _segment(item: Dataset) -> ReadSegment:
    return ReadSegment(
        number=int(item.SegmentNumber),
        label=str(item.get("SegmentLabel", "")),
        category=_code(item, "SegmentedPropertyCategoryCodeSequence"),
        type=_code(item, "SegmentedPropertyTypeCodeSequence"),
        algorithm_type=str(item.get("SegmentAlgorithmType", "")),
        tracking_id=str(item.get("TrackingID", "")),
        tracking_uid=str(item.get("TrackingUID", "")),
    )


def _code(item: Dataset, keyword: str) -> tuple[str, str, str]:
    found = (item.get(keyword) or [Dataset()])[0]
    return (
        str(found.get("CodeValue", "")),
        str(found.get("CodingSchemeDesignator", "")),
        str(found.get("CodeMeaning", "")),
    )


def _placements(path: Path, planes: tuple[Plane, ...], source: SourceSeries) -> tuple[_Placement | None, ...]:
    inverse: NDArray[np.float64] = np.linalg.inv(source.grid.affine).astype(np.float64)
    found: list[_Placement | None] = []
    for plane in planes:
        placement = _placement(plane, inverse)
        if placement is None:
            raise GeometryError(
                f"{path}: its frames lie between the voxels of the images (another spacing, orientation or offset); "
                "choose the series that it was made of."
            )
        found.append(placement if _inside(placement, plane, source.grid.shape) else None)
    return tuple(found)


def _placement(plane: Plane, inverse: NDArray[np.float64]) -> _Placement | None:
    """Return where a frame falls on voxels; None if it falls between them."""
    place = plane.placement
    rows_mm, columns_mm = place.spacing_mm
    origin = inverse[:3, :3] @ np.array(place.position_mm) + inverse[:3, 3]
    down = inverse[:3, :3] @ (np.array(place.column_axis) * rows_mm)
    along = inverse[:3, :3] @ (np.array(place.row_axis) * columns_mm)
    first = np.round(origin)
    far = origin + down * (plane.rows - 1) + along * (plane.columns - 1)
    row_step, column_step = _step(down), _step(along)
    if row_step is None or column_step is None:
        return None
    expected = first.copy()
    expected[row_step[0]] += row_step[1] * (plane.rows - 1)
    expected[column_step[0]] += column_step[1] * (plane.columns - 1)
    if max(float(np.abs(origin - first).max()), float(np.abs(far - expected).max())) > ON_VOXELS:
        return None
    z, y, x = (int(v) for v in first)
    return _Placement(origin_zyx=(z, y, x), row_step=row_step, column_step=column_step)


def _step(vector: NDArray[np.float64]) -> tuple[int, int] | None:
    axis = int(np.abs(vector).argmax())
    direction = int(np.sign(vector[axis]))
    rest = vector.copy()
    rest[axis] -= direction
    return (axis, direction) if float(np.abs(rest).max()) <= ON_VOXELS else None


def _inside(placement: _Placement, plane: Plane, shape: tuple[int, ...]) -> bool:
    low = np.array(placement.origin_zyx)
    high = low.copy()
    for (axis, direction), count in ((placement.row_step, plane.rows), (placement.column_step, plane.columns)):
        end = low[axis] + direction * (count - 1)
        low[axis], high[axis] = min(low[axis], end), max(high[axis], end)
    return bool((low >= 0).all() and (high < np.array(shape)).all())


def _view(array: NDArray[Any], placement: _Placement, frame: tuple[int, ...]) -> NDArray[Any]:
    """Return the part of an array that a frame covers, as (row, column) of the frame."""
    index: list[slice | int] = [int(v) for v in placement.origin_zyx]
    steps = ((placement.row_step, frame[0]), (placement.column_step, frame[1]))
    for (axis, direction), count in steps:
        start = placement.origin_zyx[axis]
        stop = start + direction * count
        index[axis] = slice(start, stop if stop >= 0 else None, direction)
    view = array[tuple(index)]
    return view if placement.row_step[0] < placement.column_step[0] else view.T


def _notices(placements: tuple[_Placement | None, ...], stored: NDArray[Any]) -> tuple[str, ...]:
    outside = Counter(
        "filled" if stored[number].any() else "empty" for number, place in enumerate(placements) if place is None
    )
    if not outside:
        return ()
    return (
        f"{sum(outside.values())} frames reach beyond the images and were left out, {outside['filled']} of them not "
        "empty.",
    )
