"""Where basins of a height map end: against each other, with the passes between them, and against nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Rows and columns from a pixel to those of its neighbours that come after it; the first two share an edge with it."""

Real = NDArray[np.float64]
Whole = NDArray[np.int64]
Places = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows and columns of pixels."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Meeting:
    """Pixels, and their neighbours in one direction, where the two belong to different basins or one to none."""

    here: Places
    there: Places
    owners: Whole
    """(pixel, 2)."""
    sides: tuple[Real, Real] | None
    """Twice (pixel, 7): what the outline has there, seen from here and from there; None if they share no edge."""


def find_meetings(maps: NDArray[Any], basins: NDArray[np.int32]) -> Iterator[Meeting]:
    """Yield, direction by direction, where basins (y, x) end; maps (3, y, x) are foreground, interior and distance."""
    height, width = basins.shape
    for down, across in _SHIFTS:
        first = basins[: height - down, max(0, -across) : width - max(0, across)]
        second = basins[down:, max(0, across) : width + min(0, across)]
        y, x = np.nonzero(first != second)
        x = x + max(0, -across)
        here, there = (y, x), (y + down, x + across)
        owners = np.stack([basins[here], basins[there]], axis=1).astype(np.int64)
        shares_edge = down + abs(across) == 1
        yield Meeting(
            here=here, there=there, owners=owners, sides=_sides(maps, here, there, owners) if shares_edge else None
        )


def _sides(maps: NDArray[Any], here: Places, there: Places, owners: Whole) -> tuple[Real, Real]:
    """Return twice (edge, 7) what the outline has at pixel edges, seen from either side."""
    ones = np.ones(len(owners))
    near, far = ([plane[place].astype(np.float64) for plane in maps] for place in (here, there))
    return (
        np.stack([ones, owners[:, 1] == 0, near[0], near[1], far[0], far[1], near[2]], axis=1),
        np.stack([ones, owners[:, 0] == 0, far[0], far[1], near[0], near[1], far[2]], axis=1),
    )


def outlines_of(meetings: Sequence[Meeting], count: int) -> Real:
    """Return (basin + 1, 7) the sums over the outline of every basin; the plane's border is no outline."""
    total = np.zeros((count + 1, 7))
    for met in meetings:
        for owner, values in zip(met.owners.T, met.sides or (), strict=False):
            for column in range(7):
                total[:, column] += np.bincount(owner, weights=values[:, column], minlength=count + 1)
    total[0] = 0
    return total


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Touching:
    """Where basins touch each other."""

    pairs: Whole
    """(pair, 2) basins, the highest pass first; of equal passes the one that comes first from the top left."""
    passes: Real
    """(pair,) height of the highest pass between the two."""
    edges: Whole
    """(edge, 2) basins on the sides of each pixel edge between two."""
    sums: Real
    """(edge, 7) what both sides have in their outlines for that edge."""

    @classmethod
    def between(cls, height: NDArray[np.float32], meetings: Sequence[Meeting], count: int) -> Touching:
        """Find so many basins' passes on a height (y, x), and where the basins share pixel edges."""
        codes, passes, places, edges, sums = [], [], [], [], []
        for met in meetings:
            both = np.flatnonzero((met.owners > 0).all(axis=1))
            here, there = ((y[both], x[both]) for y, x in (met.here, met.there))
            ordered = np.sort(met.owners[both], axis=1)
            codes.append(ordered[:, 0] * (count + 1) + ordered[:, 1])
            passes.append(np.minimum(height[here], height[there]).astype(np.float64))
            places.append(np.stack([*here, *there], axis=1))
            if met.sides is not None:
                edges.append(ordered)
                sums.append(met.sides[0][both] + met.sides[1][both])
        code, height_of, place = np.concatenate(codes), np.concatenate(passes), np.concatenate(places)
        order = np.lexsort((*place.T[::-1], -height_of))
        _, first = np.unique(code[order], return_index=True)
        best = order[np.sort(first)]
        return cls(
            pairs=np.stack([code[best] // (count + 1), code[best] % (count + 1)], axis=1),
            passes=height_of[best],
            edges=np.concatenate(edges),
            sums=np.concatenate(sums),
        )

    def inner(self, whole: Whole) -> Real:
        """Return, per candidate, what the outlines of its two parts have where they touch; row 0: nothing.

        ``whole`` tells the candidate that each is a part of, 0 if of none.
        """
        above = np.concatenate([[0], whole])
        one, other = self.edges[:, 0].copy(), self.edges[:, 1].copy()
        while True:
            apart = np.flatnonzero((one != other) & (one > 0) & (other > 0))
            if not len(apart):
                break
            lower = one[apart] < other[apart]  # a whole has a higher number than its parts
            one[apart[lower]] = above[one[apart[lower]]]
            other[apart[~lower]] = above[other[apart[~lower]]]
        met = (one == other) & (one > 0)
        found = [np.bincount(one[met], weights=column[met], minlength=len(above)) for column in self.sums.T]
        found[1][:] = 0  # what lay against background still does
        return np.stack(found, axis=1)
