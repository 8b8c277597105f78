"""A label map that is filled window by window and taken away row by row: only rows that may still change are held."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

PIECE = 256
"""Rows that are held, and given away, at a time."""


class LabelRows:
    """Rows of a label map of a fixed width.

    Parameters
    ----------
    height
        Rows of the map.
    width
        Columns of the map.
    """

    def __init__(self, height: int, width: int) -> None:
        self._height, self._width, self._first = height, width, 0
        self._pieces: dict[int, NDArray[np.int32]] = {}
        """Pieces (row, x) that hold a label, by number."""

    def put(self, origin: tuple[int, int], labels: NDArray[Any]) -> None:
        """Enter the labels above 0 of a window (y, x) whose first pixel is at ``origin``.

        Rows that were taken already must be 0 in the window.
        """
        columns = slice(origin[1], origin[1] + labels.shape[1])
        first = max(origin[0], self._first)
        for number in range(first // PIECE, -(-(origin[0] + len(labels)) // PIECE)):
            top = number * PIECE
            rows = slice(max(first, top), min(origin[0] + len(labels), top + PIECE))
            window = labels[rows.start - origin[0] : rows.stop - origin[0]]
            inside = window > 0
            if inside.any():
                part = self._piece(number)[rows.start - top : rows.stop - top, columns]
                part[inside] = window[inside]

    def taken(self, until: int) -> Iterator[NDArray[np.int32]]:
        """Take the rows up to ``until`` that were not taken yet, from top to bottom: (row, x) int32 each time."""
        until = min(until, self._height)
        while self._first < until:
            number, skipped = divmod(self._first, PIECE)
            count = min(until - self._first, PIECE - skipped)
            self._first += count
            whole = self._first % PIECE == 0
            held = self._pieces.pop(number, None) if whole else self._piece(number)
            yield np.zeros((count, self._width), dtype=np.int32) if held is None else held[skipped : skipped + count]

    def _piece(self, number: int) -> NDArray[np.int32]:
        if number not in self._pieces:
            self._pieces[number] = np.zeros((PIECE, self._width), dtype=np.int32)
        return self._pieces[number]
