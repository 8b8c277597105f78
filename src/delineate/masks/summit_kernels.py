"""Compiled kernel of ``masks.summits``: one flood per summit, within its window. Needs numba."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


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
