"""Solids in patient space: is a point inside? Knows millimetres, not voxels or tissues.

World LPS mm: x grows to the patient's left, y to the back, z to the head. Every solid answers ``inside`` for arrays of
coordinates, so that it can be sampled as finely as wanted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from delineate.geometry.grid import Grid

Coordinates = NDArray[np.float32]
Vector = tuple[float, float, float]


Box = tuple[Vector, Vector]
"""Lowest and highest corner (LPS mm)."""
EVERYWHERE: Box = ((-math.inf,) * 3, (math.inf,) * 3)


class Solid(Protocol):
    """Anything that can say which points lie inside it."""

    @property
    def box(self) -> Box:
        """A box around the solid, outside which no point is inside."""
        ...

    def inside(self, x: Coordinates, y: Coordinates, z: Coordinates) -> NDArray[np.bool_]:
        """Return which points (LPS mm; three arrays of one shape) lie inside."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Ellipsoid:
    """An ellipsoid, turned about the z axis, cut off by half spaces, with a boundary as sharp as ``power`` says."""

    center_mm: Vector
    radii_mm: Vector
    turn_deg: float = 0.0
    """Turn about z, from x towards y."""
    tilt_deg: float = 0.0
    """Turn about y before, from x towards z."""
    power: float = 2.0
    """2 is an ellipsoid, 2.5 is boxier."""
    cuts: tuple[tuple[Vector, float], ...] = ()
    """Half spaces ``normal . (p - center) < distance_mm`` that the solid is limited to."""

    def inside(self, x: Coordinates, y: Coordinates, z: Coordinates) -> NDArray[np.bool_]:
        """Return which points lie inside."""
        u, v, w = _turned(x - self.center_mm[0], y - self.center_mm[1], z - self.center_mm[2], self)
        a, b, c = self.radii_mm
        result = _power(u / a, self.power) + _power(v / b, self.power) + _power(w / c, self.power) < 1
        for (nx, ny, nz), distance in self.cuts:
            dx, dy, dz = x - self.center_mm[0], y - self.center_mm[1], z - self.center_mm[2]
            result &= nx * dx + ny * dy + nz * dz < distance
        return result

    @property
    def volume_mm3(self) -> float:
        """Exact volume of the uncut ellipsoid (``power`` 2)."""
        return 4 / 3 * math.pi * math.prod(self.radii_mm)

    @property
    def box(self) -> Box:
        """The box around the turned box of the radii."""
        unit = np.eye(3, dtype=np.float32)
        turned = np.stack(_turned(unit[0], unit[1], unit[2], self))  # rows: own axes, columns: world axes
        half = np.abs(turned).T @ np.asarray(self.radii_mm)
        return _corners(self.center_mm, half)


def _corners(center: Sequence[float], half: NDArray[np.float64]) -> Box:
    low, high = np.asarray(center) - half, np.asarray(center) + half
    return (float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2]))


def _power(values: Coordinates, power: float) -> Coordinates:
    """Return ``abs(values) ** power``; without the slow general power for the two exponents in use."""
    if power == 2.0:
        return values * values
    if power == 2.5:
        return values * values * np.sqrt(np.abs(values))
    return np.asarray(np.abs(values) ** np.float32(power), dtype=np.float32)


def _turned(dx: Coordinates, dy: Coordinates, dz: Coordinates, solid: Ellipsoid) -> tuple[Coordinates, ...]:
    if solid.turn_deg:
        c, s = math.cos(math.radians(solid.turn_deg)), math.sin(math.radians(solid.turn_deg))
        dx, dy = c * dx + s * dy, c * dy - s * dx
    if solid.tilt_deg:
        c, s = math.cos(math.radians(solid.tilt_deg)), math.sin(math.radians(solid.tilt_deg))
        dx, dz = c * dx + s * dz, c * dz - s * dx
    return dx, dy, dz


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """An upright column with a superelliptic section, whose axis may wander with the height."""

    center_mm: tuple[float, float]
    """Position (x, y) of the axis at z = 0."""
    radii_mm: tuple[float, float]
    power: float = 2.0
    bottom_mm: float = -math.inf
    top_mm: float = math.inf
    lean: tuple[float, float] = (0.0, 0.0)
    """Shift of the axis in x and y per mm of height."""
    sway_mm: tuple[float, float] = (0.0, 0.0)
    """Amplitude of a slow wave of the axis (period ``SWAY_PERIOD_MM``) in x and y."""

    def inside(self, x: Coordinates, y: Coordinates, z: Coordinates) -> NDArray[np.bool_]:
        """Return which points lie inside."""
        wave = np.sin(z * np.float32(2 * math.pi / SWAY_PERIOD_MM)) if any(self.sway_mm) else np.float32(0)
        bent = any(self.sway_mm) or any(self.lean)
        dx = self.center_mm[0] + self.lean[0] * z + self.sway_mm[0] * wave if bent else self.center_mm[0]
        dy = self.center_mm[1] + self.lean[1] * z + self.sway_mm[1] * wave if bent else self.center_mm[1]
        u, v = (x - dx) / self.radii_mm[0], (y - dy) / self.radii_mm[1]
        return (_power(u, self.power) + _power(v, self.power) < 1) & (z > self.bottom_mm) & (z < self.top_mm)

    @property
    def box(self) -> Box:
        """The box of the section, without limits in x and y where the axis leans or sways."""
        if any(self.lean) or any(self.sway_mm):
            return (-math.inf, -math.inf, self.bottom_mm), (math.inf, math.inf, self.top_mm)
        (cx, cy), (rx, ry) = self.center_mm, self.radii_mm
        return (cx - rx, cy - ry, self.bottom_mm), (cx + rx, cy + ry, self.top_mm)


SWAY_PERIOD_MM = 260.0
"""About the length of the abdominal aorta."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tube:
    """A vessel along a broken line, thinner towards its end."""

    points_mm: tuple[Vector, ...]
    radius_mm: float
    taper: float = 1.0
    """Radius at the end as a share of that at the start."""

    def inside(self, x: Coordinates, y: Coordinates, z: Coordinates) -> NDArray[np.bool_]:
        """Return which points lie inside; points are looked at only in the tube's box."""
        result = np.zeros(x.shape, dtype=np.bool_)
        low, high = self.box
        near = np.flatnonzero(
            ((x > low[0]) & (x < high[0]) & (y > low[1]) & (y < high[1]) & (z > low[2]) & (z < high[2])).ravel()
        )
        points = np.stack([x.ravel()[near], y.ravel()[near], z.ravel()[near]], axis=1)
        result.ravel()[near] = self._near(points)
        return result

    @property
    def box(self) -> Box:
        """The box of the line, wider by the radius."""
        points = np.asarray(self.points_mm)
        low, high = points.min(axis=0), points.max(axis=0)
        return _corners((low + high) / 2, (high - low) / 2 + self.radius_mm * max(1.0, self.taper))

    def _near(self, points: NDArray[np.float32]) -> NDArray[np.bool_]:
        result = np.zeros(len(points), dtype=np.bool_)
        pieces = len(self.points_mm) - 1
        for i, (start, end) in enumerate(zip(self.points_mm[:-1], self.points_mm[1:], strict=True)):
            a, ab = np.asarray(start, np.float32), np.subtract(end, start, dtype=np.float32)
            along = np.clip((points - a) @ ab / float(ab @ ab), 0, 1)
            radius = self.radius_mm * (1 + (self.taper - 1) * (i + along) / pieces)
            result |= ((points - a - along[:, None] * ab) ** 2).sum(axis=1) < radius**2
        return result


@dataclass(frozen=True, kw_only=True, slots=True)
class Both:
    """The points that lie in every one of some solids."""

    parts: tuple[Solid, ...]

    def inside(self, x: Coordinates, y: Coordinates, z: Coordinates) -> NDArray[np.bool_]:
        """Return which points lie inside all parts."""
        result = self.parts[0].inside(x, y, z)
        for part in self.parts[1:]:
            result &= part.inside(x, y, z)
        return result

    @property
    def box(self) -> Box:
        """The common box of the parts."""
        lows, highs = zip(*(part.box for part in self.parts), strict=True)
        low, high = np.max(lows, axis=0), np.min(highs, axis=0)
        return (float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Without:
    """The points of one solid that lie in none of some others."""

    whole: Solid
    holes: tuple[Solid, ...]

    def inside(self, x: Coordinates, y: Coordinates, z: Coordinates) -> NDArray[np.bool_]:
        """Return which points lie in the whole but in no hole."""
        result = self.whole.inside(x, y, z)
        for hole in self.holes:
            result &= ~hole.inside(x, y, z)
        return result

    @property
    def box(self) -> Box:
        """The box of the whole."""
        return self.whole.box


@dataclass(frozen=True, kw_only=True, slots=True)
class Ribs:
    """Slanting bony bands in a ring about an axis: ribs, seen from far."""

    radii_mm: tuple[float, float]
    thickness: float
    """Of the ring, as a share of its radius."""
    pitch_mm: float = 27.0
    height_mm: float = 10.0
    slant: float = 0.55
    """Drop per mm from back to front."""
    bottom_mm: float = -25.0

    def inside(self, x: Coordinates, y: Coordinates, z: Coordinates) -> NDArray[np.bool_]:
        """Return which points lie inside."""
        ring = np.sqrt((x / self.radii_mm[0]) ** 2 + (y / self.radii_mm[1]) ** 2)
        band = np.mod(z + self.slant * y, self.pitch_mm) < self.height_mm
        # the lowest ribs float: they end before the front
        cover = z > self.bottom_mm - np.float32(1.1) * y
        inside: NDArray[np.bool_] = (np.abs(ring - 1) < self.thickness / 2) & band & cover
        return inside

    @property
    def box(self) -> Box:
        """The box of the ring."""
        (rx, ry), grow = self.radii_mm, 1 + self.thickness
        return (-rx * grow, -ry * grow, -math.inf), (rx * grow, ry * grow, math.inf)


def sample_points(grid: Grid, factor: int, slab: slice) -> tuple[Coordinates, Coordinates, Coordinates]:
    """Return world coordinates (LPS mm) of ``factor`` ** 3 points per voxel in a slab of the grid.

    Parameters
    ----------
    grid
        A volume grid ``(z, y, x)``.
    factor
        Points per voxel and axis; they sit in the middle of equal parts of the voxel.
    slab
        Which voxels of the first axis.

    Returns
    -------
    x, y, z
        Each ``(factor * slab, factor * y, factor * x)`` float32.
    """
    starts = (slab.start, 0, 0)
    stops = (slab.stop, *grid.shape[1:])
    steps = [(np.arange(factor * (b - a)) + 0.5) / factor - 0.5 + a for a, b in zip(starts, stops, strict=True)]
    axes = [np.asarray(d) * s for d, s in zip(grid.direction, grid.spacing_mm, strict=True)]
    return _summed(steps, axes, grid.origin_mm)


def _summed(
    steps: Sequence[NDArray[np.float64]], axes: Sequence[NDArray[np.float64]], origin_mm: Sequence[float]
) -> tuple[Coordinates, Coordinates, Coordinates]:
    i, j, k = steps
    x, y, z = (
        (origin_mm[w] + i[:, None, None] * axes[0][w] + j[None, :, None] * axes[1][w] + k * axes[2][w]).astype(
            np.float32
        )
        for w in range(3)
    )
    return x, y, z
