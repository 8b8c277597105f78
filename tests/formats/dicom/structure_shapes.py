"""Shapes that writers and readers of structure sets get wrong: thin, hollow, small, many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

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
        "noisy blobs": (noise > 1.5 * noise.std()) & (ball < 60),
    }


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Dice of two masks."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0
