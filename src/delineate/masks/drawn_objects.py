"""Objects that were drawn one by one, as one map of numbers: polygons, masks, run lengths, and where they overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.errors import LabelError
from delineate.masks.polygons import fill_even_odd


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PlacedMask:
    """The pixels of one object: a small mask and where it begins."""

    top: int
    left: int
    mask: NDArray[np.bool_]
    """(y, x); may be empty."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DrawnObjects:
    """Numbered objects of a plane, and what was lost by giving every pixel one number."""

    instances: NDArray[np.int32]
    """(y, x): 0, or the object's place in the list, from 1."""
    overlapping: int
    """Pixels that several objects claimed."""
    hidden: tuple[int, ...]
    """Numbers of objects without any pixel: empty, outside the plane, or wholly below others."""


def number_objects(objects: Sequence[PlacedMask], shape: tuple[int, int]) -> DrawnObjects:
    """Number objects in the order of the list; where several claim a pixel the smallest of them gets it.

    A small object on a large one stays whole that way, and the result does not depend on the order.

    Parameters
    ----------
    objects
        Inside the plane.
    shape
        Rows and columns of the plane.
    """
    instances = np.zeros(shape, dtype=np.int32)
    claims = np.zeros(shape, dtype=np.int32)
    sizes = [int(one.mask.sum()) for one in objects]
    for index in sorted(range(len(objects)), key=lambda i: (-sizes[i], i)):
        one = objects[index]
        window = (
            slice(one.top, one.top + one.mask.shape[0]),
            slice(one.left, one.left + one.mask.shape[1]),
        )
        instances[window][one.mask] = index + 1
        claims[window] += one.mask
    present = np.bincount(instances.ravel(), minlength=len(objects) + 1)[1:]
    return DrawnObjects(
        instances=instances,
        overlapping=int((claims > 1).sum()),
        hidden=tuple(int(n) + 1 for n in np.flatnonzero(present == 0)),
    )


def mask_of_polygons(rings: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> PlacedMask:
    """Return the pixels whose centres lie inside an odd number of rings (so inner rings are holes).

    Parameters
    ----------
    rings
        Each (n, 2) vertices (y, x) from the plane's upper left corner: the centre of the first pixel is (0.5, 0.5).
    shape
        Rows and columns of the plane; what lies outside is cut off.
    """
    points = np.concatenate([np.zeros((0, 2)), *rings])
    if not len(points):
        return PlacedMask(top=0, left=0, mask=np.zeros((0, 0), dtype=bool))
    low = np.clip(np.floor(points.min(axis=0)).astype(int), 0, shape)
    high = np.clip(np.ceil(points.max(axis=0)).astype(int) + 1, 0, shape)
    rows, columns = np.maximum(high - low, 0)
    inside = fill_even_odd([ring - low - 0.5 for ring in rings], (int(rows), int(columns)))
    return PlacedMask(top=int(low[0]), left=int(low[1]), mask=inside)


def mask_of_runs(counts: Sequence[int], shape: tuple[int, int]) -> PlacedMask:
    """Return the mask of COCO's run lengths: down the columns, background first.

    Raises
    ------
    LabelError
        If the runs do not add up to the plane.
    """
    if sum(counts) != shape[0] * shape[1] or min(counts, default=0) < 0:
        raise LabelError(f"Run lengths must add up to {shape[0]} x {shape[1]} pixels; they add up to {sum(counts)}.")
    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return trimmed(values.reshape(shape[1], shape[0]).T)


def runs_of_text(text: str) -> tuple[int, ...]:
    """Return the run lengths of COCO's compressed form: five bits a character, differences from the third on.

    Raises
    ------
    LabelError
        If the text ends within a number.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise LabelError("Compressed run lengths end within a number; export them again.")
    return tuple(counts)


def trimmed(mask: NDArray[Any]) -> PlacedMask:
    """Return a mask (y, x) of a whole plane without its empty rows and columns."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return PlacedMask(top=0, left=0, mask=np.zeros((0, 0), dtype=bool))
    window = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return PlacedMask(top=int(rows[0]), left=int(columns[0]), mask=window > 0)
