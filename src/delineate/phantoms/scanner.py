"""Scanners: how a patient becomes a CT series. Grid, resolution, noise and calibration; knows no anatomy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.geometry.grid import Grid

AIR_HU = -1024
"""Lowest value of a CT series."""
CORRELATED_SHARE = 0.5
"""Share of the noise variance that is smooth, as reconstruction kernels leave it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scanner:
    """A scanner with its protocol."""

    name: str
    spacing_mm: tuple[float, float, float]
    """Voxel size (z, y, x)."""
    field_mm: tuple[float, float, float] = (270.0, 264.0, 372.0)
    """Extent of the volume (z, y, x)."""
    blur_mm: float = 2.0
    """Standard deviation of the reconstruction kernel in the body; a soft kernel blurs more."""
    noise_hu: float = 12.0
    """Standard deviation of the noise."""
    offset_hu: float = 0.0
    """Error of calibration."""
    flips: tuple[bool, bool, bool] = (False, False, False)
    """Which array axes (z, y, x) run against the world axes."""
    tilt_deg: tuple[float, float] = (0.0, 0.0)
    """Turns of the grid about world x and z: an oblique volume."""

    def grid(self, center_mm: tuple[float, float, float], scale: float = 1.0) -> Grid:
        """Return the grid of a volume around a world point (LPS mm); ``scale`` multiplies the voxel size."""
        spacing = tuple(s * scale for s in self.spacing_mm)
        shape = tuple(max(2, round(f / s)) for f, s in zip(self.field_mm, spacing, strict=True))
        axes = self._axes()
        half = [(n - 1) / 2 * s for n, s in zip(shape, spacing, strict=True)]
        origin = np.asarray(center_mm) - sum(h * a for h, a in zip(half, axes, strict=True))
        return Grid(
            shape=shape,
            spacing_mm=spacing,
            origin_mm=tuple(float(o) for o in origin),
            direction=tuple(tuple(float(v) for v in axis) for axis in axes),
        )

    def acquire(self, hu: NDArray[np.float32], grid: Grid, generator: np.random.Generator) -> NDArray[np.int16]:
        """Return what the scanner makes of exact attenuation ``(z, y, x)`` in HU: blurred, noisy, whole numbers."""
        blurred = ndimage.gaussian_filter(hu, [self.blur_mm / s for s in grid.spacing_mm], mode="nearest")
        white = generator.standard_normal(hu.shape, dtype=np.float32)
        smooth = ndimage.gaussian_filter(generator.standard_normal(hu.shape, dtype=np.float32), 1.0)
        smooth /= max(float(smooth.std()), 1e-6)
        noise = math.sqrt(1 - CORRELATED_SHARE) * white + math.sqrt(CORRELATED_SHARE) * smooth
        measured = blurred + self.offset_hu + self.noise_hu * noise
        return np.asarray(np.clip(np.rint(measured), AIR_HU, 3071), dtype=np.int16)

    def _axes(self) -> list[NDArray[np.float64]]:
        about_x, about_z = (math.radians(angle) for angle in self.tilt_deg)
        cx, sx, cz, sz = math.cos(about_x), math.sin(about_x), math.cos(about_z), math.sin(about_z)
        turn = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        world = np.eye(3)[::-1]  # array axes z, y, x run along world z, y, x
        return [(-1 if flip else 1) * turn @ axis for flip, axis in zip(self.flips, world, strict=True)]


SCANNERS: tuple[Scanner, ...] = (
    Scanner(name="soft", spacing_mm=(6.0, 6.0, 6.0), blur_mm=2.5, noise_hu=8.0),
    Scanner(name="sharp", spacing_mm=(6.0, 5.6, 5.6), blur_mm=1.2, noise_hu=20.0, offset_hu=6.0),
    Scanner(name="thick", spacing_mm=(9.0, 5.2, 5.2), blur_mm=2.0, noise_hu=10.0, offset_hu=-5.0),
    Scanner(name="oblique", spacing_mm=(6.5, 5.8, 5.8), noise_hu=14.0, tilt_deg=(9.0, -6.0), flips=(False, True, True)),
)
"""Four scanners of different habits, at the coarse resolution of demo and tests; `scale` refines them."""
