"""Where a volume is from: the series, its slices and the attributes that objects made from it must repeat."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom import Dataset

from delineate.geometry.grid import Grid


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceSlice:
    """One plane of the volume: an instance, or one frame of a multi-frame instance."""

    sop_class_uid: str
    sop_instance_uid: str
    frame: int | None
    """Frame number from 1; None for instances of a single frame."""
    position_mm: tuple[float, float, float]
    """LPS mm of the centre of the plane's first voxel (Image Position Patient)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SourceSeries:
    """The series behind a volume, in the order of the volume's planes; the one geometry object of every export."""

    grid: Grid
    """Of the volume, (z, y, x); plane z is ``slices[z]``."""
    slices: tuple[SourceSlice, ...]
    modality: str
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    header: Dataset
    """Attributes of the first instance without pixels: what patient and study modules of new objects copy. Never
    logged, never in an error."""
