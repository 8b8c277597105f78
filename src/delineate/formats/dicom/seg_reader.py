"""DICOM Segmentations of any writer as masks on the grid of their images: binary, fractional and label map.

Every frame is placed by its own position and orientation, whatever the order, the number and the axes of frames; a
frame that does not fall on voxels of the images is refused, never resampled; one that reaches beyond them is cut at
their border. Segments may overlap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from delineate.errors import GeometryError, ImageReadError, LabelError
from delineate.formats.dicom.files import read_object
from delineate.formats.dicom.planes import Plane, planes_of
from delineate.formats.dicom.seg_frames import Frames, frames_of
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
    colour: tuple[int, int, int] | None
    """Red, green and blue; None where the file recommends none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Placement:
    """Where the part of a frame that lies inside the images lies in their array."""

    index: tuple[slice | int, ...]
    """Of the array (z, y, x)."""
    part: tuple[slice, slice]
    """Rows and columns of the frame."""
    turned: bool
    """Whether the frame's rows run along a later axis than its columns."""


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
    _stored: Frames
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
            _view(mask, placement)[...] |= frame == wanted
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
            _view(values, placement)[...] = frame.astype(np.float32) / np.float32(self._full)
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
        clashes: set[tuple[int, int]] = set()
        for values, placement in self._numbered():
            view = _view(labels, placement)
            held = values > 0
            for other in np.unique(view[held]).tolist():
                clashes |= {(other, number) for number in np.unique(values[held & (view == other)]).tolist() if other}
            np.copyto(view, values, where=held)
        if clashes:
            told = ", ".join(f"{min(pair)} with {max(pair)}" for pair in sorted({(min(c), max(c)) for c in clashes}))
            raise LabelError(f"Segments overlap and make no single label map: {told}; take their masks.")
        return labels

    def overlap(self) -> int:
        """Return how many voxels belong to several segments."""
        count = np.zeros(self.shape, dtype=np.uint16)
        for values, placement in self._numbered():
            _view(count, placement)[...] += values > 0
        return int((count > 1).sum())

    def _numbered(self) -> Iterator[tuple[NDArray[np.uint16], _Placement]]:
        """Yield the parts of the frames that lie inside the images, each voxel with the number of its segment or 0."""
        known = [segment.number for segment in self.segments]
        table = np.zeros(1 << 16, dtype=np.uint16)
        table[known] = known
        for frame, placement, number in zip(self._stored, self._placements, self._segment_of, strict=True):
            if placement is None:
                continue
            part = frame[placement.part]
            if self.kind == "labelmap":
                yield table[part], placement
            elif number in known:
                held = part / np.float32(self._full) >= HALF if self.kind == "fractional" else part == 1
                yield held * np.uint16(number), placement

    def _frames_of(self, number: int) -> list[tuple[NDArray[Any], _Placement]]:
        if number not in {segment.number for segment in self.segments}:
            raise LabelError(f"The segmentation has no segment {number}; it has {[s.number for s in self.segments]}.")
        return [
            (self._stored[frame][placement.part], placement)
            for frame, (placement, segment) in enumerate(zip(self._placements, self._segment_of, strict=True))
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
        If it lies in another frame of reference, says neither frame nor images, or lies between their voxels.
    """
    dataset = _opened(path)
    try:
        return _read(path, dataset, source)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ImageReadError(
            f"{path}: the segmentation is damaged ({type(error).__name__}). Copy or export it again."
        ) from error


def named_images(path: Path) -> frozenset[str]:
    """Return the SOP Instance UIDs of the images that a segmentation says it was made of; empty if it says none.

    Raises
    ------
    ImageReadError
        If the file is no segmentation, or damaged.
    """
    return frozenset(_named_images(_opened(path)))


def _read(path: Path, dataset: Dataset, source: SourceSeries) -> ReadSegmentation:
    notices = _require_source(path, dataset, source)
    planes = _planes(path, dataset)
    placements = _placements(path, planes, source)
    stored = frames_of(path, dataset, planes[0])
    kind = _kind(path, dataset)
    segment_of = _segment_numbers(path, dataset, len(planes), kind)
    if len(stored) != len(planes):
        raise ImageReadError(
            f"{path}: {len(planes)} frames are described and {len(stored)} are there. Copy or export it again."
        )
    nothing = {0, int(dataset.get("PixelPaddingValue", 0))} if kind == "labelmap" else set()
    segments = [_segment(item) for item in dataset.get("SegmentSequence") or []]
    known = {segment.number for segment in segments}
    return ReadSegmentation(
        kind=kind,
        segments=tuple(segment for segment in segments if segment.number not in nothing),
        content_label=str(dataset.get("ContentLabel", "")),
        content_description=str(dataset.get("ContentDescription", "") or ""),
        notices=(
            *notices,
            *_beyond(planes, placements, stored),
            *_undescribed(kind, stored, segment_of, known | nothing),
        ),
        shape=source.grid.shape,
        _stored=stored,
        _placements=placements,
        _segment_of=segment_of,
        _full=int(dataset.get("MaximumFractionalValue", 1)) or 1,
    )


def _opened(path: Path) -> Dataset:
    dataset = read_object(path, "SEG", "a DICOM segmentation")
    if "PixelData" not in dataset:
        raise ImageReadError(f"{path}: the segmentation holds no frames, or is truncated. Copy or export it again.")
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        raise ImageReadError(f"{path}: the segmentation has no functional groups; its frames cannot be placed.")
    return dataset


def placed_frames(path: Path) -> tuple[Dataset, tuple[Plane, ...]]:
    """Return the file, and where each of its frames lies.

    Raises
    ------
    ImageReadError
        If the file is no segmentation, damaged, or its frames do not say where they lie.
    """
    dataset = _opened(path)
    return dataset, _planes(path, dataset)


def _planes(path: Path, dataset: Dataset) -> tuple[Plane, ...]:
    planes = planes_of(path.name, dataset)
    if not planes or any(plane.stated is None for plane in planes):
        raise ImageReadError(f"{path}: its frames do not say where they lie; it cannot be placed on images.")
    return planes


def _require_source(path: Path, dataset: Dataset, source: SourceSeries) -> tuple[str, ...]:
    """Refuse a segmentation of another place; tell if it was made of other images of the same place."""
    frame = str(dataset.get("FrameOfReferenceUID", "") or "")
    named, given = set(_named_images(dataset)), {one.sop_instance_uid for one in source.slices}
    if frame and frame != source.frame_of_reference_uid:
        raise GeometryError(
            f"{path}: the segmentation lies in another frame of reference than the images; choose the series that it "
            "was made of."
        )
    if given <= {""}:
        return ()  # the segmentation's own frames
    if not frame and not named & given:
        raise GeometryError(
            f"{path}: the segmentation says no frame of reference and names none of the images, so it may belong to "
            "any scan. Export it again together with its images."
        )
    if named and not named & given:
        return ("the segmentation was made of other images of this frame of reference; it lies where its frames say",)
    return ()


def _named_images(dataset: Dataset) -> Iterator[str]:
    for series in dataset.get("ReferencedSeriesSequence") or []:
        for image in series.get("ReferencedInstanceSequence") or []:
            yield str(image.get("ReferencedSOPInstanceUID", ""))
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for frame in (*shared, *(dataset.get("PerFrameFunctionalGroupsSequence") or [])):
        for derivation in frame.get("DerivationImageSequence") or []:
            for image in derivation.get("SourceImageSequence") or []:
                yield str(image.get("ReferencedSOPInstanceUID", ""))


def _kind(path: Path, dataset: Dataset) -> Kind:
    word = str(dataset.get("SegmentationType", "")).lower()
    if word == "binary":
        return "binary"
    if word == "fractional":
        return "fractional"
    if word == "labelmap":
        return "labelmap"
    raise ImageReadError(f"{path}: the segmentation is of type '{word}'; known are binary, fractional and labelmap.")


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
        colour=_colour(item.get("RecommendedDisplayCIELabValue")),
    )


def _colour(value: Any) -> tuple[int, int, int] | None:
    """Return red, green and blue of a CIELab value as DICOM scales it (PS3.3 C.10.7.1.1)."""
    if value is None or len(value) != 3:
        return None
    from skimage.color import lab2rgb  # only here: it loads much of scipy

    lightness, a, b = (float(v) / 65535 for v in value)
    lab = np.array([lightness * 100, a * 255 - 128, b * 255 - 128])
    red, green, blue = (round(255 * float(v)) for v in lab2rgb(lab))
    return (red, green, blue)


def _code(item: Dataset, keyword: str) -> tuple[str, str, str]:
    found = (item.get(keyword) or [Dataset()])[0]
    return (
        str(found.get("CodeValue", "")),
        str(found.get("CodingSchemeDesignator", "")),
        str(found.get("CodeMeaning", "")),
    )


def _placements(path: Path, planes: tuple[Plane, ...], source: SourceSeries) -> tuple[_Placement | None, ...]:
    """Return where each frame lies; None for one that lies beside the images."""
    inverse: NDArray[np.float64] = np.linalg.inv(source.grid.affine).astype(np.float64)
    found: list[_Placement | None] = []
    for plane in planes:
        lies = _lies(plane, inverse)
        if lies is None:
            raise GeometryError(
                f"{path}: its frames lie between the voxels of the images (another spacing, orientation or offset); "
                "choose the series that it was made of."
            )
        found.append(_inside(lies, (plane.rows, plane.columns), source.grid.shape))
    return tuple(found)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Lies:
    """Where a whole frame lies, inside the images or beyond."""

    origin: tuple[int, int, int]
    steps: tuple[tuple[int, int], tuple[int, int]]
    """Axis and direction along which the row index grows, and the column index."""


def _lies(plane: Plane, inverse: NDArray[np.float64]) -> _Lies | None:
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
    return _Lies(origin=(z, y, x), steps=(row_step, column_step))


def _step(vector: NDArray[np.float64]) -> tuple[int, int] | None:
    axis = int(np.abs(vector).argmax())
    direction = int(np.sign(vector[axis]))
    rest = vector.copy()
    rest[axis] -= direction
    return (axis, direction) if float(np.abs(rest).max()) <= ON_VOXELS else None


def _inside(lies: _Lies, size: tuple[int, int], shape: tuple[int, ...]) -> _Placement | None:
    """Return the part of a frame that lies inside the images; None if none does."""
    index: list[slice | int] = list(lies.origin)
    parts = []
    for (axis, direction), count in zip(lies.steps, size, strict=True):
        origin = lies.origin[axis]
        # steps k with 0 <= origin + direction * k < shape
        low, high = (-origin, shape[axis] - origin) if direction > 0 else (origin - shape[axis] + 1, origin + 1)
        begin, end = max(low, 0), min(high, count)
        if begin >= end:
            return None
        start, stop = origin + direction * begin, origin + direction * end
        index[axis] = slice(start, stop if stop >= 0 else None, direction)
        parts.append(slice(begin, end))
    across = next(axis for axis in range(3) if isinstance(index[axis], int))
    if not 0 <= lies.origin[across] < shape[across]:
        return None
    return _Placement(index=tuple(index), part=(parts[0], parts[1]), turned=lies.steps[0][0] > lies.steps[1][0])


def _view(array: NDArray[Any], placement: _Placement) -> NDArray[Any]:
    """Return the part of an array that a frame covers, as (row, column) of the frame."""
    view = array[placement.index]
    return view.T if placement.turned else view


def _beyond(planes: tuple[Plane, ...], placements: tuple[_Placement | None, ...], stored: Frames) -> Iterator[str]:
    """Tell what of the frames lies beyond the images."""
    beside = [frame.any() for frame, place in zip(stored, placements, strict=True) if place is None]
    if beside:
        yield (
            f"{len(beside)} frames reach beyond the images and were left out, {sum(map(bool, beside))} of them not "
            "empty"
        )
    cut, lost = 0, 0
    for plane, frame, place in zip(planes, stored, placements, strict=True):
        if place is None or place.part == (slice(0, plane.rows), slice(0, plane.columns)):
            continue
        cut += 1
        lost += int(np.count_nonzero(frame)) - int(np.count_nonzero(frame[place.part]))
    if cut:
        yield f"{cut} frames were cut at the border of the images, which leaves out {lost} marked voxels"


def _undescribed(kind: Kind, stored: Frames, segment_of: tuple[int, ...], known: set[int]) -> Iterator[str]:
    """Tell which numbers no segment is described for."""
    held = {int(v) for frame in stored for v in np.unique(frame)} if kind == "labelmap" else set(segment_of)
    strange = sorted(held - known)
    if strange:
        what = "voxels hold" if kind == "labelmap" else "frames belong to"
        yield f"{what} the numbers {strange}, for which the file describes no segment; they were left out"
