"""The contours of one region of interest as a mask on the grid of its images.

A contour's plane is the image that lies nearest to it along the normal; inside the plane, voxel centres decide. What is
left out, moved or ambiguous is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import RawDataElement

from delineate.formats.dicom.source_series import SourceSeries
from delineate.masks.polygons import fill_even_odd, fill_union

XOR_TYPES = ("CLOSEDPLANAR_XOR", "CLOSED_PLANAR_XOR")
"""The standard's name, and a common misspelling of 17 characters."""
CLOSED_TYPES = ("CLOSED_PLANAR", *XOR_TYPES)
PLANE_TOLERANCE = 0.5
"""Planes; a contour farther from every plane is left out."""
MOVED = 0.01
"""Planes; a contour farther than this from its plane is told to have been moved."""
BEYOND = 0.5
"""Voxels beyond the last centre, up to which a contour follows the border of the image."""
SMALL_VOXELS = 2.0
"""Area below which a contour may miss every voxel centre."""

Nesting = Literal["even_odd", "union"]
Polygon = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SourcePlanes:
    """Where the planes of a series lie, for contours."""

    source: SourceSeries
    inverse: NDArray[np.float64]
    """World LPS mm to index (z, y, x)."""
    heights: NDArray[np.float64]
    """Index along z at which every plane truly lies; beside whole numbers in a nearly regular series."""
    plane_of: Mapping[tuple[str, int | None], int]
    """SOP Instance UID and frame -> plane."""

    @staticmethod
    def of(source: SourceSeries) -> SourcePlanes:
        """Return the planes of a series."""
        inverse: NDArray[np.float64] = np.linalg.inv(source.grid.affine).astype(np.float64)
        positions = np.array([one.position_mm for one in source.slices])
        return SourcePlanes(
            source=source,
            inverse=inverse,
            heights=positions @ inverse[0, :3] + inverse[0, 3],
            plane_of={(one.sop_instance_uid, one.frame): plane for plane, one in enumerate(source.slices)},
        )


@dataclass(kw_only=True, slots=True, eq=False)
class _Sorted:
    """Contours by plane and kind, and how many were what."""

    plain: dict[int, list[Polygon]] = field(default_factory=dict)
    exclusive: dict[int, list[Polygon]] = field(default_factory=dict)
    troubles: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FilledContours:
    """A region of interest."""

    mask: NDArray[np.bool_]
    """(z, y, x)."""
    polygons: Mapping[int, tuple[Polygon, ...]]
    """Plane -> contours (y, x) in voxel indices."""
    notices: tuple[str, ...]


def fill_contours(contours: Sequence[Dataset], planes: SourcePlanes, nesting: Nesting) -> FilledContours:
    """Return the mask of a region of interest, the contours that it was filled from, and what is to be told of it."""
    found = _sorted(contours, planes)
    shape = planes.source.grid.shape
    mask = np.zeros(shape, dtype=bool)
    for plane, polygons in found.plain.items():
        mask[plane] = _filled(polygons, (shape[1], shape[2]), nesting, found.troubles)
    for plane, polygons in found.exclusive.items():
        mask[plane] ^= fill_even_odd(polygons, (shape[1], shape[2]))
    return FilledContours(
        mask=mask,
        polygons={
            plane: (*found.plain.get(plane, ()), *found.exclusive.get(plane, ()))
            for plane in sorted({*found.plain, *found.exclusive})
        },
        notices=tuple(f"{count} {words}" for words, count in found.troubles.items()),
    )


def _filled(
    polygons: Sequence[Polygon], shape: tuple[int, int], nesting: Nesting, troubles: Counter[str]
) -> NDArray[np.bool_]:
    even_odd = fill_even_odd(polygons, shape)
    if len(polygons) == 1:
        return even_odd
    union = fill_union(polygons, shape)
    if not np.array_equal(even_odd, union):
        troubles[f"planes hold plain contours that lie inside each other or overlap; they were read as {nesting}"] += 1
    return even_odd if nesting == "even_odd" else union


def _sorted(contours: Sequence[Dataset], planes: SourcePlanes) -> _Sorted:
    found = _Sorted()
    for contour in contours:
        kind = str(contour.get("ContourGeometricType", "") or "of no type")
        points = contour_points(contour)
        if kind not in CLOSED_TYPES or len(points) < 3:
            found.troubles[f"contours of type {kind} with {min(len(points), 3)} or more points were left out"] += 1
            continue
        index = points @ planes.inverse[:3, :3].T + planes.inverse[:3, 3]
        plane = _plane_of(index[:, 0], planes, found.troubles)
        if plane is None:
            continue
        _tell_place(index, plane, contour, planes, found.troubles)
        place = (found.exclusive if kind in XOR_TYPES else found.plain).setdefault(plane, [])
        if kind not in XOR_TYPES and any(np.array_equal(index[:, 1:], other) for other in place):
            found.troubles["contours are there twice and were read once"] += 1
        else:
            place.append(index[:, 1:])
    return found


def contour_points(contour: Dataset) -> NDArray[np.float64]:
    """Return the points (n, 3) of a contour, LPS mm; none if their numbers do not come in threes.

    Raises
    ------
    ValueError
        If they are no numbers.
    """
    raw: Any = contour.get_item("ContourData") if "ContourData" in contour else None
    value = raw.value if raw is not None else None
    if isinstance(raw, RawDataElement) and isinstance(value, bytes):
        # as text: a decimal object for every number would take most of the time
        value = value.decode("ascii").rstrip(" \0").split("\\") if value.strip(b" \0") else None
    numbers = np.array([] if value is None else value, dtype=np.float64)
    return numbers.reshape(-1, 3) if numbers.size % 3 == 0 else np.zeros((0, 3))


def _plane_of(height: NDArray[np.float64], planes: SourcePlanes, troubles: Counter[str]) -> int | None:
    """Return the plane that a contour lies on; None if there is none."""
    middle = float(height.mean())
    plane = int(np.argmin(np.abs(planes.heights - middle)))
    apart = abs(float(planes.heights[plane]) - middle)
    if float(np.abs(height - middle).max()) > PLANE_TOLERANCE:
        troubles["contours are not parallel to the images and were left out"] += 1
        return None
    if apart > PLANE_TOLERANCE:
        troubles["contours lie beyond the images and were left out"] += 1
        return None
    if apart > MOVED:
        troubles["contours lie between two planes and were moved to the nearer one"] += 1
    return plane


def _tell_place(
    index: NDArray[np.float64], plane: int, contour: Dataset, planes: SourcePlanes, troubles: Counter[str]
) -> None:
    last = np.array(planes.source.grid.shape[1:]) - 1 + BEYOND
    if (index[:, 1:] < -BEYOND - MOVED).any() or (index[:, 1:] > last + MOVED).any():
        troubles["contours reach beyond the images; what lies outside was cut off"] += 1
    for image in (contour.get("ContourImageSequence") or [])[:1]:
        frame = image.get("ReferencedFrameNumber")
        named = planes.plane_of.get(
            (str(image.get("ReferencedSOPInstanceUID", "")), None if frame is None else int(frame))
        )
        if named is not None and named != plane:
            troubles["contours name another image than the one they lie on; their position was believed"] += 1
    shape = planes.source.grid.shape
    if _area(index[:, 1:]) < SMALL_VOXELS and not fill_even_odd([index[:, 1:]], (shape[1], shape[2])).any():
        troubles["contours are so small that they hold no voxel centre"] += 1


def _area(polygon: Polygon) -> float:
    y, x = polygon.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
