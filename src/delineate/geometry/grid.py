"""Voxel grids in patient space.

A grid says where the voxels of an array lie. It knows nothing of files, intensities or labels.
World coordinates are LPS millimetres; arrays are indexed ``(z, y, x)`` for volumes and ``(y, x)`` for planes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delineate.errors import GeometryError

ORTHOGONALITY_TOLERANCE = 1e-3
"""Largest deviation of ``direction @ direction.T`` from identity that headers in single precision show."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A regular grid of voxel centres.

    Attributes
    ----------
    shape
        Number of voxels per array axis: ``(z, y, x)`` or ``(y, x)``.
    spacing_mm
        Distance of neighbouring voxel centres per array axis, same order as ``shape``.
    origin_mm
        World position ``(x, y, z)`` or ``(x, y)`` of the centre of the voxel with index 0.
    direction
        One unit world vector ``(x, y, z)`` per array axis, same order as ``shape``.

    Raises
    ------
    GeometryError
        If sizes disagree, a spacing is not positive and finite, or the axes are not orthonormal.
    """

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...]
    direction: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        n = len(self.shape)
        if n not in (2, 3):
            raise GeometryError(f"A grid has 2 or 3 axes; got shape {self.shape}.")
        if any(size < 1 for size in self.shape):
            raise GeometryError(f"Every axis of a grid needs at least one voxel; got shape {self.shape}.")
        if len(self.spacing_mm) != n or not all(math.isfinite(s) and s > 0 for s in self.spacing_mm):
            raise GeometryError(f"`spacing_mm` must be {n} positive numbers; got {self.spacing_mm}.")
        if len(self.origin_mm) != n or not all(math.isfinite(o) for o in self.origin_mm):
            raise GeometryError(f"`origin_mm` must be {n} finite numbers; got {self.origin_mm}.")
        axes = np.asarray(self.direction, dtype=np.float64)
        if axes.shape != (n, n) or not is_orthonormal(axes):
            raise GeometryError(f"`direction` must be {n} orthonormal vectors; got {self.direction}.")

    @staticmethod
    def regular(shape: tuple[int, ...], spacing_mm: tuple[float, ...] | None = None) -> Grid:
        """Return an axis-aligned grid at the world origin; spacing 1 mm unless given (array axis order)."""
        n = len(shape)
        # array axis i runs along world axis n-1-i: z, y, x of the array are z, y, x of the world
        direction = tuple(tuple(1.0 if w == n - 1 - i else 0.0 for w in range(n)) for i in range(n))
        spacing = spacing_mm if spacing_mm is not None else (1.0,) * n
        return Grid(shape=tuple(shape), spacing_mm=spacing, origin_mm=(0.0,) * n, direction=direction)

    @property
    def dims(self) -> int:
        """Number of array axes, 2 or 3."""
        return len(self.shape)

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in mm^3 (area in mm^2 for a plane)."""
        return math.prod(self.spacing_mm)

    @property
    def affine(self) -> NDArray[np.float64]:
        """Homogeneous matrix from array index (z, y, x) to world LPS mm (x, y, z)."""
        n = self.dims
        matrix = np.eye(n + 1)
        matrix[:n, :n] = (np.asarray(self.direction) * np.asarray(self.spacing_mm)[:, None]).T
        matrix[:n, n] = self.origin_mm
        return matrix

    def matches(self, other: Grid, *, tolerance_mm: float = 1e-2, relative: float = 1e-3) -> bool:
        """Say whether two grids put every voxel at the same place, within header precision."""
        return not self.differences(other, tolerance_mm=tolerance_mm, relative=relative)

    def differences(self, other: Grid, *, tolerance_mm: float = 1e-2, relative: float = 1e-3) -> list[str]:
        """Return one short text for each of shape, spacing, origin, direction that differs."""
        found: list[str] = []
        if self == other:
            return found
        if self.shape != other.shape:
            return [f"shape {self.shape} against {other.shape}"]
        if not np.allclose(self.spacing_mm, other.spacing_mm, rtol=relative, atol=1e-6):
            found.append(f"spacing {_short(self.spacing_mm)} against {_short(other.spacing_mm)} mm")
        if not np.allclose(self.origin_mm, other.origin_mm, rtol=0, atol=tolerance_mm):
            found.append(f"origin {_short(self.origin_mm)} against {_short(other.origin_mm)} mm")
        if not np.allclose(self.direction, other.direction, rtol=0, atol=relative):
            found.append(f"direction {_flat(self)} against {_flat(other)}")
        return found


def is_orthonormal(axes: NDArray[np.float64]) -> bool:
    """Say whether the rows of a square matrix are orthonormal, within the precision of headers."""
    return bool((np.abs(axes @ axes.T - np.eye(len(axes))) <= ORTHOGONALITY_TOLERANCE).all())


def _short(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values) + ")"


def _flat(grid: Grid) -> str:
    return _short(tuple(v for axis in grid.direction for v in axis))
