"""Compiled kernels: surface pieces of a volume in one pass, and the nearest piece of another surface by rows.

A row is a line of voxels along the last axis. Near targets are found by visiting the rows around a point in the order
of their distance until no row can be nearer; what is farther than the visited rows is found among tiles of rows. Both
are exact. The answer is the offset in voxels, not a distance, so that rounding is the business of one place
(``masks.distance``) whoever searched. All kernels release the interpreter's lock.

Needs numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

TILE = 8
"""Rows per side of a tile: a point far away looks at some hundred tiles instead of ten thousand rows."""

_compiled = njit(cache=True, nogil=True, boundscheck=False)


@_compiled
def _filled_rows(padded: NDArray[np.uint8]) -> NDArray[np.uint8]:
    slices, rows, columns = padded.shape
    filled = np.zeros((slices, rows), np.uint8)
    for z in range(1, slices - 1):
        for y in range(1, rows - 1):
            row = padded[z, y]
            any_set = np.uint8(0)
            for x in range(columns):
                any_set |= row[x]
            filled[z, y] = any_set
    return filled


@_compiled
def _count(line: NDArray[np.uint8]) -> int:
    count = 0
    for x in range(line.size):
        count += line[x] != 0
    return count


@_compiled
def border(padded: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return ``(piece, 3)`` indices, in the order of the array, of the set voxels with a face towards a clear one.

    ``padded`` is 0 or 1 with a margin of one clear voxel on every side; the indices do not count the margin.
    """
    slices, rows, columns = padded.shape
    filled = _filled_rows(padded)
    line = np.zeros((columns + 7) // 8 * 8, np.uint8)
    words = line.view(np.uint64)
    found = np.empty((1024, 3), np.int64)
    n = 0
    for z in range(1, slices - 1):
        for y in range(1, rows - 1):
            if filled[z, y] == 0:
                continue
            here, above, below = padded[z, y], padded[z - 1, y], padded[z + 1, y]
            before, after = padded[z, y - 1], padded[z, y + 1]
            for x in range(1, columns - 1):
                inner = above[x] & below[x] & before[x] & after[x] & here[x - 1] & here[x + 1]
                line[x] = here[x] & (inner ^ 1)
            more = n + _count(line)
            if more > len(found):
                larger = np.empty((2 * more, 3), np.int64)
                larger[:n] = found[:n]
                found = larger
            for word in range(words.size):
                if words[word]:
                    for x in range(8 * word, 8 * word + 8):
                        if line[x]:
                            found[n, 0], found[n, 1], found[n, 2] = z - 1, y - 1, x - 1
                            n += 1
    return found[:n].copy()


@_compiled
def corners(padded: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return ``(piece, 4)`` indices of the corners whose eight voxels differ, and each corner's code of eight bits.

    ``padded`` as for :func:`border`. The first of the eight voxels is the highest bit; a corner has the index of the
    voxel after it on every axis, the margin not counted.
    """
    slices, rows, columns = padded.shape
    filled = _filled_rows(padded)
    line = np.zeros((columns + 7) // 8 * 8, np.uint8)
    words = line.view(np.uint64)
    found = np.empty((1024, 4), np.int64)
    n = 0
    for z in range(slices - 1):
        for y in range(rows - 1):
            if filled[z, y] | filled[z, y + 1] | filled[z + 1, y] | filled[z + 1, y + 1] == 0:
                continue
            a, b, c, d = padded[z, y], padded[z, y + 1], padded[z + 1, y], padded[z + 1, y + 1]
            for x in range(columns - 1):
                upper = a[x] << 7 | a[x + 1] << 6 | b[x] << 5 | b[x + 1] << 4
                code = np.uint8(upper | c[x] << 3 | c[x + 1] << 2 | d[x] << 1 | d[x + 1])
                line[x] = code if code != 255 else 0
            more = n + _count(line)
            if more > len(found):
                larger = np.empty((2 * more, 4), np.int64)
                larger[:n] = found[:n]
                found = larger
            for word in range(words.size):
                if words[word]:
                    for x in range(8 * word, 8 * word + 8):
                        if line[x]:
                            found[n, 0], found[n, 1], found[n, 2], found[n, 3] = z, y, x, line[x]
                            n += 1
    return found[:n].copy()


@_compiled
def rows_of(
    targets: NDArray[np.int64], low: NDArray[np.int64], extent: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
    """Return the rows that have targets: where each lies in the second array, and the steps to its nearest target.

    Parameters
    ----------
    targets
        (target, 3) indices.
    low, extent
        (3,) smallest index, and number of indices, per axis; the last extent below 65535.

    Returns
    -------
    tuple
        (z, y) int32 place of each row, -1 without targets; (place, x) uint16 steps along the row.
    """
    place, ends, along = _grouped(targets, low, extent)
    width = extent[2]
    steps = np.empty((len(ends), width), np.uint16)
    start = 0
    for row in range(len(ends)):
        line = steps[row]
        here = along[start : ends[row]]
        start = ends[row]
        _sort(here)
        for x in range(here[0]):
            line[x] = here[0] - x
        for k in range(len(here) - 1):
            middle = (here[k] + here[k + 1]) // 2
            for x in range(here[k], middle + 1):
                line[x] = x - here[k]
            for x in range(middle + 1, here[k + 1]):
                line[x] = here[k + 1] - x
        for x in range(here[-1], width):
            line[x] = x - here[-1]
    return place, steps


@_compiled
def _sort(values: NDArray[np.int64]) -> None:
    # by insertion: rows are short, and in order already where the targets are
    for k in range(1, len(values)):
        value = values[k]
        j = k
        while j > 0 and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value


@_compiled
def _grouped(
    targets: NDArray[np.int64], low: NDArray[np.int64], extent: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    # place of each row, where the targets of each place end, and all targets' columns sorted by place
    place = np.full((extent[0], extent[1]), -1, np.int32)
    counts = np.zeros(min(len(targets), extent[0] * extent[1]), np.int64)
    n = 0
    for i in range(len(targets)):
        z, y = targets[i, 0] - low[0], targets[i, 1] - low[1]
        if place[z, y] < 0:
            place[z, y] = n
            n += 1
        counts[place[z, y]] += 1
    ends = np.cumsum(counts[:n])
    along = np.empty(len(targets), np.int64)
    for i in range(len(targets) - 1, -1, -1):
        row = place[targets[i, 0] - low[0], targets[i, 1] - low[1]]
        counts[row] -= 1
        start = ends[row - 1] if row else 0
        along[start + counts[row]] = targets[i, 2] - low[2]
    return place, ends, along


@_compiled
def tiles_of(place: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return ``(tile, 4)``: first and last row with targets on either axis, of each tile of rows that has any."""
    slices, rows = place.shape
    found = np.empty((((slices - 1) // TILE + 1) * ((rows - 1) // TILE + 1), 4), np.int64)
    n = 0
    for z0 in range(0, slices, TILE):
        for y0 in range(0, rows, TILE):
            first_z, last_z, first_y, last_y = slices, -1, rows, -1
            for z in range(z0, min(z0 + TILE, slices)):
                for y in range(y0, min(y0 + TILE, rows)):
                    if place[z, y] >= 0:
                        first_z, last_z = min(first_z, z), max(last_z, z)
                        first_y, last_y = min(first_y, y), max(last_y, y)
            if last_z >= 0:
                found[n, 0], found[n, 1], found[n, 2], found[n, 3] = first_z, last_z, first_y, last_y
                n += 1
    return found[:n].copy()


@_compiled
def nearest_offsets(
    points: NDArray[np.int64],
    low: NDArray[np.int64],
    place: NDArray[np.int32],
    steps: NDArray[np.uint16],
    tiles: NDArray[np.int64],
    around: NDArray[np.int64],
    reach: NDArray[np.float64],
    spacing: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return ``(3, point)``: by how many voxels on each axis the nearest target is away from each point.

    Parameters
    ----------
    points, low
        (point, 3) indices, any; what the first row and column of ``place`` and ``steps`` have for index.
    place, steps, tiles
        From :func:`rows_of` and :func:`tiles_of`; at least one row.
    around, reach
        (row, 2) offsets of rows in the order of their distance, and (row + 1,) these squared distances; the last one
        is that of the nearest row that is not in the list.
    spacing
        (3,) of the axes.
    """
    slices, rows = place.shape
    width = steps.shape[1]
    sz, sy, sx = spacing[0], spacing[1], spacing[2]
    offsets = np.empty((3, len(points)), np.int64)
    near_z, near_y, near_x = 0, 0, 0
    known = False
    for i in range(len(points)):
        z, y, x = points[i, 0] - low[0], points[i, 1] - low[1], points[i, 2] - low[2]
        column = min(max(x, 0), width - 1)
        beside = abs(x - column)
        best = np.inf
        if known:
            # the answer of the point before is one of the targets, and often almost the nearest
            best = ((near_z - z) * sz) ** 2 + ((near_y - y) * sy) ** 2 + ((near_x - x) * sx) ** 2
        best_z, best_y, best_row = -1, -1, -1
        # only where the rows in the list can decide, or nothing is known of a point
        k = 0
        while k < len(around) and reach[k] < best:
            zz, yy = z + around[k, 0], y + around[k, 1]
            if 0 <= zz < slices and 0 <= yy < rows:
                row = place[zz, yy]
                if row >= 0:
                    along = (np.int64(steps[row, column]) + beside) * sx
                    distance = reach[k] + along * along
                    if distance < best:
                        best, best_z, best_y, best_row = distance, zz, yy, row
            k += 1
        if reach[k] < best:
            for t in range(len(tiles)):
                dz = max(tiles[t, 0] - z, z - tiles[t, 1], 0) * sz
                dy = max(tiles[t, 2] - y, y - tiles[t, 3], 0) * sy
                if dz * dz + dy * dy >= best:
                    continue
                for zz in range(tiles[t, 0], tiles[t, 1] + 1):
                    for yy in range(tiles[t, 2], tiles[t, 3] + 1):
                        row = place[zz, yy]
                        if row < 0:
                            continue
                        apart = ((zz - z) * sz) ** 2 + ((yy - y) * sy) ** 2
                        if apart < best:
                            along = (np.int64(steps[row, column]) + beside) * sx
                            distance = apart + along * along
                            if distance < best:
                                best, best_z, best_y, best_row = distance, zz, yy, row
        if best_row >= 0:
            away = np.int64(steps[best_row, column])
            if column - away >= 0 and steps[best_row, column - away] == 0:
                near_x = column - away
            else:
                near_x = column + away
            near_z, near_y = best_z, best_y
            known = True
        offsets[0, i], offsets[1, i], offsets[2, i] = abs(near_z - z), abs(near_y - y), abs(near_x - x)
    return offsets
