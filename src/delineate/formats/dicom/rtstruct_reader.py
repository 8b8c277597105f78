"""RT Structure Sets of any writer as masks on the grid of their images.

Contours are brought into index coordinates by the grid's own geometry, filled by voxel centres and combined as their
type says: exclusive or for ``CLOSEDPLANAR_XOR``; for plain closed contours on one plane even-odd (what planning systems
do with nested contours) or union, with a notice where the two differ. Whatever is left out or moved is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from delineate.errors import GeometryError, ImageReadError
from delineate.formats.dicom.source_series import SourceSeries
from delineate.masks.polygons import fill_even_odd, fill_union

XOR_TYPES = ("CLOSEDPLANAR_XOR", "CLOSED_PLANAR_XOR")
"""The standard's name, and a common misspelling of 17 characters."""
CLOSED_TYPES = ("CLOSED_PLANAR", *XOR_TYPES)
PLANE_TOLERANCE = 0.5
"""Planes; a contour farther from every plane is left out."""
MOVED = 0.01
"""Planes; a contour farther than this from its plane is told to have been moved."""

Nesting = Literal["even_odd", "union"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReadStructure:
    """One ROI of a structure set."""

    name: str
    number: int
    mask: NDArray[np.bool_]
    """(z, y, x) on the grid of the images; empty for a ROI without contours."""
    interpreted_type: str
    colour: tuple[int, int, int] | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReadStructureSet:
    """A structure set on the grid of its images."""

    label: str
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
    _require_source(path, dataset, source)
    names = {int(roi.ROINumber): str(roi.get("ROIName", "")) for roi in dataset.get("StructureSetROISequence", [])}
    kinds = {
        int(item.ReferencedROINumber): str(item.get("RTROIInterpretedType", "") or "")
        for item in dataset.get("RTROIObservationsSequence", [])
    }
    drawn = {int(item.ReferencedROINumber): item for item in dataset.get("ROIContourSequence", [])}
    notices: list[str] = []
    structures = []
    for number, name in names.items():
        item = drawn.get(number, Dataset())
        mask = _Filling(source=source, nesting=nesting, name=name, notices=notices).of(item.get("ContourSequence", []))
        colour = item.get("ROIDisplayColor")
        structures.append(
            ReadStructure(
                name=name,
                number=number,
                mask=mask,
                interpreted_type=kinds.get(number, ""),
                colour=None if not colour else (int(colour[0]), int(colour[1]), int(colour[2])),
            )
        )
    label = str(dataset.get("StructureSetLabel", ""))
    return ReadStructureSet(label=label, structures=tuple(structures), notices=tuple(notices))


def _opened(path: Path) -> Dataset:
    try:
        dataset = pydicom.dcmread(path)
    except (InvalidDicomError, OSError, EOFError, ValueError) as error:
        raise ImageReadError(f"{path}: expected an RT Structure Set; the file cannot be read ({error}).") from error
    if str(dataset.get("Modality", "")) != "RTSTRUCT":
        raise ImageReadError(
            f"{path}: expected an RT Structure Set; found modality {dataset.get('Modality', 'none')}. Choose its file."
        )
    return dataset


def _require_source(path: Path, dataset: Dataset, source: SourceSeries) -> None:
    frames = {
        str(item.get("FrameOfReferenceUID", "")) for item in dataset.get("ReferencedFrameOfReferenceSequence", [])
    }
    frames |= {str(roi.get("ReferencedFrameOfReferenceUID", "")) for roi in dataset.get("StructureSetROISequence", [])}
    frames.discard("")
    if frames and source.frame_of_reference_uid not in frames:
        raise GeometryError(
            f"{path}: the structures lie in another frame of reference than the images; choose the series that they "
            "were drawn on."
        )
    known = {one.sop_instance_uid for one in source.slices}
    named = {
        str(image.ReferencedSOPInstanceUID)
        for item in dataset.get("ROIContourSequence", [])
        for contour in item.get("ContourSequence", [])
        for image in contour.get("ContourImageSequence", [])
    }
    strange = named - known
    if strange:
        raise GeometryError(
            f"{path}: {len(strange)} of {len(named)} images that the contours name are not in the series. Copy the "
            "whole series, or choose the one that the structures were drawn on."
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Filling:
    """Fills the contours of one ROI."""

    source: SourceSeries
    nesting: Nesting
    name: str
    notices: list[str]

    def of(self, contours: Sequence[Dataset]) -> NDArray[np.bool_]:
        shape = self.source.grid.shape
        mask = np.zeros(shape, dtype=bool)
        plain, exclusive = self._by_plane(contours)
        differ = 0
        for plane, polygons in plain.items():
            even_odd = fill_even_odd(polygons, (shape[1], shape[2]))
            union = fill_union(polygons, (shape[1], shape[2])) if len(polygons) > 1 else even_odd
            differ += not np.array_equal(even_odd, union)
            mask[plane] |= even_odd if self.nesting == "even_odd" else union
        for plane, polygons in exclusive.items():
            mask[plane] ^= fill_even_odd(polygons, (shape[1], shape[2]))
        if differ:
            self._tell(f"on {differ} planes plain contours lie inside each other; they were read as {self.nesting}")
        return mask

    def _by_plane(
        self, contours: Sequence[Dataset]
    ) -> tuple[dict[int, list[NDArray[np.float64]]], dict[int, list[NDArray[np.float64]]]]:
        inverse = np.linalg.inv(self.source.grid.affine)
        plain: dict[int, list[NDArray[np.float64]]] = {}
        exclusive: dict[int, list[NDArray[np.float64]]] = {}
        skipped: dict[str, int] = {}
        moved = outside = tilted = 0
        for contour in contours:
            kind = str(contour.get("ContourGeometricType", ""))
            points = np.asarray(contour.get("ContourData", []), dtype=np.float64).reshape(-1, 3)
            if kind not in CLOSED_TYPES or len(points) < 3:
                skipped[kind or "of no type"] = skipped.get(kind or "of no type", 0) + 1
                continue
            index = points @ inverse[:3, :3].T + inverse[:3, 3]
            height = float(index[:, 0].mean())
            plane = round(height)
            if float(np.abs(index[:, 0] - height).max()) > PLANE_TOLERANCE:
                tilted += 1
            elif not 0 <= plane < self.source.grid.shape[0] or abs(height - plane) > PLANE_TOLERANCE:
                outside += 1
            else:
                moved += abs(height - plane) > MOVED
                place = exclusive if kind in XOR_TYPES else plain
                place.setdefault(plane, []).append(index[:, 1:])
        for kind, count in skipped.items():
            self._tell(f"{count} contours of type {kind} were left out")
        for count, what in ((tilted, "are not parallel to the images"), (outside, "lie beyond the images")):
            if count:
                self._tell(f"{count} contours {what} and were left out")
        if moved:
            self._tell(f"{moved} contours lie between two planes and were moved to the nearer one")
        return plain, exclusive

    def _tell(self, words: str) -> None:
        self.notices.append(f"{self.name}: {words}.")
