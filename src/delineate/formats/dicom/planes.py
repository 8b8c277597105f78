"""One plane of a DICOM image: where it lies, how its numbers become intensities, and what sets it apart from others.

A single-frame instance is one plane, a multi-frame instance as many as it has frames. Everything here is read from the
header; no pixel is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydicom import Dataset

Vector = tuple[float, float, float]

_PARTS = (
    ("temporal position", "TemporalPositionIdentifier"),
    ("temporal position", "TemporalPositionIndex"),
    ("b-value", "DiffusionBValue"),
    ("echo", "EchoTime"),
    ("trigger time", "TriggerTime"),
    ("acquisition", "AcquisitionNumber"),
    ("content time", "ContentTime"),
)
"""What tells the volumes of a 4-D series apart, the first that differs: name for the reader, and keyword."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Plane:
    """One plane."""

    file: str
    """Name of the file, for messages and for reading it."""
    dataset: Dataset
    """Its header; planes of one multi-frame file share it."""
    frame: int | None
    """From 1; None for an instance of a single frame."""
    position_mm: Vector | None
    """Of the centre of the first voxel (Image Position Patient), LPS."""
    row_axis: Vector | None
    """Unit vector along which the column index grows (the first three of Image Orientation Patient)."""
    column_axis: Vector | None
    """Unit vector along which the row index grows."""
    spacing_mm: tuple[float, float] | None
    """Distance of rows, distance of columns (Pixel Spacing)."""
    slope: float
    intercept: float
    parts: dict[str, str] = field(default_factory=dict)
    """What may tell volumes of a series apart: name -> value."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.dataset.get("Rows", 0))

    @property
    def columns(self) -> int:
        """Number of columns."""
        return int(self.dataset.get("Columns", 0))

    @property
    def normal(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Unit vector across the plane: row axis times column axis."""
        return np.cross(np.array(self.row_axis), np.array(self.column_axis))

    @property
    def series_uid(self) -> str:
        """Series Instance UID."""
        return str(self.dataset.get("SeriesInstanceUID", ""))

    @property
    def is_localizer(self) -> bool:
        """Whether the image type says that this is a scout view."""
        return "LOCALIZER" in [str(value) for value in self.dataset.get("ImageType", [])]

    @property
    def complete(self) -> bool:
        """Whether the header says where the plane lies."""
        return None not in (self.position_mm, self.row_axis, self.column_axis, self.spacing_mm)


def planes_of(file: str, dataset: Dataset) -> tuple[Plane, ...]:
    """Return the planes of an instance, in the order of its frames."""
    if "PerFrameFunctionalGroupsSequence" in dataset:
        shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
        frames = dataset.PerFrameFunctionalGroupsSequence
        return tuple(_frame_plane(file, dataset, shared, frame, i) for i, frame in enumerate(frames, start=1))
    orientation, spacing = _numbers(dataset, "ImageOrientationPatient", 6), _numbers(dataset, "PixelSpacing", 2)
    return (_plane(file, dataset, dataset, _numbers(dataset, "ImagePositionPatient", 3), orientation, spacing, None),)


def _frame_plane(file: str, dataset: Dataset, shared: Dataset, frame: Dataset, number: int) -> Plane:
    def group(keyword: str) -> Dataset:
        found = frame.get(keyword) or shared.get(keyword) or [Dataset()]
        return found[0]

    plane = _plane(
        file,
        dataset,
        group("PixelValueTransformationSequence"),
        _numbers(group("PlanePositionSequence"), "ImagePositionPatient", 3),
        _numbers(group("PlaneOrientationSequence"), "ImageOrientationPatient", 6),
        _numbers(group("PixelMeasuresSequence"), "PixelSpacing", 2),
        number,
    )
    content, diffusion, echo = group("FrameContentSequence"), group("MRDiffusionSequence"), group("MREchoSequence")
    told = {
        "temporal position": content.get("TemporalPositionIndex"),
        "b-value": diffusion.get("DiffusionBValue"),
        "echo": echo.get("EffectiveEchoTime"),
        "stack": content.get("StackID"),
    }
    plane.parts.update({name: str(value) for name, value in told.items() if value is not None})
    return plane


def _plane(
    file: str,
    dataset: Dataset,
    rescale: Dataset,
    position: tuple[float, ...] | None,
    orientation: tuple[float, ...] | None,
    spacing: tuple[float, ...] | None,
    frame: int | None,
) -> Plane:
    slope, intercept = _numbers(rescale, "RescaleSlope", 1), _numbers(rescale, "RescaleIntercept", 1)
    parts: dict[str, str] = {}
    for name, keyword in _PARTS:
        if keyword in dataset and dataset[keyword].value is not None:
            parts.setdefault(name, str(dataset[keyword].value))
    return Plane(
        file=file,
        dataset=dataset,
        frame=frame,
        position_mm=None if position is None else (position[0], position[1], position[2]),
        row_axis=None if orientation is None else (orientation[0], orientation[1], orientation[2]),
        column_axis=None if orientation is None else (orientation[3], orientation[4], orientation[5]),
        spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
        slope=slope[0] if slope else 1.0,
        intercept=intercept[0] if intercept else 0.0,
        parts=parts,
    )


def _numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return the numbers of an attribute; None if it is absent, empty, of another length, or no number."""
    value = dataset.get(keyword)
    if value is None or value == "":
        return None
    try:
        numbers = tuple(float(v) for v in (value if count > 1 else [value]))
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and bool(np.isfinite(numbers).all()) else None
