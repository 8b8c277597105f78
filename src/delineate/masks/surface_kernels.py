"""Compiled kernels: surface pieces of a volume in one pass, and the nearest piece of another surface by rows.

A row is a line of voxels along the last axis. Near targets are found by visiting the rows around a point in the order
of their distance until no row can be nearer; what is farther than the visited rows is found among tiles of rows. Both
are exact. The answer is the offset in voxels, not a distance, so that rounding is the business of one place
(``masks.distance``) whoever searched. All kernels release the interpreter's lock.

Needs numba.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

TILE = 8
"""Rows per side of a tile: a point far away looks at some hundred tiles instead of ten thousand rows."""

_Rows = tuple[NDArray[np.int32], NDArray[np.uint16]]
_Disc = tuple[NDArray[np.int64], NDArray[np.float64]]

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
def _in_row(z: int, y: int, x: int, rows: _Rows, row_z: int, row_y: int, spacing: tuple[float, float, float]) -> float:
    # squared distance of a point to the targets of one row
    place, steps = rows
    column = min(max(x, 0), steps.shape[1] - 1)
    along = np.int64(steps[place[row_z, row_y], column]) + abs(x - column)
    return float(((row_z - z) * spacing[0]) ** 2 + ((row_y - y) * spacing[1]) ** 2 + (along * spacing[2]) ** 2)


@_compiled
def _among_rows_around(
    z: int,
    y: int,
    x: int,
    rows: _Rows,
    around: _Disc,
    spacing: tuple[float, float, float],
    best: float,
) -> tuple[float, int, int, bool]:
    # the nearest row of targets that is nearer than `best`, (-1, -1) for none; and whether no other row can be nearer
    place = rows[0]
    disc, reach = around
    best_z, best_y = -1, -1
    for k in range(len(disc)):
        if reach[k] >= best:
            return best, best_z, best_y, True
        row_z, row_y = z + disc[k, 0], y + disc[k, 1]
        if 0 <= row_z < place.shape[0] and 0 <= row_y < place.shape[1] and place[row_z, row_y] >= 0:
            distance = _in_row(z, y, x, rows, row_z, row_y, spacing)
            if distance < best:
                best, best_z, best_y = distance, row_z, row_y
    return best, best_z, best_y, reach[len(disc)] >= best


@_compiled
def _among_tiles(
    z: int,
    y: int,
    x: int,
    rows: _Rows,
    tiles: NDArray[np.int64],
    spacing: tuple[float, float, float],
    best: float,
) -> tuple[float, int, int]:
    # the same among all rows, tile by tile
    place = rows[0]
    best_z, best_y = -1, -1
    for t in range(len(tiles)):
        tile = tiles[t]
        apart_z = max(tile[0] - z, z - tile[1], 0) * spacing[0]
        apart_y = max(tile[2] - y, y - tile[3], 0) * spacing[1]
        if apart_z * apart_z + apart_y * apart_y >= best:
            continue
        for row_z in range(tile[0], tile[1] + 1):
            for row_y in range(tile[2], tile[3] + 1):
                if place[row_z, row_y] >= 0:
                    distance = _in_row(z, y, x, rows, row_z, row_y, spacing)
                    if distance < best:
                        best, best_z, best_y = distance, row_z, row_y
    return best, best_z, best_y


@_compiled
def _nearest_column(x: int, steps: NDArray[np.uint16]) -> int:
    column = min(max(x, 0), len(steps) - 1)
    away = np.int64(steps[column])
    before = column - away
    return int(before if before >= 0 and steps[before] == 0 else column + away)


@_compiled
def nearest_offsets(
    points: NDArray[np.int64],
    low: NDArray[np.int64],
    rows: _Rows,
    tiles: NDArray[np.int64],
    around: _Disc,
    spacing: tuple[float, float, float],
) -> NDArray[np.int64]:
    """Return ``(3, point)``: by how many voxels on each axis the nearest target is away from each point.

    Parameters
    ----------
    points, low
        (point, 3) indices, any; what the first row and column of the rows have for index.
    rows, tiles
        From :func:`rows_of` and :func:`tiles_of`; at least one row.
    around
        (row, 2) offsets of rows in the order of their distance, and (row + 1,) these squared distances; the last one
        is that of the nearest row that is not in the list.
    spacing
        Of the axes.
    """
    place, steps = rows
    offsets = np.empty((3, len(points)), np.int64)
    near_z, near_y, near_x = 0, 0, 0
    for i in range(len(points)):
        z, y, x = points[i, 0] - low[0], points[i, 1] - low[1], points[i, 2] - low[2]
        best = np.inf
        if i > 0:
            # the answer of the point before is one of the targets, and often almost the nearest
            best = (
                ((near_z - z) * spacing[0]) ** 2 + ((near_y - y) * spacing[1]) ** 2 + ((near_x - x) * spacing[2]) ** 2
            )
        best, row_z, row_y, sure = _among_rows_around(z, y, x, rows, around, spacing, best)
        if not sure:
            _, far_z, far_y = _among_tiles(z, y, x, rows, tiles, spacing, best)
            if far_z >= 0:
                row_z, row_y = far_z, far_y
        if row_z >= 0:
            near_z, near_y, near_x = row_z, row_y, _nearest_column(x, steps[place[row_z, row_y]])
        offsets[0, i], offsets[1, i], offsets[2, i] = abs(near_z - z), abs(near_y - y), abs(near_x - x)
    return offsets
