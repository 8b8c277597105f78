"""One plane of an image with its labels in colour, as a PNG: a quick look at data. Knows no files and no geometry.

The plane is the one in which the structures are largest, each counted by the share of itself that lies there.
"""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.reports import pixels

GOLDEN_TURN = 0.618034
"""Step between the hues of neighbouring labels; no two of many come close."""
LONGEST_SIDE = 4096


def fullest_plane(labels: NDArray[Any]) -> int:
    """Return the number of the plane along the first axis of ``(z, y, x)`` labels that shows most of the structures.

    The middle one if there is none.
    """
    values = [value for value in np.unique(labels) if value > 0]
    if not values:
        return len(labels) // 2
    counts = np.array([(labels == value).sum((1, 2)) for value in values], dtype=np.float64)
    return int(np.argmax((counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)))


def plane_overlay(image: NDArray[Any], labels: NDArray[Any], *, intensity: float) -> bytes:
    """Return a plane as PNG, one pixel per voxel.

    Parameters
    ----------
    image
        ``(y, x)``; shown from its least to its greatest value.
    labels
        ``(y, x)``; 0 and below stay grey.
    intensity
        How much colour is added, as a share of full brightness.
    """
    finite = image[np.isfinite(image)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    grey = pixels.to_bytes(image, (low, high if high > low else low + 1.0)).astype(np.float32)
    shown = np.repeat(grey[..., None], 3, axis=2)
    for value in np.unique(labels[labels > 0]):
        shown[labels == value] += intensity * 255.0 * np.array(_colour(int(value)), dtype=np.float32)
    bright = max(255.0, float(shown.max()))
    return pixels.png((shown * (255.0 / bright)).round().astype(np.uint8), LONGEST_SIDE)


def _colour(value: int) -> tuple[float, float, float]:
    """Return red, green and blue, 0 to 1, of a label."""
    return colorsys.hsv_to_rgb((value - 1) * GOLDEN_TURN % 1.0, 1.0, 1.0)
