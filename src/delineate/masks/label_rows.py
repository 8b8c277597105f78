"""A label map that is filled window by window and taken away row by row: only rows that may still change are held."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class LabelRows:
    """Rows of a label map of a fixed width.

    Parameters
    ----------
    width
        Columns of the map.
    height
        Rows of the map.
    """

    def __init__(self, height: int, width: int) -> None:
        self._height, self._first = height, 0
        self._rows = np.zeros((0, width), dtype=np.int32)

    def put(self, origin: tuple[int, int], labels: NDArray[Any]) -> None:
        """Enter the labels above 0 of a window (y, x) whose first pixel is at ``origin``.

        Rows that were taken already must be 0 in the window.
        """
        skipped = max(0, self._first - origin[0])
        top, window = origin[0] + skipped - self._first, labels[skipped:]
        used = np.flatnonzero(window.any(axis=1))
        if not len(used):
            return
        window = window[: used[-1] + 1]
        missing = top + len(window) - len(self._rows)
        if missing > 0:
            self._rows = np.concatenate([self._rows, np.zeros((missing, self._rows.shape[1]), dtype=np.int32)])
        part = self._rows[top : top + len(window), origin[1] : origin[1] + window.shape[1]]
        part[window > 0] = window[window > 0]

    def taken(self, until: int) -> NDArray[np.int32]:
        """Take the rows up to ``until`` that were not taken yet: (row, x) int32."""
        count = max(0, min(until, self._height) - self._first)
        block = np.zeros((count, self._rows.shape[1]), dtype=np.int32)
        held = self._rows[:count]
        block[: len(held)] = held
        self._rows, self._first = self._rows[count:].copy(), self._first + count
        return block
