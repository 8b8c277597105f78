"""How large objects are, and how much larger pictures should be made so that a network sees objects of its size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

TYPICAL_PIXELS = 20.0
"""Diameter of nuclei at 40 times magnification, about; training varies it from 0.7 to 1.45 times."""
FITTING = (10.0, 40.0)
"""Median diameters in pixels that need no zoom."""


def diameters_of(instances: NDArray[Any]) -> NDArray[np.float64]:
    """Return the diameter, in pixels, of the disc of equal area of every instance of a plane (y, x)."""
    areas = np.bincount(instances.ravel())[1:]
    diameters: NDArray[np.float64] = np.sqrt(areas[areas > 0] * 4 / np.pi)
    return diameters


def median_diameter(diameters: Sequence[NDArray[np.float64]]) -> float:
    """Return the median over all instances of all pictures, in pixels; NaN if there is none."""
    every = np.concatenate([np.zeros(0), *diameters])
    return float(np.median(every)) if len(every) else float("nan")


def zoom_for(median: float) -> float:
    """Return the factor that brings objects to their typical size; 1 where they are near it, or there is none."""
    if not median > 0 or FITTING[0] <= median <= FITTING[1]:
        return 1.0
    return float(np.clip(round(TYPICAL_PIXELS / median, 2), 0.05, 8.0))
