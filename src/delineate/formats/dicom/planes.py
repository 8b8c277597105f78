"""One plane of a DICOM image: where it lies, how its numbers become intensities, and what sets it apart from others.

A single-frame instance is one plane, a multi-frame instance as many as it has frames. Everything here is read from the
header; no pixel is decoded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.tag import BaseTag, Tag

from delineate.errors import GeometryError

Vector = tuple[float, float, float]

_PARTS = (
    ("temporal position", "TemporalPositionIdentifier"),
    ("temporal position", "TemporalPositionIndex"),
    ("b-value", "DiffusionBValue"),
    ("gradient direction", "DiffusionGradientOrientation"),
    ("echo", "EchoTime"),
    ("inversion time", "InversionTime"),
    ("trigger time", "TriggerTime"),
    ("frame time", "FrameReferenceTime"),
    ("image type", "ImageType"),
    ("acquisition", "AcquisitionNumber"),
    ("content time", "ContentTime"),
)
"""What tells the volumes of a 4-D series apart, in the order in which it is tried: name for the reader, and keyword."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where a plane lies, LPS mm."""

    position_mm: Vector
    """Of the centre of the first voxel (Image Position Patient)."""
    row_axis: Vector
    """Unit vector along which the column index grows (the first three of Image Orientation Patient)."""
    column_axis: Vector
    """Unit vector along which the row index grows."""
    spacing_mm: tuple[float, float]
    """Distance of rows, distance of columns (Pixel Spacing)."""

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the plane: row axis times column axis."""
        across = np.cross(np.array(self.row_axis), np.array(self.column_axis))
        length = float(np.linalg.norm(across))
        return across / length if length > 0 else across


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Plane:
    """One plane."""

    file: str
    """Name of the file, for messages."""
    dataset: Dataset
    """Its header; planes of one multi-frame file share it."""
    frame: int | None
    """From 1; None for an instance of a single frame."""
    rows: int
    columns: int
    stated: Placement | None
    """Where it lies; None if the header does not say."""
    thickness_mm: float | None
    slope: float
    intercept: float
    stack: str
    """Which stack of a multi-frame image; empty outside of one."""
    parts: dict[str, str]
    """What may tell volumes of a series apart: name -> value."""
    texts: dict[str, str] = field(default_factory=dict)
    """Attributes that were asked for already."""

    @property
    def placement(self) -> Placement:
        """Where the plane lies.

        Raises
        ------
        GeometryError
            If the header does not say.
        """
        if self.stated is None:
            raise GeometryError(f"{self.file}: the header does not say where the plane lies.")
        return self.stated

    @property
    def series_uid(self) -> str:
        """Series Instance UID."""
        return self.text("SeriesInstanceUID")

    @property
    def is_localizer(self) -> bool:
        """Whether the image type says that this is a scout view."""
        return "LOCALIZER" in self.parts.get("image type", "")

    def text(self, keyword: str) -> str:
        """Return an attribute as text; empty if it is absent or damaged."""
        known = self.texts.get(keyword)
        if known is None:
            known = self.texts[keyword] = text_of(self.dataset, keyword)
        return known


def planes_of(file: str, dataset: Dataset) -> tuple[Plane, ...]:
    """Return the planes of an instance, in the order of its frames.

    A multi-frame image without functional groups says of no frame where it lies; its planes are incomplete.
    """
    count = int(text_of(dataset, "NumberOfFrames") or 1)
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if frames:
        shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
        return tuple(
            _plane(file, dataset, _Groups(frame=frame, shared=shared), number)
            for number, frame in enumerate(frames, start=1)
        )
    return tuple(
        _plane(file, dataset, None if count == 1 else _Groups(frame=Dataset(), shared=Dataset()), number)
        for number in ([None] if count == 1 else range(1, count + 1))
    )


def text_of(dataset: Dataset, keyword: str) -> str:
    """Return an attribute as text, several values parted by backslashes; empty if it is absent or damaged."""
    value = _value_of(dataset, keyword)
    if value is None:
        return ""
    return str(value) if isinstance(value, str) or not isinstance(value, Sequence) else "\\".join(map(str, value))


def _value_of(dataset: Dataset, keyword: str) -> Any:
    """Return the value of an attribute; None if it is absent or damaged."""
    tag = _tag_of(keyword)
    if tag not in dataset:
        return None
    try:
        return dataset[tag].value
    except Exception:  # noqa: BLE001  # a damaged value is as good as none, whatever its parser raises
        return None


@cache
def _tag_of(keyword: str) -> BaseTag:
    return Tag(keyword)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Groups:
    """Functional groups of one frame: its own, else those of all frames."""

    frame: Dataset
    shared: Dataset

    def of(self, keyword: str) -> Dataset:
        found = self.frame.get(keyword) or self.shared.get(keyword) or [Dataset()]
        group: Dataset = found[0]
        return group


def _plane(file: str, dataset: Dataset, groups: _Groups | None, frame: int | None) -> Plane:
    def at(group: str) -> Dataset:
        return dataset if groups is None else groups.of(group)

    rescale = at("PixelValueTransformationSequence")
    thickness = _numbers(at("PixelMeasuresSequence"), "SliceThickness", 1)
    return Plane(
        file=file,
        dataset=dataset,
        frame=frame,
        rows=int(text_of(dataset, "Rows") or 0),
        columns=int(text_of(dataset, "Columns") or 0),
        stated=_placement(
            _numbers(at("PlanePositionSequence"), "ImagePositionPatient", 3),
            _numbers(at("PlaneOrientationSequence"), "ImageOrientationPatient", 6),
            _numbers(at("PixelMeasuresSequence"), "PixelSpacing", 2),
        ),
        thickness_mm=thickness[0] if thickness and thickness[0] > 0 else None,
        slope=_rescale(rescale, "RescaleSlope", 1.0),
        intercept=_rescale(rescale, "RescaleIntercept", 0.0),
        stack="" if groups is None else text_of(groups.of("FrameContentSequence"), "StackID"),
        parts=_instance_parts(dataset) if groups is None else _frame_parts(dataset, groups),
    )


def _placement(
    position: tuple[float, ...] | None, axes: tuple[float, ...] | None, spacing: tuple[float, ...] | None
) -> Placement | None:
    if position is None or axes is None or spacing is None or min(spacing) <= 0:
        return None
    return Placement(
        position_mm=(position[0], position[1], position[2]),
        row_axis=(axes[0], axes[1], axes[2]),
        column_axis=(axes[3], axes[4], axes[5]),
        spacing_mm=(spacing[0], spacing[1]),
    )


def _instance_parts(dataset: Dataset) -> dict[str, str]:
    parts: dict[str, str] = {}
    for name, keyword in _PARTS:
        value = text_of(dataset, keyword)
        if value:
            parts.setdefault(name, value)
    return parts


def _frame_parts(dataset: Dataset, groups: _Groups) -> dict[str, str]:
    content, diffusion = groups.of("FrameContentSequence"), groups.of("MRDiffusionSequence")
    gradient = (diffusion.get("DiffusionGradientDirectionSequence") or [Dataset()])[0]
    types = (
        text_of(groups.of("MRImageFrameTypeSequence"), "FrameType"),
        text_of(groups.of("CTImageFrameTypeSequence"), "FrameType"),
        text_of(dataset, "ImageType"),
    )
    told = {
        "temporal position": text_of(content, "TemporalPositionIndex"),
        "b-value": text_of(diffusion, "DiffusionBValue"),
        "gradient direction": text_of(gradient, "DiffusionGradientOrientation"),
        "echo": text_of(groups.of("MREchoSequence"), "EffectiveEchoTime"),
        "image type": next((type_ for type_ in types if type_), ""),
        "acquisition": text_of(content, "FrameAcquisitionNumber"),
        "content time": text_of(content, "FrameAcquisitionDateTime"),
    }
    return {name: value for name, value in told.items() if value}


def _rescale(dataset: Dataset, keyword: str, absent: float) -> float:
    """Return slope or intercept; NaN if it is there and no number."""
    tag = _tag_of(keyword)
    if tag not in dataset or dataset.get_item(tag).value in (None, "", b""):
        return absent
    found = _numbers(dataset, keyword, 1)
    return math.nan if found is None else found[0]


def _numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return the numbers of an attribute; None if it is absent, empty, of another length, or no number."""
    value = _value_of(dataset, keyword)
    if value is None or value == "":
        return None
    try:
        numbers = tuple(float(v) for v in (value if count > 1 else [value]))
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None
