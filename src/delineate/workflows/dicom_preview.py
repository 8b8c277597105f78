"""A picture of what a structure set or a segmentation marks, read back from its file, on the images that it names."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from delineate.errors import ImageReadError, UsageError
from delineate.execution.atomic import write_bytes
from delineate.formats.dicom.files import modality_of
from delineate.formats.dicom.reading import DicomVolume
from delineate.formats.dicom.rtstruct_reader import read_rtstruct
from delineate.formats.dicom.seg_reader import read_seg
from delineate.geometry.grid import Grid
from delineate.masks.contours import trace_regions
from delineate.reports import SOFT_TISSUE_WINDOW
from delineate.reports.contour_sheet import SheetPlane, contour_sheet
from delineate.reports.pixels import window_of
from delineate.workflows.dicom_masks import GREY, segmentation_images, structure_set_images

PLANES = 6
MOST_PLANES = 30
MARGIN_MM = 25.0
"""Around what is marked."""
LETTERS = (("R", "L"), ("A", "P"), ("I", "S"))
"""Of the negative and the positive end of LPS x, y, z."""

Polygon = NDArray[np.float64]
Colour = tuple[int, int, int]
BRIGHT: tuple[Colour, ...] = tuple(
    (round(255 * red), round(255 * green), round(255 * blue))
    for strength in (0.9, 0.5)
    for red, green, blue in (colorsys.hsv_to_rgb(turn / 24, strength, 1.0) for turn in range(24))
)
"""Colours for structures that share theirs with another."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Drawn:
    """One structure as contours."""

    name: str
    colour: Colour
    contours: Mapping[int, Sequence[Polygon]]
    """Plane -> closed lines (n, 2) of (row, column) indices."""


def preview_object(
    path: Path,
    images: Path,
    out: Path,
    *,
    series_uid: str | None = None,
    part: str | None = None,
    planes: int = PLANES,
) -> str:
    """Draw what an object marks and return what was drawn, in words.

    Parameters
    ----------
    path
        An RT Structure Set or a DICOM Segmentation.
    images
        Folder, zip or file with its images, among others if need be.
    out
        A PNG.
    series_uid, part
        Which images; None: those that the object names.
    planes
        How many planes to show.

    Raises
    ------
    ImageReadError
        If the object or the images cannot be read, or it is not clear which images are meant.
    GeometryError
        If the object belongs to other images.
    UsageError
        If the picture has another ending, or there is no such number of planes.
    ResourceError
        If the picture cannot be written.
    """
    require_picture(out, planes)
    find = structure_set_images if modality_of(path) == "RTSTRUCT" else segmentation_images
    return preview_on(path, find(path, images, series_uid, part), out, planes=planes)


def preview_on(path: Path, volume: DicomVolume, out: Path, *, planes: int = PLANES) -> str:
    """Draw what an object marks on images that were read; see :func:`preview_object`."""
    require_picture(out, planes)
    drawn, note = _structure_set(path, volume) if modality_of(path) == "RTSTRUCT" else _segmentation(path, volume)
    drawn, changed = _told_apart(drawn)
    note += f"; {changed} in other colours than the file's, which are equal" if changed else ""
    grid = volume.image.grid
    held = sorted({plane for one in drawn for plane in one.contours})
    chosen = _spread(held, planes) if held else [grid.shape[0] // 2]
    box = _box_around([line for one in drawn for lines in one.contours.values() for line in lines], grid)
    array = volume.image.array[0]
    window = SOFT_TISSUE_WINDOW if volume.source.modality == "CT" else window_of(array)
    sheets = [
        SheetPlane(
            intensities=array[plane, box[0], box[1]],
            spacing_mm=(grid.spacing_mm[1], grid.spacing_mm[2]),
            corner=(box[0].start, box[1].start),
            contours=[(one.colour, line) for one in drawn for line in one.contours.get(plane, ())],
            caption=f"{plane + 1}/{grid.shape[0]}",
            letters=_letters(grid),
        )
        for plane in chosen
    ]
    write_bytes(out, contour_sheet(sheets, [(one.name, one.colour) for one in drawn if one.contours], window, note))
    return f"{len(drawn)} structures on {len(held)} planes, {len(chosen)} of them shown"


def require_picture(out: Path, planes: int = PLANES) -> None:
    """Check that a picture can be written under a name.

    Raises
    ------
    UsageError
        If it has another ending, or there is no such number of planes.
    """
    if out.suffix.lower() != ".png":
        raise UsageError(f"{out}: the picture is a PNG; choose a name that ends in .png.")
    if not 1 <= planes <= MOST_PLANES:
        raise UsageError(f"A picture shows 1 to {MOST_PLANES} planes; got {planes}.")


def _structure_set(path: Path, volume: DicomVolume) -> tuple[list[_Drawn], str]:
    read = read_rtstruct(path, volume.source)
    if not read.structures:
        raise ImageReadError(f"{path}: the structure set holds no structures.")
    drawn = [_Drawn(name=one.name, colour=one.colour or GREY, contours=one.polygons) for one in read.structures]
    return drawn, f"RT Structure Set, approval: {read.approval or 'not stated'}"


def _segmentation(path: Path, volume: DicomVolume) -> tuple[list[_Drawn], str]:
    read = read_seg(path, volume.source)
    if not read.segments:
        raise ImageReadError(f"{path}: the segmentation describes no segments.")
    drawn = []
    for one in read.segments:
        contours: dict[int, list[Polygon]] = {}
        for region in trace_regions(read.mask(one.number)):
            contours.setdefault(region.plane, []).extend((region.outer, *region.holes))
        drawn.append(_Drawn(name=one.label or f"segment {one.number}", colour=one.colour or GREY, contours=contours))
    state = ", not reviewed" if "not reviewed" in read.content_description else ""
    return drawn, f"DICOM Segmentation ({read.kind}){state}"


def _told_apart(drawn: Sequence[_Drawn]) -> tuple[list[_Drawn], int]:
    """Give structures whose colour an earlier one has another; return them all, and how many were changed."""
    shown, told, changed = {one.colour for one in drawn}, list[_Drawn](), 0
    seen = set[Colour]()
    for one in drawn:
        colour = one.colour
        if colour in seen:
            colour = max(BRIGHT, key=lambda other: min(math.dist(other, near) for near in shown))
            changed += 1
        seen.add(colour)
        shown.add(colour)
        told.append(replace(one, colour=colour))
    return told, changed


def _spread(held: Sequence[int], count: int) -> list[int]:
    """Return so many of the marked planes, evenly from the first to the last; all if there are fewer."""
    if len(held) <= count:
        return list(held)
    if count == 1:
        return [held[len(held) // 2]]
    return [held[round(float(place))] for place in np.linspace(0, len(held) - 1, count)]


def _box_around(lines: Sequence[Polygon], grid: Grid) -> tuple[slice, slice]:
    """Return rows and columns around what is marked; the whole plane if nothing is."""
    parts = []
    for axis, (size, spacing) in enumerate(zip(grid.shape[1:], grid.spacing_mm[1:], strict=True)):
        ends = [(float(line[:, axis].min()), float(line[:, axis].max())) for line in lines]
        low = min((end[0] for end in ends), default=0.0) - MARGIN_MM / spacing
        high = max((end[1] for end in ends), default=float(size)) + MARGIN_MM / spacing
        begin = int(np.clip(np.floor(low), 0, size - 1))
        parts.append(slice(begin, int(np.clip(np.ceil(high) + 1, begin + 1, size))))
    return parts[0], parts[1]


def _letters(grid: Grid) -> tuple[str, str, str, str]:
    """Return the patient's directions at the top, bottom, left and right border of a plane."""
    return (*_ends(grid.direction[1]), *_ends(grid.direction[2]))


def _ends(axis: Sequence[float]) -> tuple[str, str]:
    world = int(np.abs(axis).argmax())
    first, last = LETTERS[world]
    return (first, last) if axis[world] > 0 else (last, first)
