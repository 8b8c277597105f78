"""Structures of DICOM objects, a structure set or a segmentation, as masks on the grid of their images.

``labels.nii.gz`` or ``masks/NAME.nii.gz``   one label map, or one mask each where structures overlap
``fractions/NAME.nii.gz``                    shares of a fractional segmentation, if asked for
``structures.csv``, ``report.json``          names, codes, colours, volumes; what was found, left out or moved
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from delineate.case import Image, LabelMap
from delineate.errors import ImageReadError, UsageError
from delineate.execution import Watched
from delineate.execution.atomic import staged_files, write_text
from delineate.formats.dicom import rtstruct_reader, seg_reader
from delineate.formats.dicom.contour_filling import Nesting
from delineate.formats.dicom.reading import DicomVolume, inspect_dicom, read_dicom
from delineate.formats.dicom.rtstruct_reader import ReadStructure, read_rtstruct
from delineate.formats.dicom.seg_grid import own_source
from delineate.formats.dicom.seg_reader import ReadSegmentation, read_seg
from delineate.formats.dicom.series_report import SeriesReport, finding
from delineate.formats.dicom.source_series import SourceSeries
from delineate.formats.images import write_image, write_labels
from delineate.formats.label_table import write_labels_with_table
from delineate.geometry.grid import Grid
from delineate.workflows.dicom_in import as_json, file_stem

LABELS, MASKS, FRACTIONS, TABLE, REPORT = "labels.nii.gz", "masks", "fractions", "structures.csv", "report.json"
GREY = (128, 128, 128)
"""Colour of a structure whose object names none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskSettings:
    """How masks are written."""

    series_uid: str | None = None
    part: str | None = None
    """Which images; None: those that the object names."""
    separate: bool = False
    """Whether every structure gets a file of its own, even if none overlap."""
    fractions: bool = False
    """Whether the shares of a fractional segmentation are written, too."""
    nesting: Nesting = "even_odd"
    """How plain contours of a structure set that lie inside each other are combined."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenStructures:
    """What became of an object's structures."""

    form: str
    """``one label map``, or ``one mask per structure``."""
    why: str
    files: tuple[Path, ...]
    names: tuple[str, ...]
    voxels: tuple[int, ...]
    notices: tuple[str, ...]
    report: SeriesReport


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Structure:
    """One structure, from whichever object."""

    value: int
    """In a label map."""
    name: str
    colour: tuple[int, int, int]
    mask: Callable[[], NDArray[np.bool_]]
    facts: Mapping[str, str]
    """Further columns of the table."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Marked:
    """What an object marks."""

    structures: tuple[_Structure, ...]
    overlap: int
    """Voxels of several structures."""
    labels: Callable[[], NDArray[Any]]
    """The label map, if there is no overlap."""
    fractions: Mapping[str, Callable[[], NDArray[np.float32]]]
    notices: tuple[str, ...]
    facts: Mapping[str, str]
    """For the report."""


def convert_rtstruct(
    structure_set: Path, images: Path, out: Path, settings: MaskSettings | None = None, **watched: Unpack[Watched]
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
    settings
        Which images, and how.
    watched
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    ImageReadError
        If the structure set or the images cannot be read, or it is not clear which images are meant.
    GeometryError
        If the structures were drawn on other images.
    UsageError
        If the folder holds masks of something else, or fractions are asked for.
    ResourceError
        If the disk is full or the folder cannot be written.
    Interrupted
        If a stop was requested; nothing is written then.
    """
    settings = settings or MaskSettings()
    if settings.fractions:
        raise UsageError("A structure set has no fractions; they are part of fractional segmentations.")
    volume = structure_set_images(structure_set, images, settings.series_uid, settings.part)
    read = read_rtstruct(structure_set, volume.source, nesting=settings.nesting)
    if not read.structures:
        raise ImageReadError(f"{structure_set}: the structure set holds no structures.")
    marked = _Marked(
        structures=tuple(_of_roi(value, one) for value, one in enumerate(read.structures, start=1)),
        overlap=_overlap(read.structures),
        labels=partial(_labels, read.structures),
        fractions={},
        notices=read.notices,
        facts={},
    )
    return _write(marked, volume.image.grid, volume.report, out, settings, **watched)


def convert_seg(
    segmentation: Path, images: Path | None, out: Path, settings: MaskSettings | None = None, **watched: Unpack[Watched]
) -> WrittenStructures:
    """Write a DICOM Segmentation as masks on the grid of the images that it was made of.

    The values of a label map are the segment numbers. A fractional segment's mask is where it fills half a voxel or
    more.

    Parameters
    ----------
    segmentation
        Binary, fractional or label map.
    images
        Folder, zip or file with its images, among others if need be; None: the masks lie on the segmentation's own
        frames, which may be fewer than the images.
    out
        The folder that is written.
    settings
        Which images, and how.
    watched
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    ImageReadError
        If the segmentation or the images cannot be read, or it is not clear which images are meant.
    GeometryError
        If it lies elsewhere, between the voxels of the images, or its own frames make no grid.
    UsageError
        If the folder holds masks of something else, or fractions are asked for and there are none.
    ResourceError
        If the disk is full or the folder cannot be written.
    Interrupted
        If a stop was requested; nothing is written then.
    """
    settings = settings or MaskSettings()
    if images is None:
        source = own_source(segmentation)
        report = _own_report(source)
    else:
        volume = segmentation_images(segmentation, images, settings.series_uid, settings.part)
        source, report = volume.source, volume.report
    read = read_seg(segmentation, source)
    if not read.segments:
        raise ImageReadError(f"{segmentation}: the segmentation describes no segments.")
    if settings.fractions and read.kind != "fractional":
        raise UsageError(f"{segmentation}: a {read.kind} segmentation has no fractions; leave them out.")
    names = {one.number: one.label.strip() or f"segment {one.number}" for one in read.segments}
    marked = _Marked(
        structures=tuple(_of_segment(read, one, names[one.number]) for one in read.segments),
        overlap=read.overlap(),
        labels=read.labels,
        fractions={name: partial(read.fraction, number) for number, name in names.items()}
        if settings.fractions
        else {},
        notices=(*read.notices, *_thresholds(read, names)),
        facts={
            "segmentation": read.kind,
            "content_label": read.content_label,
            "content_description": read.content_description,
        },
    )
    return _write(marked, source.grid, report, out, settings, **watched)


def structure_set_images(
    path: Path, images: Path, series_uid: str | None = None, part: str | None = None
) -> DicomVolume:
    """Return the images that a structure set was drawn on: those that its contours name, else its series'.

    Raises
    ------
    ImageReadError
        If the structure set or the images cannot be read, or it is not clear which images are meant.
    """
    named = rtstruct_reader.named_images(path)
    if series_uid is None and not named:
        series = rtstruct_reader.referenced_series(path)
        series_uid = next((one.series_uid for one in inspect_dicom(images) if one.series_uid in series), None)
    return read_dicom(images, series_uid=series_uid, part=part, holding=named)


def segmentation_images(
    path: Path, images: Path, series_uid: str | None = None, part: str | None = None
) -> DicomVolume:
    """Return the images that a segmentation was made of.

    Raises
    ------
    ImageReadError
        If the segmentation or the images cannot be read, or it is not clear which images are meant.
    """
    return read_dicom(images, series_uid=series_uid, part=part, holding=seg_reader.named_images(path))


def _of_roi(value: int, one: ReadStructure) -> _Structure:
    return _Structure(
        value=value,
        name=one.name,
        colour=one.colour or GREY,
        mask=lambda: one.mask,
        facts={"roi_number": str(one.number), "type": one.interpreted_type},
    )


def _of_segment(read: ReadSegmentation, one: seg_reader.ReadSegment, name: str) -> _Structure:
    code, scheme, meaning = one.type
    return _Structure(
        value=one.number,
        name=name,
        colour=one.colour or GREY,
        mask=partial(read.mask, one.number),
        facts={
            "segment_number": str(one.number),
            "type": meaning,
            "scheme": scheme,
            "code": code,
            "algorithm": one.algorithm_type,
            "tracking_uid": one.tracking_uid,
        },
    )


def _thresholds(read: ReadSegmentation, names: Mapping[int, str]) -> list[str]:
    """Tell how much of fractional segments their masks leave out."""
    if read.kind != "fractional":
        return []
    told = []
    for number, name in names.items():
        share = read.fraction(number)
        held, touched = int((share >= seg_reader.HALF).sum()), int((share > 0).sum())
        told.append(
            f"{name}: the mask holds the {held} voxels of {seg_reader.HALF:g} or more; {touched} are greater than 0"
        )
    return told


def _overlap(structures: Sequence[ReadStructure]) -> int:
    count = np.zeros(structures[0].shape, dtype=np.uint16)
    for one in structures:
        count[one.box] += one.inside
    return int((count > 1).sum())


def _labels(structures: Sequence[ReadStructure]) -> NDArray[np.uint16]:
    labels: NDArray[np.uint16] = np.zeros(structures[0].shape, dtype=np.uint16)
    for value, one in enumerate(structures, start=1):
        labels[one.box][one.inside] = value
    return labels


def _write(
    marked: _Marked, grid: Grid, report: SeriesReport, out: Path, settings: MaskSettings, **watched: Unpack[Watched]
) -> WrittenStructures:
    """Write masks, table and report; all of them or nothing."""
    separate = settings.separate or marked.overlap > 0
    names = _file_names(marked.structures)
    files = [Path(MASKS) / name for name in names] if separate else [Path(LABELS)]
    shares = [Path(FRACTIONS) / name for name in names if marked.fractions]
    _require_own(out, {*files, *shares})
    with staged_files(out) as stage:
        voxels = _write_each(stage, files, marked, grid, **watched) if separate else _write_one(stage, marked, grid)
        for file, share in zip(shares, marked.fractions.values(), strict=True):
            watched["cancellation"].check()
            write_image(stage / file, Image(array=share()[None], grid=grid))
        form = "one mask per structure" if separate else "one label map"
        why = f"structures overlap in {marked.overlap} voxels" if marked.overlap else "no structures overlap"
        if separate and not marked.overlap:
            why = "that was asked for"
        facts = {"form": form, "why": why, **marked.facts, "notices": marked.notices}
        write_text(stage / TABLE, _table(marked.structures, files, voxels, grid))
        write_text(stage / REPORT, as_json(facts, report))
    return WrittenStructures(
        form=form,
        why=why,
        files=tuple(out / file for file in (*files, *shares)),
        names=tuple(one.name for one in marked.structures),
        voxels=tuple(voxels),
        notices=marked.notices,
        report=report,
    )


def _own_report(source: SourceSeries) -> SeriesReport:
    """Say that no images were read."""
    words = "no images were given; the masks lie on the planes of the segmentation's own frames"
    z, y, x = source.grid.spacing_mm
    return SeriesReport(
        series_uid=source.series_uid,
        description="",
        modality=source.modality,
        part="",
        n_files=1,
        n_planes=source.grid.shape[0],
        accepted=True,
        findings=(finding("NO_IMAGES", "note", words),),
        pixel_sha256="",
        plane_shape=(source.grid.shape[1], source.grid.shape[2]),
        spacing_mm=(z, y, x),
    )


def _require_own(out: Path, files: set[Path]) -> None:
    """Refuse a folder whose older masks would lie among the new ones as if they belonged to them."""
    there = [out / LABELS, *(out / MASKS).glob("*"), *(out / FRACTIONS).glob("*")]
    strange = sorted(path.name for path in there if path.exists() and path.relative_to(out) not in files)
    if strange:
        raise UsageError(
            f"{out}: holds masks of something else ({', '.join(strange[:5])}); choose another folder, or remove them."
        )


def _write_one(stage: Path, marked: _Marked, grid: Grid) -> list[int]:
    labels = marked.labels()
    table = {one.value: (one.name, one.colour) for one in marked.structures}
    write_labels_with_table(stage / LABELS, LabelMap(array=labels, grid=grid), table)
    counts = np.bincount(labels.ravel(), minlength=max(table) + 1)
    return [int(counts[one.value]) for one in marked.structures]


def _write_each(
    stage: Path, files: Sequence[Path], marked: _Marked, grid: Grid, **watched: Unpack[Watched]
) -> list[int]:
    progress, cancellation = watched["progress"], watched["cancellation"]
    progress.start("structures", len(files))
    voxels = []
    for one, file in zip(marked.structures, files, strict=True):
        cancellation.check()
        mask = one.mask()
        voxels.append(int(mask.sum()))
        write_labels(stage / file, LabelMap(array=mask.astype(np.uint8), grid=grid))
        progress.advance()
    progress.finish()
    return voxels


def _file_names(structures: Sequence[_Structure]) -> list[str]:
    """Return a file name for every structure, unique where upper and lower case are the same."""
    names: list[str] = []
    taken: set[str] = set()
    for one in structures:
        stem = file_stem(one.name)
        name = f"{stem}.nii.gz" if f"{stem}.nii.gz".lower() not in taken else f"{stem}_{one.value}.nii.gz"
        if name.lower() in taken:
            raise UsageError(f"Two structures are called {one.name} and numbered {one.value}; the object is damaged.")
        taken.add(name.lower())
        names.append(name)
    return names


def _table(structures: Sequence[_Structure], files: Sequence[Path], voxels: Sequence[int], grid: Grid) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    alone = files[0].name != LABELS
    more = list(structures[0].facts)
    writer.writerow(["value", more[0], "name", *more[1:], "red", "green", "blue", "voxels", "volume_ml", "file"])
    for number, (one, count) in enumerate(zip(structures, voxels, strict=True)):
        facts = [one.facts[key] for key in more]
        volume = f"{count * grid.voxel_volume_mm3 / 1000:.6g}"
        file = files[number] if alone else files[0]
        value = 1 if alone else one.value
        writer.writerow([value, facts[0], one.name, *facts[1:], *one.colour, count, volume, file.name])
    return stream.getvalue()
