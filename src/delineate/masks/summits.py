"""Summits of a height map that stand out, and where the others lead: decided by what lies within a radius alone.

A summit is passed over if from it a higher one can be reached without going down by the prominence, within the radius.
That is the rule of h-maxima, but for the radius, which makes the answer the same in every tile that holds it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.masks.compiled import kernels

KERNELS = "delineate.masks.climbing_kernels"
PIXELS_PER_SUMMIT = 1 << 10
"""Of its window that are worth compiled kernels."""


def leading_from(
    height: NDArray[np.float32], summits: NDArray[np.int64], prominence: float, radius: int
) -> NDArray[np.int64]:
    """Return, per summit, the flat position it leads to: its own if it stands out.

    Parameters
    ----------
    height
        (y, x); minus infinity where nobody goes.
    summits
        Flat positions.
    prominence
        How far one may go down on the way, exclusive.
    radius
        Pixels along each axis that are looked at.

    Returns
    -------
    (summit,) int64
        The highest place that can be reached, if it is higher than the summit. Of places of equal height the one that
        comes first from the top left counts as the highest.
    """
    compiled = kernels(KERNELS, PIXELS_PER_SUMMIT * len(summits))
    if compiled is not None:
        led: NDArray[np.int64] = compiled.leading_from(height, summits, np.float32(prominence), radius)
        return led
    return np.array([_led(height, int(place), np.float32(prominence), radius) for place in summits], dtype=np.int64)


def _led(height: NDArray[np.float32], place: int, prominence: np.float32, radius: int) -> int:
    columns = int(height.shape[1])
    y, x = divmod(place, columns)
    top, left = max(0, y - radius), max(0, x - radius)
    window = height[top : y + radius + 1, left : x + radius + 1]
    parts, _ = ndimage.label(window > height[y, x] - prominence, np.ones((3, 3)))
    reached = np.where(parts == parts[y - top, x - left], window, -np.inf)
    row, column = divmod(int(reached.argmax()), int(window.shape[1]))
    return (top + row) * columns + left + column
