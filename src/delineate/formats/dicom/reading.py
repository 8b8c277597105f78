"""A pile of DICOM files, a folder or a zip, as volumes; with a report of every trouble that was found."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset

from delineate.case import Image
from delineate.errors import ImageReadError
from delineate.formats.dicom.files import Pile, open_pile
from delineate.formats.dicom.pixels import QUANTITATIVE, decode_planes
from delineate.formats.dicom.planes import Plane, planes_of
from delineate.formats.dicom.series_report import Finding, SeriesReport, finding
from delineate.formats.dicom.source_series import SourceSeries, SourceSlice
from delineate.formats.dicom.stacking import Stack, stacks_of
from delineate.geometry.grid import Grid

NO_VOLUMES = ("NO_GEOMETRY", "LOCALIZER", "COLOUR")
"""A series that is refused for these is a scout or a picture of the screen; it competes with no volume."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DicomVolume:
    """A volume with what it was made of."""

    image: Image
    """(1, z, y, x): intensities, rescaled, on its grid in LPS mm."""
    source: SourceSeries
    report: SeriesReport


def inspect_dicom(path: Path) -> tuple[SeriesReport, ...]:
    """Report on every series of a folder, a zip, a DICOMDIR or a file; pixels are not decoded.

    Raises
    ------
    ImageReadError
        If there is no DICOM image at all.
    """
    return tuple(_report(stack) for stack in _stacks(open_pile(path)))


def read_dicom(
    path: Path, *, series_uid: str | None = None, part: str | None = None, holding: Collection[str] = ()
) -> DicomVolume:
    """Read one volume.

    A series of several parts is never read without naming the part, or images of it, even if only one of them is
    usable.

    Parameters
    ----------
    path
        A folder (with sub-folders), a zip, a DICOMDIR, or a single file.
    series_uid
        Which series; None: the only one there is, scouts and pictures of the screen aside.
    part
        Which part of the series, as its report names it: ``temporal position 2``.
    holding
        SOP Instance UIDs, such as an object names that was drawn on the images: only volumes with one of them count,
        if there is one. Not heeded where a series is named.

    Raises
    ------
    ImageReadError
        If no series, or several, fit; or the one that fits is refused. The message lists what was found.
    """
    there = _stacks(open_pile(path))
    stacks = [s for s in there if series_uid in (None, s.planes[0].series_uid)]
    stacks = [stack for stack in stacks if part in (None, stack.part)]
    if holding and series_uid is None:
        stacks = [s for s in stacks if any(p.text("SOPInstanceUID") in holding for p in s.planes)] or stacks
    rivals = [stack for stack in stacks if series_uid is not None or not _is_no_volume(stack)]
    if len(rivals) != 1 or rivals[0].grid is None:
        listed = (f"  - {_line(stack)}" for stack in stacks or there)
        raise ImageReadError("\n".join([_choice(path, rivals or stacks), *listed]))
    return _volume(rivals[0], rivals[0].grid)


def _stacks(pile: Pile) -> list[Stack]:
    return [
        stack
        for series, instances in pile.series.items()
        for stack in stacks_of(
            [plane for one in instances for plane in planes_of(one.file, one.dataset)], pile.findings_of(series)
        )
    ]


def _volume(stack: Stack, grid: Grid) -> DicomVolume:
    array = decode_planes(stack.planes)
    first = stack.planes[0]
    with ThreadPoolExecutor(1) as beside:  # hashing needs no interpreter
        digest = beside.submit(hashlib.sha256, array.data)
        source = SourceSeries(
            grid=grid,
            slices=tuple(_slice(plane) for plane in stack.planes),
            modality=first.text("Modality"),
            study_uid=first.text("StudyInstanceUID"),
            series_uid=first.series_uid,
            frame_of_reference_uid=first.text("FrameOfReferenceUID"),
            header=_without_pixels(first.dataset),
        )
        report = _report(stack, digest.result().hexdigest())
    return DicomVolume(image=Image(array=array[np.newaxis], grid=grid), source=source, report=report)


def _values_findings(stack: Stack) -> Iterator[Finding]:
    """Tell what is done to the numbers."""
    planes = stack.planes
    if any(plane.text("PhotometricInterpretation") == "MONOCHROME1" for plane in planes):
        if planes[0].text("Modality") in QUANTITATIVE:
            yield finding("MONOCHROME1", "note", "the images are to be shown inverted (MONOCHROME1); numbers were kept")
        else:
            yield finding("MONOCHROME1", "repaired", "dark and bright were exchanged (MONOCHROME1)")
    if any("PixelPaddingValue" in plane.dataset for plane in planes):
        words = "padding around the image, where there is any, became the smallest intensity of its plane"
        yield finding("PIXEL_PADDING", "repaired", words)
    rescaling = {(plane.slope, plane.intercept) for plane in planes if math.isfinite(plane.slope * plane.intercept)}
    if len(rescaling) > 1:
        words = "slope and intercept differ from plane to plane; each plane was rescaled by its own"
        yield finding("RESCALE_PER_SLICE", "note", words)
    if any(plane.text("LossyImageCompression") == "01" for plane in planes):
        yield finding("LOSSY_COMPRESSION", "note", "the images were compressed with loss before they came here")
    if len({plane.parts.get("image type", "") for plane in planes}) > 1:
        yield finding("MIXED_IMAGE_TYPE", "note", "the planes of the volume differ in their image type")


def _slice(plane: Plane) -> SourceSlice:
    return SourceSlice(
        sop_class_uid=plane.text("SOPClassUID"),
        sop_instance_uid=plane.text("SOPInstanceUID"),
        frame=plane.frame,
        position_mm=plane.placement.position_mm,
    )


def _without_pixels(dataset: Dataset) -> Dataset:
    """Return a header without pixels, frames and other long values; its texts keep their character set."""
    header = Dataset()
    for tag in dataset.keys():  # iterating a dataset itself parses every value
        element: Any = dataset.get_item(tag, keep_deferred=True)
        if tag.group not in (0x7FE0, 0x5200) and element.value is not None:
            header[tag] = element  # as it was stored: a damaged value that nobody asks for does no harm
    implicit, little = dataset.original_encoding
    header.set_original_encoding(implicit, little, dataset.original_character_set)
    return header


def _report(stack: Stack, pixel_sha256: str = "") -> SeriesReport:
    first = stack.planes[0]
    spacing = stack.grid.spacing_mm if stack.grid is not None else None
    return SeriesReport(
        series_uid=first.series_uid,
        description=first.text("SeriesDescription"),
        modality=first.text("Modality"),
        part=stack.part,
        n_files=len({plane.file for plane in stack.planes}),
        n_planes=len(stack.planes),
        accepted=stack.grid is not None,
        findings=(*stack.findings, *_values_findings(stack)),
        pixel_sha256=pixel_sha256,
        plane_shape=(first.rows, first.columns),
        spacing_mm=None if spacing is None else (spacing[0], spacing[1], spacing[2]),
    )


def _is_no_volume(stack: Stack) -> bool:
    refused = [one.code for one in stack.findings if one.severity == "refused"]
    return any(code in NO_VOLUMES for code in refused) and "DAMAGED_FILE" not in refused


def _choice(path: Path, stacks: Sequence[Stack]) -> str:
    if not stacks:
        return f"{path}: no series of that identifier or part is there. There are:"
    if len(stacks) == 1:
        return f"{path}: the series makes no volume:"
    if not any(stack.grid is not None for stack in stacks):
        return f"{path}: none of these {len(stacks)} series or parts makes a volume:"
    return f"{path}: expected one volume; found {len(stacks)}. Name the series by its UID (and the part by its name):"


def _line(stack: Stack) -> str:
    first = stack.planes[0]
    refused = [one for one in stack.findings if one.severity == "refused"]
    why = "; ".join(f"{one.code}: {one.words}" for one in refused) or "usable"
    part = f", part '{stack.part}'" if stack.part else ""
    return f"{first.series_uid} ({first.text('Modality')}{part}, {len(stack.planes)} planes): {why}"
