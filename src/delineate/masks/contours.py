"""Outlines of a mask along the edges of its voxels, plane by plane, exact by construction.

A polygon that runs along voxel edges (half-integer indices) never touches a voxel centre, so any reader that asks which
centres lie inside gets the mask back voxel for voxel; one that runs through voxel centres loses up to half of a thin
structure. All planes of a volume are traced at once, without a loop over edges.

The module knows arrays in index coordinates; it does not know millimetres, what labels mean, or DICOM.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from delineate.errors import GeometryError

Polygon = NDArray[np.float64]
"""(n, 2) vertices (y, x) in voxel indices, the centre of the first voxel at (0, 0); the first is not repeated."""

_STEPS = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
"""(y, x) of the four directions; the next one is a turn to the right."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Region:
    """One connected part of a plane: voxels that share an edge. Parts that meet in a corner only are separate."""

    plane: int
    label: int
    """Value of the label map; 1 for masks."""
    outer: Polygon
    """With the inside on its right as rows run down: clockwise on a screen."""
    holes: tuple[Polygon, ...]
    """Counter-clockwise."""

    @property
    def area(self) -> int:
        """Number of voxels."""
        return round(sum(_area(loop) for loop in (self.outer, *self.holes)))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Edges:
    """Directed edges of the voxels of a stack of planes, the inside on their right."""

    start: NDArray[np.int64]
    """(edge, 3) plane, y, x of the lattice corner at which the edge begins; corner (y, x) is the voxel's upper left."""
    direction: NDArray[np.int64]
    """(edge,) index into the four directions."""
    inside: NDArray[np.int64]
    """(edge, 3) index of the voxel to which the edge belongs."""


def trace_regions(mask: NDArray[Any]) -> tuple[Region, ...]:
    """Trace the regions of every plane of a volume.

    Parameters
    ----------
    mask
        ``(z, y, x)`` bool, or label values: each value but 0 has regions of its own, all found in one pass. Planes are
        those of constant z.

    Returns
    -------
    tuple of Region
        By plane, then by the region's first voxel. Vertices are corners only: none lies on a straight line between its
        neighbours.

    Raises
    ------
    GeometryError
        If the mask has not three axes.
    """
    if mask.ndim != 3:
        raise GeometryError(f"Contours are traced in the planes of a volume (z, y, x); got shape {mask.shape}.")
    box = _box_of(mask)
    if box is None:
        return ()
    window = mask[box]
    edges = _edges_of(window)
    loops, bounds = _ordered_loops(_successors(edges, window.shape))
    offset = np.array([part.start for part in box])
    return tuple(_gathered(edges, loops, bounds, window, offset))


def keyhole(region: Region) -> Polygon:
    """Return a region with holes as one polygon: a bridge without width leads to each hole and back.

    Bridges run along voxel edges, to the left from a hole's first corner until they meet the outline or another hole,
    so they cross nothing and touch no voxel centre.

    Returns
    -------
    (n, 2) float64
        The outline itself if there is no hole.
    """
    if not region.holes:
        return region.outer
    loops = [np.asarray(loop) for loop in (region.outer, *region.holes)]
    order = sorted(range(1, len(loops)), key=lambda i: _first_corner(loops[i]))
    attached: dict[int, list[tuple[int, tuple[float, float], int]]] = {}
    for hole in order:
        corner = _first_corner(loops[hole])
        host, point, after = _to_the_left(loops, hole, corner)
        attached.setdefault(host, []).append((after, point, hole))
    vertices = np.array(list(_spliced(loops, attached, 0, 0)))
    bridged: Polygon = vertices[(vertices != np.roll(vertices, 1, axis=0)).any(axis=1)]
    return bridged


def simplify(polygon: Polygon, tolerance: float) -> Polygon:
    """Return a polygon with fewer vertices, none of the left-out ones farther than ``tolerance`` from its outline.

    Parameters
    ----------
    polygon
        (n, 2).
    tolerance
        In voxels; 0 leaves the polygon as it is.

    References
    ----------
    D. Douglas, T. Peucker, Algorithms for the reduction of the number of points, Cartographica 10 (1973).
    """
    if tolerance <= 0 or len(polygon) <= 4:
        return polygon
    from skimage.measure import approximate_polygon  # only here: it loads much of scipy

    half = len(polygon) // 2
    halves = (polygon[: half + 1], np.concatenate([polygon[half:], polygon[:1]]))  # a closed line has no far ends
    kept = [approximate_polygon(part, tolerance)[:-1] for part in halves]  # type: ignore[no-untyped-call]
    simpler: Polygon = np.concatenate(kept)
    return simpler if len(simpler) >= 3 else polygon


def _box_of(mask: NDArray[Any]) -> tuple[slice, ...] | None:
    parts = []
    for axis in range(mask.ndim):
        held = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not held.size:
            return None
        parts.append(slice(int(held[0]), int(held[-1]) + 1))
    return tuple(parts)


def _edges_of(mask: NDArray[Any]) -> _Edges:
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    centre = padded[:, 1:-1, 1:-1]
    # neighbour across the edge, corner where the edge begins relative to its voxel: top, right, bottom, left
    sides = (
        (padded[:, :-2, 1:-1], (0, 0)),
        (padded[:, 1:-1, 2:], (0, 1)),
        (padded[:, 2:, 1:-1], (1, 1)),
        (padded[:, 1:-1, :-2], (1, 0)),
    )
    present = centre != 0
    inside = [np.stack(np.nonzero(present & (centre != across)), axis=1) for across, _ in sides]
    start = [voxels + np.array([0, *corner]) for voxels, (_, corner) in zip(inside, sides, strict=True)]
    direction = np.repeat(np.arange(4), [len(voxels) for voxels in inside])
    return _Edges(start=np.concatenate(start), direction=direction, inside=np.concatenate(inside))


def _successors(edges: _Edges, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the edge that follows each edge; where two regions meet in a corner, the turn to the right parts them."""
    rows, columns = shape[1] + 1, shape[2] + 1
    corner = (edges.start[:, 0] * rows + edges.start[:, 1]) * columns + edges.start[:, 2]
    keys = corner * 4 + edges.direction
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    step = _STEPS[edges.direction]
    end = corner + step[:, 0] * columns + step[:, 1]
    following = np.full(len(keys), -1)
    for turn in (3, 0, 1):  # the last that is found wins: left, straight on, right
        wanted = end * 4 + (edges.direction + turn) % 4
        place = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
        found = ordered[place] == wanted
        following[found] = order[place[found]]
    return following


def _ordered_loops(following: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the edges loop by loop in order, and where each loop begins in that list (with the end appended).

    By pointer doubling: after k rounds every edge knows the smallest edge, and the distance, of 2^k steps ahead.
    """
    count = len(following)
    leader, jump = np.arange(count), following.copy()
    while True:
        nearer = np.minimum(leader, leader[jump])
        if np.array_equal(nearer, leader):
            break
        leader, jump = nearer, jump[jump]
    is_leader = leader == np.arange(count)
    distance = np.where(is_leader, 0, 1)
    ahead = np.where(is_leader, np.arange(count), following)
    while not is_leader[ahead].all():
        distance, ahead = distance + distance[ahead], ahead[ahead]
    size = np.bincount(leader, minlength=count)[leader]
    order = np.lexsort(((size - distance) % size, leader))
    begins = np.flatnonzero(np.diff(leader[order], prepend=-1))
    return order, np.append(begins, count)


def _plane_components(mask: NDArray[Any]) -> NDArray[np.int64]:
    """Return a number per connected part of equal values in a plane, in the order of their first voxels."""
    components = np.zeros(mask.shape, dtype=np.int64)
    count = 0
    for index, plane in enumerate(mask):
        parts, found = label(plane, background=0, return_num=True, connectivity=1)  # type: ignore[no-untyped-call]
        components[index] = np.where(parts > 0, parts + count, 0)
        count += int(found)
    return components


def _gathered(
    edges: _Edges,
    order: NDArray[np.int64],
    bounds: NDArray[np.int64],
    window: NDArray[Any],
    offset: NDArray[np.int64],
) -> Iterator[Region]:
    corners, loop_of = _corners(edges, order, bounds)
    points: Polygon = (edges.start[order[corners]][:, 1:] + offset[1:]).astype(np.float64) - 0.5
    ends = np.searchsorted(loop_of, np.arange(len(bounds)))
    first = edges.inside[order[bounds[:-1]]]
    component, values = _plane_components(window)[tuple(first.T)], window[tuple(first.T)]
    clockwise = _signed_area(points, loop_of, len(bounds) - 1) > 0
    for loops in np.split(np.argsort(component, kind="stable"), np.flatnonzero(np.diff(np.sort(component))) + 1):
        polygons = [points[ends[loop] : ends[loop + 1]] for loop in loops]
        outside = next(i for i, loop in enumerate(loops) if clockwise[loop])
        holes = tuple(polygon for i, polygon in enumerate(polygons) if i != outside)
        plane, value = int(first[loops[0], 0] + offset[0]), int(values[loops[0]])
        yield Region(plane=plane, label=value, outer=polygons[outside], holes=holes)


def _corners(
    edges: _Edges, order: NDArray[np.int64], bounds: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions in ``order`` at which the direction changes, and the loop of each."""
    direction = edges.direction[order]
    before = np.roll(direction, 1)
    before[bounds[:-1]] = direction[bounds[1:] - 1]
    corners = np.flatnonzero(direction != before)
    return corners, np.searchsorted(bounds, corners, side="right") - 1


def _signed_area(points: NDArray[np.float64], loop_of: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Return twice the area (shoelace), positive for loops that are clockwise on a screen."""
    last = np.append(np.flatnonzero(np.diff(loop_of)), len(points) - 1)
    after = np.roll(points, -1, axis=0)
    after[last] = points[np.append(0, last[:-1] + 1)]
    cross = points[:, 1] * after[:, 0] - after[:, 1] * points[:, 0]
    return np.bincount(loop_of, weights=cross, minlength=count).astype(np.float64)


def _area(loop: Polygon) -> float:
    """Return the area of one loop (shoelace), positive if it is clockwise on a screen."""
    y, x = loop.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _first_corner(loop: Polygon) -> tuple[float, float]:
    top = loop[:, 0].min()
    return float(top), float(loop[loop[:, 0] == top, 1].min())


def _to_the_left(loops: list[Polygon], hole: int, corner: tuple[float, float]) -> tuple[int, tuple[float, float], int]:
    """Return the loop that a bridge from a hole meets, the point where, and the vertex after which it lies."""
    y, x = corner
    best = (-np.inf, -1, -1)
    for index, loop in enumerate(loops):
        after = np.roll(loop, -1, axis=0)
        upright = loop[:, 1] == after[:, 1]
        meets = upright & (np.minimum(loop[:, 0], after[:, 0]) <= y) & (np.maximum(loop[:, 0], after[:, 0]) >= y)
        for position in np.flatnonzero(meets & (loop[:, 1] < x)):
            if index != hole and loop[position, 1] > best[0]:
                best = (float(loop[position, 1]), index, int(position))
    return best[1], (y, best[0]), best[2]


def _spliced(
    loops: list[Polygon],
    attached: dict[int, list[tuple[int, tuple[float, float], int]]],
    index: int,
    begin: int,
) -> Iterator[tuple[float, float]]:
    """Yield the vertices of a loop from ``begin`` on, with every attached hole where its bridge meets the loop."""
    loop, mine = loops[index], attached.get(index, [])
    for step in range(len(loop)):
        position = (begin + step) % len(loop)
        y, x = loop[position]
        yield float(y), float(x)
        here = [entry for entry in mine if entry[0] == position]
        for _, point, hole in sorted(here, key=lambda entry: abs(entry[1][0] - y)):
            start = int(np.flatnonzero((loops[hole] == _first_corner(loops[hole])).all(axis=1))[0])
            yield point
            yield from _spliced(loops, attached, hole, start)
            yield _first_corner(loops[hole])
            yield point
