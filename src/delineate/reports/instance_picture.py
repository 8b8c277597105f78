"""A picture with the outlines of its instances, coloured by type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.execution.atomic import write_bytes
from delineate.reports.pixels import png, to_bytes, window_of

LONGEST_SIDE = 4096
"""Pixels; larger pictures are made smaller."""
COLOURS = np.array(
    [(255, 230, 0), (230, 60, 60), (60, 200, 90), (70, 140, 255), (255, 160, 40), (200, 90, 255), (60, 220, 220)],
    dtype=np.uint8,
)
"""RGB without a type, and per type in turn."""


def instance_picture(picture: NDArray[Any], labels: NDArray[np.int32], types: NDArray[np.int64], path: Path) -> None:
    """Write a PNG of a picture (y, x, 1 or 3) with the rim of every instance of ``labels`` (y, x) in colour.

    Raises
    ------
    ResourceError
        If the file cannot be written.
    """
    shown = to_bytes(picture, window_of(picture))
    shown = np.repeat(shown, 3, axis=2) if shown.shape[2] == 1 else shown.copy()
    step = max(1, -(-max(labels.shape) // LONGEST_SIDE))
    shown, numbers = shown[::step, ::step], labels[::step, ::step]
    rim = (numbers > 0) & (ndimage.minimum_filter(numbers, 3) != ndimage.maximum_filter(numbers, 3))
    kinds = np.concatenate([[0], np.where(types > 0, (types - 1) % (len(COLOURS) - 1) + 1, 0)])
    shown[rim] = COLOURS[kinds[numbers[rim]]]
    write_bytes(path, png(np.ascontiguousarray(shown), LONGEST_SIDE))
