"""What could be an instance: the basins of a height map, and what becomes of them where they are joined.

Basins are joined in the order of the passes between them, the highest pass first, so every candidate is what holds
together above some height. Candidates form trees; of each tree some that do not overlap are taken, those that are worth
most together (the idea is that of C. Arteta et al., Learning to detect cells using non-overlapping extremal regions,
2012). Candidates have a longest side, so all that decides about an instance lies within such a length of it, and it is
the same in every tile that holds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

MOST_BASINS = 12
"""That a candidate is made of."""

FEATURES = (
    "log of the area in pixels",
    "area over that of the ellipse with its second moments",
    "short over long axis of that ellipse",
    "pixel edges of the outline over the root of the area",
    "share of the outline that lies against background",
    "mean foreground",
    "mean interior",
    "mean distance",
    "standard deviation of the interior",
    "standard deviation of the foreground",
    "mean foreground within the outline",
    "mean interior within the outline",
    "mean foreground beyond the outline",
    "mean interior beyond the outline",
    "mean distance within the outline",
    "highest height",
    "highest interior",
    "highest distance",
    "how deep its last pass lies below the lower of the two summits",
    "how deep the deepest of its passes lies",
    "height of the highest pass out of it, 0 if there is none",
    "how deep that pass lies below its summit",
    "lower over higher summit of the last two parts",
    "basins",
)
"""Of a candidate, in this order. Distance is the network's map, height what is climbed on."""

_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Rows and columns from a pixel to those of its neighbours that come after it; the first two share an edge with it."""

Real = NDArray[np.float64]
Whole = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Candidates:
    """Candidates 1, 2, ...: first the basins by their numbers, then what is made of two earlier ones."""

    basins: NDArray[np.int32]
    """(y, x): 0 belongs to none."""
    parts: Whole
    """(candidate, 2) numbers of the two that it is made of; 0 for a basin."""
    whole: Whole
    """(candidate,) number of the one that it is a part of; 0: none."""
    features: Real
    """(candidate, feature), see ``FEATURES``."""

    def __len__(self) -> int:
        return len(self.whole)

    def taken(self, gain: Real) -> NDArray[np.bool_]:
        """Return the candidates (candidate,) that do not overlap and whose gains have the largest sum.

        Those without a gain above 0 are not taken. Of equal sums the parts are taken, not the whole.
        """
        own, best = np.zeros(len(self), dtype=bool), [0.0] * (len(self) + 1)
        for index, ((one, other), value) in enumerate(zip(self.parts.tolist(), gain.tolist(), strict=True)):
            apart = best[one] + best[other]
            own[index] = value > apart
            best[index + 1] = value if own[index] else apart
        inside = np.zeros(len(self) + 1, dtype=bool)
        """Whether a candidate, by its number, is taken or lies in one that is."""
        for index in range(len(self) - 1, -1, -1):
            within = inside[self.whole[index]]
            inside[index + 1] = within or own[index]
            own[index] &= not within
        return own

    def painted(self, taken: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Return the numbers (y, x) of the taken candidates, and 0 elsewhere."""
        numbers = np.concatenate([[0], np.where(taken, np.arange(1, len(self) + 1), 0)]).astype(np.int32)
        for index in range(len(self), 0, -1):
            above = self.whole[index - 1]
            numbers[index] = numbers[index] or numbers[above]
        return numbers[self.basins]


def find_candidates(
    maps: NDArray[Any], height: NDArray[np.float32], basins: NDArray[np.int32], side: int
) -> Candidates:
    """Join basins to candidates and describe each.

    Parameters
    ----------
    maps
        (3, y, x): foreground, interior, distance, each about 0 to 1.
    height
        (y, x): what the basins were found on.
    basins
        (y, x): 0, or 1, 2, ..., without gaps.
    side
        Longest height or width of a candidate in pixels; a basin may be larger, but is not joined then.
    """
    count = int(basins.max(initial=0))
    meetings = tuple(_meetings(maps, basins))
    own = _Sums.of_basins(maps, height, basins, _outlines(meetings, count))
    touching = _Touching.between(height, meetings, count)
    tree = _Tree.grown(own, touching, side)
    sums = own.joined(tree, touching)
    return Candidates(basins=basins, parts=tree.parts, whole=tree.whole, features=_features(sums, tree))


@dataclass(kw_only=True, slots=True, eq=False)
class _Sums:
    """What is added up over the pixels of candidates; row 0 is of nothing."""

    moments: Whole
    """(candidate, 6): pixels, and sums of y, x, y², x², y x: whole numbers, which nothing is lost of."""
    values: Real
    """(candidate, 5): sums of foreground, interior, distance, and of the squares of interior and foreground."""
    outline: Real
    """(candidate, 7) over pixel edges of the outline: their number, those against background; sums of foreground and
    interior within, of foreground and interior beyond, of distance within."""
    highest: Real
    """(candidate, 3): height, interior, distance."""
    box: Whole
    """(candidate, 4): first row and column, and those behind the last."""

    @classmethod
    def of_basins(
        cls, maps: NDArray[Any], height: NDArray[np.float32], basins: NDArray[np.int32], outline: Real
    ) -> _Sums:
        count = len(outline) - 1
        y, x = np.nonzero(basins)
        owner = basins[y, x]

        def added(values: NDArray[Any]) -> Real:
            return np.bincount(owner, weights=values, minlength=count + 1).astype(np.float64)

        foreground, interior, distance = (plane[y, x].astype(np.float64) for plane in maps)
        highest = np.zeros((count + 1, 3))
        for column, values in enumerate((height[y, x], interior, distance)):
            np.maximum.at(highest[:, column], owner, values)
        box = np.zeros((count + 1, 4), dtype=np.int64)
        for number, (rows, columns) in enumerate(ndimage.find_objects(basins), start=1):
            box[number] = rows.start, columns.start, rows.stop, columns.stop
        return cls(
            moments=np.stack([np.rint(added(v)).astype(np.int64) for v in (y >= 0, y, x, y * y, x * x, y * x)], axis=1),
            values=np.stack([added(v) for v in (foreground, interior, distance, interior**2, foreground**2)], axis=1),
            outline=outline,
            highest=highest,
            box=box,
        )

    def joined(self, tree: _Tree, touching: _Touching) -> _Sums:
        """Return the sums of all candidates."""
        more, parts = len(tree.parts) + 1 - len(self.moments), tree.parts
        moments, values, outline, highest = (
            np.concatenate([rows, np.zeros((more, rows.shape[1]), dtype=rows.dtype)])
            for rows in (self.moments, self.values, self.outline, self.highest)
        )
        inner = touching.inner(tree)
        for number in range(len(self.moments), len(parts) + 1):
            one, other = parts[number - 1]
            moments[number] = moments[one] + moments[other]
            values[number] = values[one] + values[other]
            outline[number] = outline[one] + outline[other] - inner[number]
            highest[number] = np.maximum(highest[one], highest[other])
        return _Sums(moments=moments, values=values, outline=outline, highest=highest, box=tree.box)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Touching:
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
    def between(cls, height: NDArray[np.float32], meetings: Sequence[_Meeting], count: int) -> _Touching:
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

    def inner(self, tree: _Tree) -> Real:
        """Return, per candidate, what the outlines of its two parts have where they touch; row 0: nothing."""
        above = np.concatenate([[0], tree.whole])
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


@dataclass(kw_only=True, slots=True, eq=False)
class _Tree:
    """Which candidates are made of which, and by what passes."""

    parts: Whole
    whole: Whole
    box: Whole
    """(candidate + 1, 4); row 0 is of nothing."""
    basins: Whole
    """(candidate,) how many it is made of."""
    last: Real
    """(candidate,) how deep the pass between its two parts lies below the lower summit; 0 for a basin."""
    deepest: Real
    """(candidate,) the largest of these within it."""
    out: Real
    """(candidate,) height of the highest pass out of it; 0: none."""
    evenness: Real
    """(candidate,) lower over higher summit of its two parts; 1 for a basin."""

    @classmethod
    def grown(cls, own: _Sums, touching: _Touching, side: int) -> _Tree:
        """Join basins, the highest pass first; what would be too large is no candidate, nor is what it is part of."""
        count = len(own.moments) - 1
        parts, whole, size = [(0, 0)] * (count + 1), [0] * (count + 1), [0] + [1] * count
        last, deepest, out, even = ([value] * (count + 1) for value in (0.0, 0.0, 0.0, 1.0))
        box, top = own.box.tolist(), own.highest[:, 0].tolist()
        group, candidate = list(range(count + 1)), list(range(count + 1))
        for (low, high), height in zip(touching.pairs.tolist(), touching.passes.tolist(), strict=True):
            first, second = _root(group, low), _root(group, high)
            if first == second:
                continue
            one, other = candidate[first], candidate[second]
            group[second], candidate[first] = first, 0
            for number in (one, other):
                if number and not out[number]:
                    out[number] = height
            if not one or not other or size[one] + size[other] > MOST_BASINS:
                continue
            joined = [*map(min, box[one][:2], box[other][:2]), *map(max, box[one][2:], box[other][2:])]
            if max(joined[2] - joined[0], joined[3] - joined[1]) > side:
                continue
            whole[one] = whole[other] = candidate[first] = len(parts)
            lower, higher = sorted((top[one], top[other]))
            parts.append((one, other))
            whole.append(0)
            box.append(joined)
            size.append(size[one] + size[other])
            last.append(lower - height)
            deepest.append(max(lower - height, deepest[one], deepest[other]))
            out.append(0.0)
            even.append(lower / max(higher, 1e-6))
            top.append(higher)
        return cls(
            parts=np.array(parts, dtype=np.int64)[1:],
            whole=np.array(whole, dtype=np.int64)[1:],
            box=np.array(box, dtype=np.int64),
            basins=np.array(size, dtype=np.int64)[1:],
            last=np.array(last)[1:],
            deepest=np.array(deepest)[1:],
            out=np.array(out)[1:],
            evenness=np.array(even)[1:],
        )


def _root(group: list[int], number: int) -> int:
    while group[number] != number:
        group[number] = group[group[number]]
        number = group[number]
    return number


Places = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows and columns of pixels."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Meeting:
    """Pixels, and their neighbours in one direction, where the two belong to different basins or one to none."""

    here: Places
    there: Places
    owners: Whole
    """(pixel, 2)."""
    sides: tuple[Real, Real] | None
    """Twice (pixel, 7): what the outline has there, seen from here and from there; None if they share no edge."""


def _meetings(maps: NDArray[Any], basins: NDArray[np.int32]) -> Iterator[_Meeting]:
    height, width = basins.shape
    for down, across in _SHIFTS:
        first = basins[: height - down, max(0, -across) : width - max(0, across)]
        second = basins[down:, max(0, across) : width + min(0, across)]
        y, x = np.nonzero(first != second)
        x = x + max(0, -across)
        here, there = (y, x), (y + down, x + across)
        owners = np.stack([basins[here], basins[there]], axis=1).astype(np.int64)
        shares_edge = down + abs(across) == 1
        yield _Meeting(
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


def _outlines(meetings: Sequence[_Meeting], count: int) -> Real:
    """Return (basin + 1, 7) the sums over the outline of every basin; the plane's border is no outline."""
    total = np.zeros((count + 1, 7))
    for met in meetings:
        for owner, values in zip(met.owners.T, met.sides or (), strict=False):
            for column in range(7):
                total[:, column] += np.bincount(owner, weights=values[:, column], minlength=count + 1)
    total[0] = 0
    return total


def _second_moments(moments: Whole) -> tuple[Real, Real, Real]:
    """Return the variances along y and x, and the covariance, of pixels: squares with a side of 1.

    Whole numbers are moved to a whole centre first, so the corner of the tile changes nothing, not even by rounding.
    """
    pixels, y, x, yy, xx, yx = moments.T
    middle_y, middle_x = y // pixels, x // pixels
    left_y, left_x = (y - pixels * middle_y) / pixels, (x - pixels * middle_x) / pixels
    down = (yy - 2 * middle_y * y + pixels * middle_y**2) / pixels - left_y**2 + 1 / 12
    across = (xx - 2 * middle_x * x + pixels * middle_x**2) / pixels - left_x**2 + 1 / 12
    mixed = (yx - middle_y * x - middle_x * y + pixels * middle_y * middle_x) / pixels - left_y * left_x
    return down, across, mixed


def _features(sums: _Sums, tree: _Tree) -> Real:
    """Return (candidate, feature), see ``FEATURES``."""
    down, across, mixed = _second_moments(sums.moments[1:])
    area = sums.moments[1:, 0].astype(np.float64)
    mean, product = (down + across) / 2, np.maximum(down * across - mixed**2, 1e-6)
    spread = np.sqrt(np.maximum(mean**2 - product, 0))
    foreground, interior, distance, interior_squares, foreground_squares = sums.values[1:].T / area
    edges, *along = sums.outline[1:].T
    edges = np.maximum(edges, 1)
    bare, *rim = (values / edges for values in along)
    top, highest_interior, highest_distance = sums.highest[1:].T
    return np.stack(
        [
            np.log(area),
            area / (4 * np.pi * np.sqrt(product)),
            np.sqrt((mean - spread) / (mean + spread)),
            edges / np.sqrt(area),
            bare,
            foreground,
            interior,
            distance,
            np.sqrt(np.maximum(interior_squares - interior**2, 0)),
            np.sqrt(np.maximum(foreground_squares - foreground**2, 0)),
            *rim,
            top,
            highest_interior,
            highest_distance,
            tree.last,
            tree.deepest,
            tree.out,
            top - tree.out,
            tree.evenness,
            tree.basins.astype(np.float64),
        ],
        axis=1,
    )
