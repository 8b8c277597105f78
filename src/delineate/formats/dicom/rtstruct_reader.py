"""RT Structure Sets of any writer as masks on the grid of their images.

Contours are brought into index coordinates by the grid's own geometry, filled by voxel centres and combined as their
type says: exclusive or for ``CLOSEDPLANAR_XOR``; for plain closed contours on one plane even-odd (what planning systems
do with nested contours) or union, with a notice where the two differ. Whatever is left out or moved is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from delineate.errors import GeometryError, ImageReadError
from delineate.formats.dicom.contour_filling import Nesting, Polygon, SourcePlanes, fill_contours
from delineate.formats.dicom.files import read_object
from delineate.formats.dicom.source_series import SourceSeries


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReadStructure:
    """One ROI of a structure set."""

    name: str
    number: int
    inside: NDArray[np.bool_]
    """(z, y, x) of the box that holds the structure: whole masks of a hundred structures would fill the memory."""
    box: tuple[slice, slice, slice]
    """Where the box lies on the grid of the images."""
    shape: tuple[int, ...]
    """Of the images, (z, y, x)."""
    polygons: Mapping[int, tuple[Polygon, ...]]
    """Plane -> contours (y, x) in voxel indices that were read on it."""
    interpreted_type: str
    colour: tuple[int, int, int] | None

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(z, y, x) on the grid of the images; empty for a ROI without contours."""
        mask = np.zeros(self.shape, dtype=bool)
        mask[self.box] = self.inside
        return mask


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReadStructureSet:
    """A structure set on the grid of its images."""

    label: str
    approval: str
    """``APPROVED``, ``UNAPPROVED``, ``REJECTED``; empty if it is not said."""
    structures: tuple[ReadStructure, ...]
    notices: tuple[str, ...]


def read_rtstruct(path: Path, source: SourceSeries, *, nesting: Nesting = "even_odd") -> ReadStructureSet:
    """Read a structure set drawn on a series.

    Parameters
    ----------
    path
        The structure set.
    source
        The images that it was drawn on.
    nesting
        How plain closed contours of one plane are combined.

    Raises
    ------
    ImageReadError
        If the file is no structure set, or damaged.
    GeometryError
        If it was drawn on other images: another frame of reference, or instances that the series does not have.
    """
    dataset = _opened(path)
    try:
        _require_source(path, dataset, source)
        return _read(dataset, source, nesting)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ImageReadError(
            f"{path}: the structure set is damaged ({type(error).__name__}). Export it again."
        ) from error


def _read(dataset: Dataset, source: SourceSeries, nesting: Nesting) -> ReadStructureSet:
    names = {int(roi.ROINumber): str(roi.get("ROIName", "")) for roi in dataset.get("StructureSetROISequence") or []}
    kinds = {
        int(item.ReferencedROINumber): str(item.get("RTROIInterpretedType", "") or "")
        for item in dataset.get("RTROIObservationsSequence") or []
    }
    drawn = {int(item.ReferencedROINumber): item for item in dataset.get("ROIContourSequence") or []}
    planes = SourcePlanes.of(source)
    notices = [f"Contours of the unknown structure {number} were left out." for number in drawn if number not in names]
    structures = []
    for number, name in names.items():
        item = drawn.get(number, Dataset())
        filled = fill_contours(item.get("ContourSequence") or [], planes, nesting)
        notices += [f"{name}: {words}." for words in filled.notices]
        box = _box_of(filled.mask)
        colour = item.get("ROIDisplayColor")
        structures.append(
            ReadStructure(
                name=name,
                number=number,
                inside=filled.mask[box].copy(),
                box=box,
                shape=filled.mask.shape,
                polygons=filled.polygons,
                interpreted_type=kinds.get(number, ""),
                colour=None if not colour else (int(colour[0]), int(colour[1]), int(colour[2])),
            )
        )
    label = str(dataset.get("StructureSetLabel", ""))
    approval = str(dataset.get("ApprovalStatus", "") or "")
    return ReadStructureSet(label=label, approval=approval, structures=tuple(structures), notices=tuple(notices))


def _box_of(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Return the box that holds a mask; an empty one if nothing is marked."""
    planes = np.flatnonzero(mask.any(axis=(1, 2)))
    if not planes.size:
        return (slice(0, 0), slice(0, 0), slice(0, 0))
    z = slice(int(planes[0]), int(planes[-1]) + 1)
    flat: NDArray[np.bool_] = np.logical_or.reduce(mask[z], axis=0)
    rows, columns = np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))
    return (z, slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))


def _opened(path: Path) -> Dataset:
    dataset = read_object(path, "RTSTRUCT", "an RT Structure Set")
    if "StructureSetROISequence" not in dataset or "ROIContourSequence" not in dataset:
        raise ImageReadError(f"{path}: the structure set holds no structures, or is truncated. Export it again.")
    return dataset


def _require_source(path: Path, dataset: Dataset, source: SourceSeries) -> None:
    """Refuse structures of other images."""
    frames, named = set(_frames_of_reference(dataset)) - {""}, set(_named_images(dataset)) - {""}
    if not frames and not named:
        raise GeometryError(
            f"{path}: the structure set names neither images nor a frame of reference, so it may belong to any scan. "
            "Export it again together with its images."
        )
    if frames and source.frame_of_reference_uid not in frames:
        raise GeometryError(
            f"{path}: the structures lie in another frame of reference than the images; choose the series that they "
            "were drawn on."
        )
    strange = named - {one.sop_instance_uid for one in source.slices}
    if strange:
        raise GeometryError(
            f"{path}: {len(strange)} of {len(named)} images that the contours name are not in the series. Copy the "
            "whole series, or choose the one that the structures were drawn on."
        )


def _frames_of_reference(dataset: Dataset) -> Iterator[str]:
    for item in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        yield str(item.get("FrameOfReferenceUID", ""))
    for roi in dataset.get("StructureSetROISequence") or []:
        yield str(roi.get("ReferencedFrameOfReferenceUID", ""))


def _named_images(dataset: Dataset) -> Iterator[str]:
    for item in dataset.get("ROIContourSequence") or []:
        for contour in item.get("ContourSequence") or []:
            for image in contour.get("ContourImageSequence") or []:
                yield str(image.get("ReferencedSOPInstanceUID", ""))


def named_images(path: Path) -> frozenset[str]:
    """Return the SOP Instance UIDs of the images that contours of a structure set name; empty if they name none.

    Raises
    ------
    ImageReadError
        If the file is no structure set, or damaged.
    """
    return frozenset(_named_images(_opened(path))) - {""}


def referenced_series(path: Path) -> frozenset[str]:
    """Return the Series Instance UIDs of the images that a structure set says it was drawn on.

    Raises
    ------
    ImageReadError
        If the file is no structure set, or damaged.
    """
    return frozenset(
        str(series.get("SeriesInstanceUID", ""))
        for frame in _opened(path).get("ReferencedFrameOfReferenceSequence") or []
        for study in frame.get("RTReferencedStudySequence") or []
        for series in study.get("RTReferencedSeriesSequence") or []
    )
