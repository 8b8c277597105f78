"""From planes to volumes: in which order, on which grid, and every reason why they make no volume.

Nothing is stretched, flipped or invented. A trouble either refuses the volume, or is repaired by a rule that is
recorded, and only where the repair cannot change where a voxel lies or what it says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delineate.formats.dicom.parts import SAME_PLACE_MM, Part, heights_of, parts_of
from delineate.formats.dicom.pixels import unreadable
from delineate.formats.dicom.planes import Plane
from delineate.formats.dicom.series_report import Finding, finding, is_refused
from delineate.geometry.grid import ORTHOGONALITY_TOLERANCE, Grid

REGULAR = 0.01
"""Largest distance of a plane from the regular grid, as a share of the spacing, that is not worth telling."""
NEARLY_REGULAR = 0.05
"""The same, up to which planes are put on the regular grid and told: a twentieth of the spacing. Real PET series, whose
beds are joined, lie 1 to 2 % off."""
SLIGHT_SHEAR_MM = 0.02
"""Largest sideways shift of planes that is not worth telling."""
SHEAR = 0.1
"""Largest sideways shift that is told and tolerated, as a share of the pixel spacing."""
LEAST_PLANES = 2


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stack:
    """Planes that make a volume, or the reasons why they do not."""

    planes: tuple[Plane, ...]
    """Along the normal, rising."""
    part: str
    grid: Grid | None
    """None: refused."""
    findings: tuple[Finding, ...]


def stacks_of(planes: Sequence[Plane], findings: Sequence[Finding] = ()) -> tuple[Stack, ...]:
    """Return the volumes of the planes of one series.

    Parameters
    ----------
    planes
        All planes of the series, in any order.
    findings
        What was found before; each volume carries it.
    """
    told = [*findings, *_identity(planes)]
    scouts = [plane for plane in planes if plane.is_localizer]
    if scouts:
        whole = len(scouts) == len(planes)
        words = "the series is a scout view" if whole else f"{len(scouts)} scout views were left out"
        told.append(finding("LOCALIZER", "refused" if whole else "note", words, _files(scouts)))
        planes = planes if whole else [plane for plane in planes if not plane.is_localizer]
    homeless = [plane for plane in planes if plane.stated is None]
    if homeless:
        words = (
            f"{len(homeless)} of {len(planes)} planes do not say where they lie (position, orientation or pixel "
            "spacing is missing); export the series again"
        )
        told += [*_values(planes), finding("NO_GEOMETRY", "refused", words, _files(homeless))]
        return (Stack(planes=tuple(planes), part="", grid=None, findings=tuple(told)),)
    return tuple(_stacked(part, told) for part in parts_of(planes))


def _identity(planes: Sequence[Plane]) -> Iterator[Finding]:
    """Tell what is wrong with the identifiers of a series."""
    first = planes[0]
    if not first.series_uid or any(not plane.text("SOPInstanceUID") for plane in planes):
        words = "images have no Series or SOP Instance UID; no DICOM object made of them can refer to them"
        yield finding("NO_IDENTIFIERS", "note", words, _files(planes))
    frameless = [plane for plane in planes if not plane.text("FrameOfReferenceUID")]
    if frameless:
        words = f"{len(frameless)} of {len(planes)} planes have no frame of reference; export the series again"
        yield finding("NO_FRAME_OF_REFERENCE", "refused", words, _files(frameless))
    if len({(plane.text("PatientID"), plane.text("StudyInstanceUID")) for plane in planes}) > 1:
        words = "images of several patients or studies carry one Series Instance UID; export them again"
        yield finding("MIXED_STUDY", "refused", words, _files(planes))


def _stacked(part: Part, findings: Sequence[Finding]) -> Stack:
    heights = heights_of(part.planes)
    order = np.argsort(heights, kind="stable")
    ordered, heights = [part.planes[int(i)] for i in order], heights[order]
    told = [*findings, *part.findings, *_values(ordered), *_troubles(ordered, heights)]
    grid = None if is_refused(told) else _grid(ordered, heights)
    return Stack(planes=tuple(ordered), part=part.name, grid=grid, findings=tuple(told))


def _values(planes: Sequence[Plane]) -> Iterator[Finding]:
    """Tell which planes cannot become intensities; each reason once."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for plane in planes:
        for reason in unreadable(plane):
            reasons.setdefault(reason, []).append(plane.file)
    for (code, words), files in reasons.items():
        yield finding(code, "refused", words, files)


def _troubles(planes: Sequence[Plane], heights: NDArray[np.float64]) -> Iterator[Finding]:
    axes = np.array([planes[0].placement.row_axis, planes[0].placement.column_axis])
    if np.abs(axes @ axes.T - np.eye(2)).max() > ORTHOGONALITY_TOLERANCE:
        words = "the axes of the images are no perpendicular unit vectors; export the series again"
        yield finding("BAD_ORIENTATION", "refused", words, _files(planes[:1]))
    elif len(planes) < LEAST_PLANES:
        yield _single(planes[0])
    else:
        yield from _uneven(planes, heights)
        yield from _sheared(planes, heights)


def _single(plane: Plane) -> Finding:
    if plane.thickness_mm is None:
        words = "expected a stack of planes; found a single one whose header says no slice thickness"
        return finding("SINGLE_PLANE", "refused", words, [plane.file])
    words = f"the volume has a single plane; its thickness of {plane.thickness_mm:g} mm is the header's"
    return finding("SINGLE_PLANE", "note", words, [plane.file])


def _uneven(planes: Sequence[Plane], heights: NDArray[np.float64]) -> Iterator[Finding]:
    """Tell whether planes lie at one place, are missing, or lie beside the regular grid."""
    double = np.flatnonzero(np.diff(heights) < SAME_PLACE_MM)
    if double.size:
        words = f"at {double.size} places several planes lie, and no attribute parts them into complete volumes"
        yield finding("DUPLICATE_POSITIONS", "refused", words, [planes[int(i)].file for i in double])
        heights = np.delete(heights, double + 1)
        planes = [plane for index, plane in enumerate(planes) if index - 1 not in set(double.tolist())]
    if len(heights) < LEAST_PLANES:
        return
    steps = np.diff(heights)
    multiples = np.round(steps / np.median(steps))
    place = np.concatenate([[0], np.cumsum(multiples)])
    step = float(heights[-1] - heights[0]) / max(float(place[-1]), 1.0)
    beside = np.abs(heights - heights[0] - place * step)
    gaps = np.flatnonzero(multiples > 1)
    if multiples.min() < 1 or beside.max() > NEARLY_REGULAR * step:
        words = (
            f"expected one distance of planes; they are {steps.min():g} to {steps.max():g} mm apart, and one lies "
            f"{beside.max():.3g} mm from a regular grid. Nothing is stretched: export the series with one distance, or "
            "resample it with a tool that tells what it did"
        )
        yield finding("IRREGULAR_SPACING", "refused", words, [planes[int(beside.argmax())].file])
    elif gaps.size:
        missing = int((multiples[gaps] - 1).sum())
        words = f"{missing} planes are missing at {gaps.size} places of a stack of {step:g} mm; copy the whole series"
        yield finding("MISSING_SLICES", "refused", words, [planes[int(i)].file for i in gaps])
    elif beside.max() > REGULAR * step:
        words = (
            f"the planes are {steps.min():g} to {steps.max():g} mm apart; they were put on a regular grid of {step:g} "
            f"mm, which moves none by more than {beside.max():.3g} mm ({beside.max() / step:.1%})"
        )
        yield finding("NEARLY_REGULAR_SPACING", "repaired", words, [planes[int(beside.argmax())].file])


def _sheared(planes: Sequence[Plane], heights: NDArray[np.float64]) -> Iterator[Finding]:
    positions = np.array([plane.placement.position_mm for plane in planes])
    aside = (positions - positions[0]) - np.outer(heights - heights[0], planes[0].placement.normal)
    shear = float(np.linalg.norm(aside, axis=1).max())
    if shear > SHEAR * min(planes[0].placement.spacing_mm):
        words = (
            f"the planes are shifted sideways by up to {shear:.2f} mm, as by a tilted gantry; no grid of voxels fits. "
            "Correct the tilt with a converter such as dcm2niix"
        )
        yield finding("GANTRY_TILT", "refused", words, _files(planes[:1]))
    elif shear > SLIGHT_SHEAR_MM:
        words = (
            f"the planes are shifted sideways by up to {shear:.2f} mm, a small part of a pixel; the shift was left out"
        )
        yield finding("SLIGHT_SHEAR", "repaired", words, _files(planes[:1]))


def _grid(planes: Sequence[Plane], heights: NDArray[np.float64]) -> Grid:
    lies = planes[0].placement
    count = len(planes)
    distance = float((heights[-1] - heights[0]) / (count - 1)) if count > 1 else planes[0].thickness_mm or 1.0
    x, y, z = (float(value) for value in lies.normal)
    return Grid(
        shape=(count, planes[0].rows, planes[0].columns),
        spacing_mm=(distance, *lies.spacing_mm),
        origin_mm=lies.position_mm,
        direction=((x, y, z), lies.column_axis, lies.row_axis),
    )


def _files(planes: Sequence[Plane]) -> list[str]:
    return [plane.file for plane in planes]
