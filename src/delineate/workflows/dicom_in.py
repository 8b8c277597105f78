"""DICOM in: what a folder holds, and a series as NIfTI.

``OUT.nii.gz``, ``OUT.report.json``   a volume, and what was found in its series
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack

from delineate import __version__
from delineate.errors import ImageReadError
from delineate.execution import Watched
from delineate.execution.atomic import require_writable, write_text
from delineate.formats.dicom.reading import DicomVolume, inspect_dicom, read_dicom
from delineate.formats.dicom.series_report import SeriesReport
from delineate.formats.images import write_image
from delineate.formats.magic import image_ending, image_stem

REPORT_ENDING = ".report.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenVolume:
    """One series, or part of one, as a file."""

    path: Path
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


def file_stem(name: str) -> str:
    """Return a name that every file system takes."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("._") or "structure"


def report_as_json(reports: Sequence[SeriesReport]) -> str:
    """Return reports as JSON."""
    return json.dumps([asdict(report) for report in reports], indent=1, ensure_ascii=False)


def _write_volume(volume: DicomVolume, path: Path) -> WrittenVolume:
    write_image(path, volume.image)
    facts = {"file": path.name, "shape_zyx": volume.image.grid.shape, "affine_lps": volume.image.grid.affine.tolist()}
    write_text(path.with_name(image_stem(path) + REPORT_ENDING), as_json(facts, volume.report))
    return WrittenVolume(path=path, report=volume.report)


def as_json(facts: Mapping[str, Any], report: SeriesReport) -> str:
    """Return facts about what was written, with the report of its series, as JSON."""
    content = {"software": f"Delineate {__version__}", **facts, "series": asdict(report)}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
