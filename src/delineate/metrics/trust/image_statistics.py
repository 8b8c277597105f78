"""What an image is like, in some numbers: header, intensities, noise, sharpness, where the brightness lies.

They need no network, and tell another scanner, another modality or a mistake in the header from the training images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.geometry.grid import Grid

PERCENTILES = (1, 10, 25, 50, 75, 90, 99)
MOST_PLANES = 24
"""Planes of a volume whose intensities are looked at, evenly spread."""
AXES = ("z", "y", "x")
LETTERS = (("R", "L"), ("A", "P"), ("I", "S"))
"""Where negative and positive world coordinates lie (LPS), per world axis."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageStatistics:
    """The numbers of one image."""

    values: Mapping[str, float]
    """By name in words; finite."""
    orientation: str
    """World direction of every array axis, such as ``SPL`` for (z, y, x)."""


def image_statistics(array: NDArray[Any], grid: Grid) -> ImageStatistics:
    """Measure an image.

    Parameters
    ----------
    array
        (channel, z, y, x) or (channel, y, x), any real dtype, as read: before any normalisation.
    grid
        Where the voxels lie.
    """
    values = dict(_header(grid))
    several = len(array) > 1
    for number, channel in enumerate(array):
        prefix = f"channel {number} " if several else ""
        volume = channel if channel.ndim == 3 else channel[None]
        values |= {prefix + name: value for name, value in _intensities(volume, grid).items()}
    return ImageStatistics(values=values, orientation=orientation_of(grid))


def orientation_of(grid: Grid) -> str:
    """Return the world direction that each array axis runs along most: one letter of R L A P I S per axis."""
    letters = []
    for axis in grid.direction:
        world = int(np.argmax(np.abs(axis)))
        letters.append(LETTERS[world][axis[world] > 0])
    return "".join(letters)


def _header(grid: Grid) -> dict[str, float]:
    names = AXES[-grid.dims :]
    spacing = {f"spacing {a}": math.log(s) for a, s in zip(names, grid.spacing_mm, strict=True)}
    sizes = zip(names, grid.shape, grid.spacing_mm, strict=True)
    return spacing | {f"extent {a}": math.log(n * s) for a, n, s in sizes}


def _intensities(volume: NDArray[Any], grid: Grid) -> dict[str, float]:
    """Measure one channel (z, y, x); logarithms and ratios, so that values of different scale compare."""
    chosen = np.unique(np.linspace(0, len(volume) - 1, MOST_PLANES).round().astype(int))
    planes = volume[chosen].astype(np.float64)
    low, *inner, high = (float(v) for v in np.percentile(planes, PERCENTILES))
    width = max(high - low, 1e-12)
    unit = (planes - low) / width
    found = {"intensity range": math.log(width), "intensity level": math.asinh((low + width / 2) / width)}
    found |= {f"percentile {p}": (v - low) / width for p, v in zip(PERCENTILES[1:-1], inner, strict=True)}
    found["negative intensities"] = float((planes < 0).mean())
    found["share of zeros"] = float((planes == 0).mean())
    found |= _texture(unit)
    return found | _brightness(np.clip(unit, 0, 1), grid)


def _texture(unit: NDArray[np.float64]) -> dict[str, float]:
    """Measure noise and sharpness in the planes (n, y, x), and how much of the contrast is of large extent."""
    found = {}
    second = np.abs(np.diff(unit, 2, axis=2)) if unit.shape[2] > 2 else np.zeros(1)
    found["noise"] = math.log(float(np.median(second)) + 1e-4)
    for axis, name in ((1, "y"), (2, "x")):
        if unit.shape[axis] > 2:
            near = float(np.abs(np.diff(unit, axis=axis)).mean())
            ahead, behind = [slice(None)] * 3, [slice(None)] * 3
            ahead[axis], behind[axis] = slice(2, None), slice(None, -2)
            far = float(np.abs(unit[tuple(ahead)] - unit[tuple(behind)]).mean())
            found[f"sharpness {name}"] = math.log((near + 1e-6) / (far + 1e-6))
    blocks = [np.array_split(unit, min(4, unit.shape[1]), axis=1)]
    means = [part.mean() for rows in blocks[0] for part in np.array_split(rows, min(4, rows.shape[2]), axis=2)]
    found["unevenness"] = math.log(float(np.std(means)) / (float(unit.std()) + 1e-9) + 1e-3)
    return found


def _brightness(unit: NDArray[np.float64], grid: Grid) -> dict[str, float]:
    """Return where the centre of the brightness lies, -0.5 to 0.5 of the extent, towards L, P and S."""
    found = {}
    total = float(unit.sum()) or 1.0
    directions = grid.direction if grid.dims == 3 else ((0.0, 0.0, 0.0), *grid.direction)
    for axis in range(3 - grid.dims, 3):
        world = int(np.argmax(np.abs(directions[axis])))
        n = unit.shape[axis]
        profile = unit.sum(axis=tuple(a for a in range(3) if a != axis))
        centre = float(profile @ (np.arange(n) - (n - 1) / 2) / max(n, 1)) / total
        found[f"brightness towards {LETTERS[world][1]}"] = centre * (1 if directions[axis][world] > 0 else -1)
    return found
