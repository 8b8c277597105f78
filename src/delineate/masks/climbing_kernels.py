"""Compiled kernels of the decoding of instances: every pixel's highest neighbour, where summits lead and climbs end.

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


@njit(cache=True, nogil=True, boundscheck=False)
def leading_from(
    height: NDArray[np.float32], summits: NDArray[np.int64], prominence: np.float32, radius: int
) -> NDArray[np.int64]:
    """Return where every summit leads; see :func:`delineate.masks.summits.leading_from`."""
    rows, columns = height.shape
    side = 2 * radius + 1
    visited = np.zeros((side, side), np.int64)
    waiting = np.empty((side * side, 2), np.int64)
    led = np.empty(len(summits), np.int64)
    for index in range(len(summits)):
        y, x = summits[index] // columns, summits[index] % columns
        level = height[y, x] - prominence
        best, best_y, best_x = height[y, x], y, x
        visited[radius, radius] = index + 1
        waiting[0, 0], waiting[0, 1] = y, x
        count = 1
        while count:
            count -= 1
            here_y, here_x = waiting[count]
            for beside_y in range(max(here_y - 1, y - radius, 0), min(here_y + 2, y + radius + 1, rows)):
                for beside_x in range(max(here_x - 1, x - radius, 0), min(here_x + 2, x + radius + 1, columns)):
                    value = height[beside_y, beside_x]
                    if not value > level or visited[beside_y - y + radius, beside_x - x + radius] == index + 1:
                        continue
                    visited[beside_y - y + radius, beside_x - x + radius] = index + 1
                    waiting[count, 0], waiting[count, 1] = beside_y, beside_x
                    count += 1
                    earlier = beside_y < best_y or (beside_y == best_y and beside_x < best_x)
                    if value > best or (value == best and earlier):
                        best, best_y, best_x = value, beside_y, beside_x
        led[index] = best_y * columns + best_x
    return led
