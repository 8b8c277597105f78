"""Maps of a large picture, computed block by block ahead of the windows that are asked for, and soon forgotten.

Blocks stand on one grid, whatever the windows are. A thread computes them in the order in which windows first need
them, a few ahead, while the caller works on the window before. Of a block only the rows that a later window needs are
held: memory grows with the width of the picture and not with its height.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.execution import Cancellation

AHEAD = 2
"""Blocks that are computed before a window asks for them; more would only wait."""

Window = tuple[slice, slice]
"""Rows and columns of a picture."""
_Place = tuple[int, int]
"""Row and column of a block in the grid."""


class Blocks:
    """The maps of windows of a picture; to be used in a ``with`` statement, which ends the thread.

    Parameters
    ----------
    shape
        Rows and columns of the picture.
    block
        Rows and columns of a block; those at the lower and right border are smaller.
    windows
        What will be asked for, in this order; none begins above the one before.
    compute
        Rows and columns of a block to its maps (map, y, x).
    cancellation
        Who may stop it, between two blocks.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        block: tuple[int, int],
        windows: Sequence[Window],
        compute: Callable[[slice, slice], NDArray[Any]],
        cancellation: Cancellation,
    ) -> None:
        self._shape, self._block, self._windows, self._compute = shape, block, windows, compute
        self._uses: dict[_Place, deque[int]] = {}
        """Numbers of the windows that still need a block; blocks in the order of their first use."""
        self._until: list[int] = []
        """Per window, how many blocks it and those before it need."""
        for index, window in enumerate(windows):
            for place in self._places(window):
                self._uses.setdefault(place, deque()).append(index)
            self._until.append(len(self._uses))
        self._order = tuple(self._uses)
        self._coming: dict[_Place, Future[_Part]] = {}
        self._held: dict[_Place, _Part] = {}
        self._asked = 0
        self._thread, self._cancellation = ThreadPoolExecutor(1, thread_name_prefix="maps"), Cancellation(cancellation)

    def __enter__(self) -> Blocks:
        return self

    def __exit__(self, *_: object) -> None:
        self._cancellation.request()
        self._thread.shutdown(cancel_futures=True)

    def window(self, index: int) -> NDArray[Any]:
        """Return the maps (map, y, x) of a window; after it, no earlier one can be asked for.

        Raises
        ------
        Interrupted
            If a stop was requested.
        """
        for place in self._order[self._asked : self._until[index] + AHEAD]:
            self._coming[place] = self._thread.submit(self._made, place)
            self._asked += 1
        rows, columns = self._windows[index]
        places = self._places(self._windows[index])
        for place in places:
            if place in self._coming:
                self._held[place] = self._coming.pop(place).result()
        first = self._held[places[0]].maps
        joined = np.empty((len(first), rows.stop - rows.start, columns.stop - columns.start), first.dtype)
        for place in places:
            self._held[place].enter(joined, rows, columns)
            self._use(place)
        return joined

    def _places(self, window: Window) -> list[_Place]:
        """Return the blocks that a window touches."""
        down, across = (
            range(along.start // size, -(-along.stop // size)) for along, size in zip(window, self._block, strict=True)
        )
        return list(itertools.product(down, across))

    def _made(self, place: _Place) -> _Part:
        self._cancellation.check()
        rows, columns = (
            slice(index * size, min((index + 1) * size, length))
            for index, size, length in zip(place, self._block, self._shape, strict=True)
        )
        return _Part(top=rows.start, left=columns.start, maps=self._compute(rows, columns))

    def _use(self, place: _Place) -> None:
        """Count a window's use of a block; let go of what the later windows do not need."""
        uses = self._uses[place]
        uses.popleft()
        if uses:
            self._held[place] = self._held[place].below(self._windows[uses[0]][0].start)
        else:
            del self._held[place]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Part:
    """Maps of a block, or of its lower rows."""

    top: int
    left: int
    """Where it begins in the picture."""
    maps: NDArray[Any]
    """(map, y, x)"""

    def below(self, row: int) -> _Part:
        """Return it without the rows above a row of the picture."""
        if row <= self.top:
            return self
        return _Part(top=row, left=self.left, maps=self.maps[:, row - self.top :].copy())

    def enter(self, window: NDArray[Any], rows: slice, columns: slice) -> None:
        """Copy what lies in a window (map, y, x) with these rows and columns."""
        top, bottom = max(self.top, rows.start), min(self.top + self.maps.shape[1], rows.stop)
        left, right = max(self.left, columns.start), min(self.left + self.maps.shape[2], columns.stop)
        window[:, top - rows.start : bottom - rows.start, left - columns.start : right - columns.start] = self.maps[
            :, top - self.top : bottom - self.top, left - self.left : right - self.left
        ]
