"""Shapes that writers and readers of structure sets get wrong: thin, hollow, small, many; and some of known volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

ANALYTIC_ML = {
    "sphere r30": 4 / 3 * np.pi * 3.0**3,
    "shell 30-24": 4 / 3 * np.pi * (3.0**3 - 2.4**3),
    "cube 40": 4.0**3,
    "torus 25 by 9": 2 * np.pi**2 * 2.5 * 0.9**2,
    "hollow cylinder": np.pi * (2.5**2 - 1.4**2) * 6.0,
}
"""Volumes of the ideal bodies."""
SHAPE, SPACING = (60, 256, 256), (2.5, 0.977, 0.977)


def shapes() -> dict[str, NDArray[np.bool_]]:
    """Name -> mask (z, y, x) on the same grid."""
    z, y, x = (
        (np.arange(n) - n // 2).reshape([-1 if axis == i else 1 for i in range(3)]) * spacing
        for axis, (n, spacing) in enumerate(zip(SHAPE, SPACING, strict=True))
    )
    ball, tube = np.sqrt(z**2 + y**2 + x**2), np.sqrt((y - 4.3) ** 2 + (x + 7.1) ** 2) + 0 * z
    one = np.zeros(SHAPE, dtype=bool)
    one[30, 100, 120] = True
    noise = gaussian_filter(np.random.default_rng(2).normal(size=SHAPE), (0.6, 1.0, 1.0))
    return {
        "sphere r30": ball <= 30,
        "sphere r10": ball <= 10,
        "sphere r5": ball <= 5,
        "tube r3": (tube <= 3) & (np.abs(z) < 50),
        "tube r1.5": (tube <= 1.5) & (np.abs(z) < 50),
        "shell 30-24": (ball <= 30) & (ball > 24),
        "ring 2 mm": (tube <= 21) & (tube > 19) & (np.abs(z) < 20),
        "island in hole": (ball <= 30) & ((ball > 20) | (ball <= 8)),
        "one voxel": one,
        "cube 40": (np.abs(z - 1.25) < 20) & (np.abs(y - 0.3) < 20) & (np.abs(x + 0.2) < 20),
        "torus 25 by 9": (np.sqrt(y**2 + x**2) - 25) ** 2 + z**2 <= 81,
        "hollow cylinder": (tube <= 25) & (tube > 14) & (np.abs(z - 1.25) < 30),
        "noisy blobs": (noise > 1.5 * noise.std()) & (ball < 60),
    }


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Dice of two masks."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0
