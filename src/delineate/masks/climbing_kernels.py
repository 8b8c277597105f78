"""Compiled kernels of the decoding of instances: the highest neighbour of every pixel, and where climbs end.

They need numba, and give the numbers of the numpy code that stands in for them.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True, boundscheck=False)
def uphill(ground: NDArray[np.float32], foreground: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the flat position of the highest neighbour of each foreground pixel (y, x), or its own."""
    rows, columns = ground.shape
    target = np.empty(rows * columns, np.int64)
    for y in range(rows):
        for x in range(columns):
            place = y * columns + x
            target[place] = place
            if not foreground[y, x]:
                continue
            best = ground[y, x]
            for beside_y in range(max(y - 1, 0), min(y + 2, rows)):
                for beside_x in range(max(x - 1, 0), min(x + 2, columns)):
                    if ground[beside_y, beside_x] > best:
                        best = ground[beside_y, beside_x]
                        target[place] = beside_y * columns + beside_x
    return target


@njit(cache=True, nogil=True, boundscheck=False)
def arrivals(
    starts: NDArray[np.int64],
    target: NDArray[np.int64],
    number: NDArray[np.int32],
    leaps: NDArray[np.bool_],
    most_steps: int,
    most_leaps: int,
) -> NDArray[np.int32]:
    """Return per pixel (flat) the number that the way from it arrives at; 0 beyond the steps or leaps."""
    owner = np.zeros(len(target), np.int32)
    for start in starts:
        place, leapt = start, 0
        for _ in range(most_steps):
            if number[place]:
                owner[start] = number[place]
                break
            if target[place] == place or (leaps[place] and leapt == most_leaps):
                break
            leapt += leaps[place]
            place = target[place]
    return owner
