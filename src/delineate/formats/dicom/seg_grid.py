"""The grid of a segmentation's own frames, for files whose images are not at hand.

Frames must be parallel, of one size and spacing, one behind the other; planes between them that have no frame are part
of the grid, because most writers leave empty frames out. Nothing is guessed: frames that make no regular grid are
refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from delineate.errors import GeometryError
from delineate.formats.dicom.parts import SAME_DIRECTION, SAME_PLACE_MM, SAME_SPACING, heights_of
from delineate.formats.dicom.planes import Plane, text_of
from delineate.formats.dicom.seg_reader import placed_frames
from delineate.formats.dicom.source_series import SourceSeries, SourceSlice
from delineate.geometry.grid import Grid

REGULAR = 0.01
"""Largest distance of a frame from the regular grid, as a share of the distance of planes."""


def own_source(path: Path) -> SourceSeries:
    """Return a segmentation's own frames as what it can be read on: a grid without images.

    Parameters
    ----------
    path
        The segmentation.

    Returns
    -------
    SourceSeries
        From the first plane with a frame to the last; its slices name no images.

    Raises
    ------
    ImageReadError
        If the file is no segmentation, damaged, or its frames do not say where they lie.
    GeometryError
        If the frames make no regular grid.
    """
    dataset, planes = placed_frames(path)
    first = planes[0]
    _require_parallel(path, planes)
    heights = heights_of(planes)
    step = _step(path, dataset, heights)
    count = round(float(heights.max() - heights.min()) / step) + 1
    lowest = planes[int(heights.argmin())].placement
    x, y, z = (float(value) for value in lowest.normal)
    grid = Grid(
        shape=(count, first.rows, first.columns),
        spacing_mm=(step, *lowest.spacing_mm),
        origin_mm=lowest.position_mm,
        direction=((x, y, z), lowest.column_axis, lowest.row_axis),
    )
    header = Dataset()
    header.PatientID = text_of(dataset, "PatientID")
    return SourceSeries(
        grid=grid,
        slices=tuple(_slice(grid, number) for number in range(count)),
        modality="SEG",
        study_uid=text_of(dataset, "StudyInstanceUID"),
        series_uid=text_of(dataset, "SeriesInstanceUID"),
        frame_of_reference_uid=text_of(dataset, "FrameOfReferenceUID"),
        header=header,
    )


def _slice(grid: Grid, number: int) -> SourceSlice:
    x, y, z = (float(value) for value in (grid.affine @ [number, 0, 0, 1])[:3])
    return SourceSlice(sop_class_uid="", sop_instance_uid="", frame=None, position_mm=(x, y, z))


def _require_parallel(path: Path, planes: Sequence[Plane]) -> None:
    """Check that frames have one size, spacing and direction, and lie straight behind each other."""
    first, place = planes[0], planes[0].placement
    axes = np.array([[*p.placement.row_axis, *p.placement.column_axis] for p in planes])
    spacing = np.array([p.placement.spacing_mm for p in planes])
    sizes = {(p.rows, p.columns) for p in planes}
    offsets = np.array([p.placement.position_mm for p in planes]) - np.array(place.position_mm)
    aside = offsets - np.outer(offsets @ place.normal, place.normal)
    alike = (
        len(sizes) == 1
        and float(np.abs(axes - axes[0]).max()) <= SAME_DIRECTION
        and float(np.abs(spacing / spacing[0] - 1).max()) <= SAME_SPACING
        and float(np.linalg.norm(aside, axis=1).max()) <= REGULAR * min(first.placement.spacing_mm)
    )
    if not alike:
        raise GeometryError(
            f"{path}: its frames differ in size, spacing or direction, or are shifted sideways; they make no grid of "
            "their own. Give the images that it was made of."
        )


def _step(path: Path, dataset: Dataset, heights: NDArray[np.float64]) -> float:
    """Return the distance of planes: what the file states if the frames fit to it, else their smallest distance."""
    ordered = np.unique(heights)
    steps = np.diff(ordered)
    steps = steps[steps > SAME_PLACE_MM]
    candidates = [stated for stated in (_stated(dataset),) if stated]
    candidates += [float(steps.min())] if steps.size else []
    for step in candidates:
        places = (ordered - ordered[0]) / step
        if float(np.abs(places - np.round(places)).max()) <= REGULAR:
            return step
    raise GeometryError(
        f"{path}: its frames lie at no regular distance, or the only one does not say how thick it is; they make no "
        "grid of their own. Give the images that it was made of."
    )


def _stated(dataset: Dataset) -> float | None:
    """Return the distance of planes that the file states, else the thickness of a slice."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    first = dataset.PerFrameFunctionalGroupsSequence[0]
    for group in (shared, first):
        measures = (group.get("PixelMeasuresSequence") or [Dataset()])[0]
        for keyword in ("SpacingBetweenSlices", "SliceThickness"):
            text = text_of(measures, keyword)
            if text and float(text) > 0 and np.isfinite(float(text)):
                return float(text)
    return None
