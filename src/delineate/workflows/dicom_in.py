"""DICOM in: what a folder holds, a series as NIfTI, and a structure set as masks on the grid of its images.

``OUT.nii.gz``, ``OUT.report.json``          a volume, and what was found in its series
``labels.nii.gz`` or ``masks/NAME.nii.gz``   structures: one label map, or one mask each where they overlap
``structures.csv``, ``report.json``          names, colours, volumes; what was found, left out or moved
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from delineate import __version__
from delineate.case import LabelMap
from delineate.errors import ImageReadError, UsageError
from delineate.execution import Watched
from delineate.execution.atomic import require_writable, write_text
from delineate.formats.dicom.contour_filling import Nesting
from delineate.formats.dicom.reading import DicomVolume, inspect_dicom, read_dicom
from delineate.formats.dicom.rtstruct_reader import ReadStructure, ReadStructureSet, read_rtstruct, referenced_series
from delineate.formats.dicom.series_report import SeriesReport
from delineate.formats.images import write_image, write_labels
from delineate.formats.label_table import write_labels_with_table
from delineate.formats.magic import image_ending, image_stem
from delineate.geometry.grid import Grid

LABELS, MASKS, TABLE, REPORT = "labels.nii.gz", "masks", "structures.csv", "report.json"
REPORT_ENDING = ".report.json"
GREY = (128, 128, 128)
"""Colour of a structure whose set names none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenVolume:
    """One series, or part of one, as a file."""

    path: Path
    report: SeriesReport


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenStructures:
    """What became of a structure set."""

    form: str
    """``one label map``, or ``one mask per structure``."""
    why: str
    files: tuple[Path, ...]
    names: tuple[str, ...]
    voxels: tuple[int, ...]
    notices: tuple[str, ...]
    report: SeriesReport


def inspect_series(path: Path) -> tuple[SeriesReport, ...]:
    """Report on every series of a folder, a zip, a DICOMDIR or a file; see :func:`inspect_dicom`.

    Raises
    ------
    ImageReadError
        If there is no DICOM image at all.
    """
    return inspect_dicom(path)


def convert_series(
    path: Path, out: Path, *, series_uid: str | None = None, part: str | None = None, **watched: Unpack[Watched]
) -> tuple[WrittenVolume, ...]:
    """Write series as image files, each with its report.

    Parameters
    ----------
    path
        A folder, a zip, a DICOMDIR or a file.
    out
        An image file for the one volume that fits; or a folder for all that make a volume.
    series_uid, part
        Which to take; None: all.
    watched
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    ImageReadError
        If nothing fits, or several for one file, or a series is refused that was asked for.
    ResourceError
        If the disk is full or the folder cannot be written.
    Interrupted
        If a stop was requested; files that were written stay.
    """
    if image_ending(out) is not None:
        return (_write_volume(read_dicom(path, series_uid=series_uid, part=part), out),)
    found = [
        (number, report)
        for number, report in enumerate(inspect_dicom(path), start=1)
        if report.accepted and series_uid in (None, report.series_uid) and part in (None, report.part)
    ]
    if not found:
        raise ImageReadError(f"{path}: no series makes a volume. `delineate dicom inspect` tells why.")
    progress, cancellation = watched["progress"], watched["cancellation"]
    require_writable(out)
    progress.start("series", len(found))
    written = []
    for number, report in found:
        cancellation.check()
        volume = read_dicom(path, series_uid=report.series_uid, part=report.part)
        words = ["series", f"{number:02d}", report.modality, report.part]
        written.append(_write_volume(volume, out / f"{file_stem(' '.join(filter(None, words)))}.nii.gz"))
        progress.advance()
    progress.finish()
    return tuple(written)


def convert_rtstruct(
    structure_set: Path,
    images: Path,
    out: Path,
    *,
    series_uid: str | None = None,
    part: str | None = None,
    nesting: Nesting = "even_odd",
) -> WrittenStructures:
    """Write a structure set as masks on the grid of the images that it was drawn on.

    Parameters
    ----------
    structure_set
        The RT Structure Set.
    images
        Folder, zip or file with its images, among others if need be.
    out
        The folder that is written.
    series_uid, part
        Which images; None: those that the structure set names.
    nesting
        How plain contours that lie inside each other are combined.

    Raises
    ------
    ImageReadError
        If the structure set or the images cannot be read, or it is not clear which images are meant.
    GeometryError
        If the structures were drawn on other images.
    ResourceError
        If the disk is full or the folder cannot be written.
    """
    volume = read_dicom(images, series_uid=series_uid or _named_series(structure_set, images), part=part)
    read = read_rtstruct(structure_set, volume.source, nesting=nesting)
    if not read.structures:
        raise ImageReadError(f"{structure_set}: the structure set holds no structures.")
    require_writable(out)
    overlap = _overlap(read.structures)
    grid = volume.image.grid
    files = _write_masks(out, read.structures, grid) if overlap else [_write_label_map(out, read.structures, grid)]
    written = WrittenStructures(
        form="one mask per structure" if overlap else "one label map",
        why=f"structures overlap in {overlap} voxels" if overlap else "no structures overlap",
        files=tuple(files),
        names=tuple(one.name for one in read.structures),
        voxels=tuple(int(one.mask.sum()) for one in read.structures),
        notices=read.notices,
        report=volume.report,
    )
    write_text(out / TABLE, _table(read, files, grid))
    write_text(
        out / REPORT, _as_json({"form": written.form, "why": written.why, "notices": read.notices}, volume.report)
    )
    return written


def file_stem(name: str) -> str:
    """Return a name that every file system takes."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("._") or "structure"


def report_as_json(reports: Sequence[SeriesReport]) -> str:
    """Return reports as JSON."""
    return json.dumps([asdict(report) for report in reports], indent=1, ensure_ascii=False)


def _named_series(structure_set: Path, images: Path) -> str | None:
    """Return the series that a structure set names, if its images are there."""
    named = referenced_series(structure_set)
    return next((report.series_uid for report in inspect_dicom(images) if report.series_uid in named), None)


def _write_volume(volume: DicomVolume, path: Path) -> WrittenVolume:
    write_image(path, volume.image)
    facts = {"file": path.name, "shape_zyx": volume.image.grid.shape, "affine_lps": volume.image.grid.affine.tolist()}
    write_text(path.with_name(image_stem(path) + REPORT_ENDING), _as_json(facts, volume.report))
    return WrittenVolume(path=path, report=volume.report)


def _as_json(facts: Mapping[str, Any], report: SeriesReport) -> str:
    content = {"software": f"Delineate {__version__}", **facts, "series": asdict(report)}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _overlap(structures: Sequence[ReadStructure]) -> int:
    """Return how many voxels belong to several structures."""
    count = np.zeros(structures[0].mask.shape, dtype=np.uint16)
    for one in structures:
        count += one.mask
    return int((count > 1).sum())


def _write_label_map(out: Path, structures: Sequence[ReadStructure], grid: Grid) -> Path:
    labels: NDArray[np.uint16] = np.zeros(grid.shape, dtype=np.uint16)
    for value, one in enumerate(structures, start=1):
        labels[one.mask] = value
    table = {value: (one.name, one.colour or GREY) for value, one in enumerate(structures, start=1)}
    write_labels_with_table(out / LABELS, LabelMap(array=labels, grid=grid), table)
    return out / LABELS


def _write_masks(out: Path, structures: Sequence[ReadStructure], grid: Grid) -> list[Path]:
    files: list[Path] = []
    for one in structures:
        stem = file_stem(one.name)
        taken = {file.name.lower() for file in files}
        name = f"{stem}.nii.gz" if f"{stem}.nii.gz".lower() not in taken else f"{stem}_{one.number}.nii.gz"
        if name.lower() in taken:
            raise UsageError(f"Two structures are called {one.name} and numbered {one.number}; the set is damaged.")
        files.append(out / MASKS / name)
        write_labels(files[-1], LabelMap(array=one.mask.astype(np.uint8), grid=grid))
    return files


def _table(read: ReadStructureSet, files: Sequence[Path], grid: Grid) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["value", "roi_number", "name", "type", "red", "green", "blue", "voxels", "volume_ml", "file"])
    for value, one in enumerate(read.structures, start=1):
        alone = len(files) == len(read.structures) and files[0].name != LABELS
        voxels = int(one.mask.sum())
        volume = f"{voxels * grid.voxel_volume_mm3 / 1000:.6g}"
        file = files[value - 1] if alone else files[0]
        colour = one.colour or GREY
        row = [1 if alone else value, one.number, one.name, one.interpreted_type, *colour, voxels, volume, file.name]
        writer.writerow(row)
    return stream.getvalue()
