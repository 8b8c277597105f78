"""A pile of DICOM files, a folder or a zip, as volumes; with a report of every trouble that was found."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from delineate.case import Image
from delineate.errors import ImageReadError
from delineate.formats.dicom.pixels import decode_planes
from delineate.formats.dicom.planes import Plane, planes_of
from delineate.formats.dicom.series_report import Finding, SeriesReport
from delineate.formats.dicom.source_series import SourceSeries, SourceSlice
from delineate.formats.dicom.stacking import Stack, stacks_of

NOT_IMAGES = ("SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "SR", "PR", "KO", "RWV", "ANN", "REG")
"""Modalities of objects that refer to images and are none."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DicomVolume:
    """A volume with what it was made of."""

    image: Image
    """(1, z, y, x): intensities, rescaled, on its grid in LPS mm."""
    source: SourceSeries
    report: SeriesReport


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Pile:
    planes: dict[str, list[Plane]]
    """By series."""
    findings: dict[str, list[Finding]]
    others: tuple[str, ...]
    """Files that are no images."""


def inspect_dicom(path: Path) -> tuple[SeriesReport, ...]:
    """Report on every series of a folder, a zip or a file; pixels are not decoded.

    Raises
    ------
    ImageReadError
        If there is no DICOM image at all.
    """
    pile = _pile(path)
    return tuple(
        _report(stack, pile.findings[series], pixel_sha256="")
        for series, planes in pile.planes.items()
        for stack in stacks_of(planes)
    )


def read_dicom(path: Path, *, series_uid: str | None = None, part: str | None = None) -> DicomVolume:
    """Read one volume.

    Parameters
    ----------
    path
        A folder (with sub-folders), a zip, or a single file.
    series_uid
        Which series; None: the only one that makes a volume.
    part
        Which volume of a 4-D series, as its report names it: ``temporal position 2``.

    Raises
    ------
    ImageReadError
        If no series, or several, fit; or the one that fits is refused. The message lists what was found.
    """
    pile = _pile(path)
    wanted = {uid: planes for uid, planes in pile.planes.items() if series_uid in (None, uid)}
    stacks = [(uid, stack) for uid, planes in wanted.items() for stack in stacks_of(planes)]
    stacks = [(uid, stack) for uid, stack in stacks if part in (None, stack.part)]
    usable = [(uid, stack) for uid, stack in stacks if stack.grid is not None]
    if len(usable) != 1:
        raise ImageReadError(_choice(path, stacks, len(usable)), [_line(stack) for _, stack in stacks])
    uid, stack = usable[0]
    return _volume(stack, pile.findings[uid])


def _volume(stack: Stack, findings: Sequence[Finding]) -> DicomVolume:
    array = decode_planes(stack.planes)
    first = stack.planes[0].dataset
    if stack.grid is None:
        raise ImageReadError(f"{stack.planes[0].file}: the planes make no volume.")
    source = SourceSeries(
        grid=stack.grid,
        slices=tuple(_slice(plane) for plane in stack.planes),
        modality=str(first.get("Modality", "")),
        study_uid=str(first.get("StudyInstanceUID", "")),
        series_uid=stack.planes[0].series_uid,
        frame_of_reference_uid=str(first.get("FrameOfReferenceUID", "")),
        header=_without_pixels(first),
    )
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    report = _report(stack, [*findings, *_values_findings(stack)], pixel_sha256=digest)
    return DicomVolume(image=Image(array=array[np.newaxis], grid=stack.grid), source=source, report=report)


def _values_findings(stack: Stack) -> Iterator[Finding]:
    """Tell what was done to the numbers."""
    if any(str(p.dataset.get("PhotometricInterpretation", "")) == "MONOCHROME1" for p in stack.planes):
        yield Finding(code="MONOCHROME1", severity="repaired", words="dark and bright were exchanged (MONOCHROME1)")
    if any("PixelPaddingValue" in plane.dataset for plane in stack.planes):
        words = "padding around the image became the smallest intensity of its plane"
        yield Finding(code="PIXEL_PADDING", severity="repaired", words=words)
    if len({(plane.slope, plane.intercept) for plane in stack.planes}) > 1:
        words = "slope and intercept differ from plane to plane; each plane was rescaled by its own"
        yield Finding(code="RESCALE_PER_SLICE", severity="note", words=words)


def _slice(plane: Plane) -> SourceSlice:
    return SourceSlice(
        sop_class_uid=str(plane.dataset.get("SOPClassUID", "")),
        sop_instance_uid=str(plane.dataset.get("SOPInstanceUID", "")),
        frame=plane.frame,
        position_mm=plane.position_mm or (0.0, 0.0, 0.0),
    )


def _without_pixels(dataset: Dataset) -> Dataset:
    header = Dataset()
    for element in dataset:
        if element.tag.group not in (0x7FE0, 0x5200):
            header[element.tag] = element
    return header


def _report(stack: Stack, findings: Sequence[Finding], *, pixel_sha256: str) -> SeriesReport:
    first = stack.planes[0].dataset
    return SeriesReport(
        series_uid=stack.planes[0].series_uid,
        description=str(first.get("SeriesDescription", "")),
        modality=str(first.get("Modality", "")),
        part=stack.part,
        n_files=len({plane.file for plane in stack.planes}),
        n_planes=len(stack.planes),
        accepted=stack.grid is not None,
        findings=(*findings, *stack.findings),
        pixel_sha256=pixel_sha256,
    )


def _pile(path: Path) -> _Pile:
    planes: dict[str, list[Plane]] = defaultdict(list)
    findings: dict[str, list[Finding]] = defaultdict(list)
    seen: dict[str, str] = {}
    others = []
    for name, content in _files(path):
        try:
            dataset = pydicom.dcmread(content)
        except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError):
            others.append(name)
            continue
        if str(dataset.get("Modality", "")) in NOT_IMAGES or "Rows" not in dataset or "PixelData" not in dataset:
            others.append(name)
            continue
        series, instance = str(dataset.get("SeriesInstanceUID", "")), str(dataset.get("SOPInstanceUID", ""))
        if instance and instance in seen:
            words = "an instance is there twice; the second copy was left out"
            findings[series].append(Finding(code="DUPLICATE_INSTANCE", severity="repaired", words=words, files=(name,)))
            continue
        seen[instance] = name
        planes[series] += planes_of(name, dataset)
    if not planes:
        raise ImageReadError(
            f"{path}: expected DICOM images; found {len(others)} files that are none. Choose the folder of a series."
        )
    return _Pile(planes=dict(planes), findings=findings, others=tuple(others))


def _files(path: Path) -> Iterator[tuple[str, Path | io.BytesIO]]:
    if not path.exists():
        raise ImageReadError(f"{path}: expected DICOM files; there is nothing. Check the path.")
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")):
            yield str(file.relative_to(path)), file
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    yield entry.filename, io.BytesIO(archive.read(entry))
    else:
        yield path.name, path


def _choice(path: Path, stacks: Sequence[tuple[str, Stack]], usable: int) -> str:
    if not stacks:
        return f"{path}: no series of that identifier or part is there."
    if usable == 0:
        return f"{path}: none of the {len(stacks)} series makes a volume."
    return f"{path}: {usable} series make a volume; say which one by its UID (and part)."


def _line(stack: Stack) -> str:
    first = stack.planes[0]
    refused = [finding for finding in stack.findings if finding.severity == "refused"]
    why = "; ".join(f"{finding.code}: {finding.words}" for finding in refused) or "usable"
    part = f", {stack.part}" if stack.part else ""
    return f"{first.series_uid} ({first.dataset.get('Modality', '')}{part}, {len(stack.planes)} planes): {why}"


def with_finding(report: SeriesReport, finding: Finding) -> SeriesReport:
    """Return a report with one finding more."""
    return replace(report, findings=(*report.findings, finding))
