"""From planes to volumes: which belong together, in which order, and every reason why they make no volume.

Nothing is stretched, flipped or invented. A trouble either refuses the volume, or is repaired by a rule that is
recorded, and only where the repair cannot change where a voxel lies or what it says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delineate.formats.dicom.planes import Plane
from delineate.formats.dicom.series_report import Finding, Severity
from delineate.geometry.grid import Grid

STEP_TOLERANCE = 0.02
"""Largest deviation of a distance of planes from the median one, as a share of it: headers round positions."""
SAME_PLACE_MM = 1e-3
"""Planes nearer than this lie at one place."""
SHEAR_MM = 0.1
"""Largest shift of a plane across the stack; a tilted gantry shifts every plane."""
DIRECTION_TOLERANCE = 1e-4
LEAST_PLANES = 2
SHOWN_FILES = 5


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stack:
    """Planes that make a volume, or the reasons why they do not."""

    planes: tuple[Plane, ...]
    """Along the normal, rising."""
    part: str
    grid: Grid | None
    """None: refused."""
    findings: tuple[Finding, ...]


def stacks_of(planes: Sequence[Plane]) -> tuple[Stack, ...]:
    """Return the volumes of the planes of one series."""
    notes: list[Finding] = []
    rest = list(planes)
    scouts = [plane for plane in rest if plane.is_localizer]
    if scouts and len(scouts) < len(rest):
        notes.append(_finding("LOCALIZER", "note", "scout views were left out", scouts))
        rest = [plane for plane in rest if not plane.is_localizer]
    homeless = [plane for plane in rest if not plane.complete]
    if homeless:
        words = "the header does not say where the planes lie (position, orientation or pixel spacing is missing)"
        return (
            Stack(
                planes=tuple(rest),
                part="",
                grid=None,
                findings=(*notes, _finding("NO_GEOMETRY", "refused", words, homeless)),
            ),
        )
    stacks = []
    for group in _alike(rest):
        for part, members in _volumes(group):
            stacks.append(_stacked(members, part, [*notes]))
    return tuple(stacks)


def _alike(planes: Sequence[Plane]) -> Iterator[list[Plane]]:
    """Yield planes of one size, spacing, orientation and frame of reference."""
    groups: dict[tuple[object, ...], list[Plane]] = defaultdict(list)
    for plane in planes:
        axes = np.round(np.array([*(plane.row_axis or ()), *(plane.column_axis or ())]), 3) + 0.0
        spacing = np.round(np.array(plane.spacing_mm), 4)
        frame = str(plane.dataset.get("FrameOfReferenceUID", ""))
        groups[(plane.rows, plane.columns, tuple(axes.tolist()), tuple(spacing.tolist()), frame)].append(plane)
    yield from groups.values()


def _volumes(planes: Sequence[Plane]) -> Iterator[tuple[str, list[Plane]]]:
    """Yield the volumes of a 4-D series: split by what differs between planes at one place."""
    if not _any_at_one_place(planes):
        yield "", list(planes)
        return
    for name in dict.fromkeys(name for plane in planes for name in plane.parts):
        values = {plane.parts.get(name, "") for plane in planes}
        split = {
            value: [p for p in planes if p.parts.get(name, "") == value] for value in sorted(values, key=_as_number)
        }
        if len(values) > 1 and not any(_any_at_one_place(members) for members in split.values()):
            for value, members in split.items():
                yield f"{name} {value}", members
            return
    yield "", list(planes)


def _stacked(planes: Sequence[Plane], part: str, findings: list[Finding]) -> Stack:
    normal = planes[0].normal
    heights = np.array([float(np.dot(normal, np.array(plane.position_mm))) for plane in planes])
    order = np.argsort(heights, kind="stable")
    ordered, heights = [planes[int(i)] for i in order], heights[order]
    findings += _troubles(ordered, heights, normal)
    refused = any(finding.severity == "refused" for finding in findings)
    grid = None if refused else _grid(ordered, heights)
    return Stack(planes=tuple(ordered), part=part, grid=grid, findings=tuple(findings))


def _troubles(planes: Sequence[Plane], heights: NDArray[np.float64], normal: NDArray[np.float64]) -> Iterator[Finding]:
    if not str(planes[0].dataset.get("FrameOfReferenceUID", "")):
        yield _finding("NO_FRAME_OF_REFERENCE", "refused", "the images have no frame of reference", planes)
    axes = np.array([planes[0].row_axis, planes[0].column_axis])
    if np.abs(axes @ axes.T - np.eye(2)).max() > DIRECTION_TOLERANCE * 10:
        yield _finding(
            "BAD_ORIENTATION", "refused", "the axes of the images are no perpendicular unit vectors", planes[:1]
        )
    if len(planes) < LEAST_PLANES:
        yield _finding(
            "SINGLE_PLANE", "note", "the volume has a single plane; its thickness is taken from the header", planes
        )
        return
    steps = np.diff(heights)
    if (steps < SAME_PLACE_MM).any():
        twice = [planes[int(i)] for i in np.flatnonzero(steps < SAME_PLACE_MM)]
        yield _finding(
            "DUPLICATE_POSITIONS", "refused", "several planes lie at one place and nothing tells them apart", twice
        )
        return
    yield from _uneven(planes, steps)
    positions = np.array([plane.position_mm for plane in planes])
    aside = (positions - positions[0]) - np.outer(heights - heights[0], normal)
    shear = float(np.linalg.norm(aside, axis=1).max())
    if shear > SHEAR_MM:
        words = (
            f"the planes are shifted sideways by up to {shear:.1f} mm, as by a tilted gantry; no grid of voxels fits"
        )
        yield _finding("GANTRY_TILT", "refused", words, planes[:1])


def _uneven(planes: Sequence[Plane], steps: NDArray[np.float64]) -> Iterator[Finding]:
    step = float(np.median(steps))
    odd = np.abs(steps - step) > STEP_TOLERANCE * step
    if not odd.any():
        return
    multiples = steps[odd] / step
    whole = np.abs(multiples - np.round(multiples)) <= STEP_TOLERANCE * np.maximum(multiples, 1)
    after = [planes[int(i)] for i in np.flatnonzero(odd)]
    if bool(whole.all()) and bool((multiples > 1.5).all()):
        missing = int(np.round(multiples).sum() - odd.sum())
        words = f"{missing} planes are missing: {int(odd.sum())} gaps in a stack of {step:g} mm; copy the whole series"
        yield _finding("MISSING_SLICES", "refused", words, after)
    else:
        words = f"the planes are {steps.min():g} to {steps.max():g} mm apart; expected one distance"
        yield _finding("IRREGULAR_SPACING", "refused", words, after)


def _grid(planes: Sequence[Plane], heights: NDArray[np.float64]) -> Grid:
    first = planes[0]
    position, row, column, spacing = first.position_mm, first.row_axis, first.column_axis, first.spacing_mm
    distance = float((heights[-1] - heights[0]) / (len(planes) - 1)) if len(planes) > 1 else _thickness(first)
    normal = tuple(float(v) for v in first.normal)
    return Grid(
        shape=(len(planes), first.rows, first.columns),
        spacing_mm=(distance, *(spacing or (1.0, 1.0))),
        origin_mm=position or (0.0, 0.0, 0.0),
        direction=(normal, column or (0.0, 1.0, 0.0), row or (1.0, 0.0, 0.0)),
    )


def _thickness(plane: Plane) -> float:
    value = plane.dataset.get("SliceThickness")
    try:
        thickness = float(value) if value not in (None, "") else 1.0
    except (TypeError, ValueError):
        thickness = 1.0
    return thickness if thickness > 0 else 1.0


def _any_at_one_place(planes: Sequence[Plane]) -> bool:
    normal = planes[0].normal
    heights = np.sort([float(np.dot(normal, np.array(plane.position_mm))) for plane in planes])
    return bool((np.diff(heights) < SAME_PLACE_MM).any())


def _as_number(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text


def _finding(code: str, severity: Severity, words: str, planes: Sequence[Plane]) -> Finding:
    names = tuple(dict.fromkeys(plane.file for plane in planes))
    return Finding(code=code, severity=severity, words=words, files=names[:SHOWN_FILES])
