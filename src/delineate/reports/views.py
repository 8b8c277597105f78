"""Views of a volume as radiologists hang them: axial, coronal, sagittal, patient's right on the viewer's left.

The module knows grids and arrays; it does not know what is drawn on the views. *Hung* arrays have their axes along
world (z, y, x), upwards in LPS; planes are hung as volumes of one slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.geometry.grid import Grid

Box = tuple[slice, slice, slice]

_PLANES = (
    # name, letters at top, bottom, left, right; axial lies across world z, coronal across y, sagittal across x
    ("axial", ("A", "P", "R", "L")),
    ("coronal", ("S", "I", "R", "L")),
    ("sagittal", ("S", "I", "A", "P")),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hanging:
    """How the arrays of a grid are turned for display."""

    order: tuple[int, ...]
    """Array axis that runs closest along each of world z, y, x; empty for planes, which stay as they are."""
    flipped: tuple[bool, ...]
    """Whether that axis runs against the world axis."""
    spacing_mm: tuple[float, float, float]
    """Of the hung array's axes; 1 for the axis that a plane does not have."""

    def hang(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a hung view, without copying, of an array ``(z, y, x)`` or ``(y, x)`` on the grid."""
        if not self.order:
            return array[np.newaxis]
        return np.transpose(array, self.order)[tuple(slice(None, None, -1 if f else 1) for f in self.flipped)]


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """One plane through a hung array.

    Attributes
    ----------
    name
        ``axial``, ``coronal``, ``sagittal``, or empty if the grid does not tell.
    letters
        Patient directions at the top, bottom, left and right edge, or None.
    spacing_mm
        Height and width of a pixel.
    axis, index
        The plane lies across this axis of the hung array, at this index.
    box
        The part of the hung array that is shown.
    """

    name: str
    letters: tuple[str, str, str, str] | None
    spacing_mm: tuple[float, float]
    axis: int
    index: int
    box: Box

    def cut(self, hung: NDArray[Any]) -> NDArray[Any]:
        """Return the plane ``(row, column)`` of a hung array, superior or anterior at the top."""
        plane = hung[tuple(self.index if a == self.axis else part for a, part in enumerate(self.box))]
        return plane if self.axis == 0 else plane[::-1]


def hanging_of(grid: Grid) -> Hanging:
    """Say how to hang the arrays of a grid; an oblique one gets the turn that deviates least over all three axes."""
    if grid.dims == 2:
        return Hanging(order=(), flipped=(), spacing_mm=(1.0, *grid.spacing_mm))  # type: ignore[arg-type]
    along = np.asarray(grid.direction)[:, ::-1]  # rows: array axes; columns: world z, y, x
    order = max(permutations(range(3)), key=lambda o: round(sum(abs(along[a, w]) for w, a in enumerate(o)), 9))
    z, y, x = (grid.spacing_mm[a] for a in order)
    flipped = tuple(bool(along[a, w] < 0) for w, a in enumerate(order))
    return Hanging(order=order, flipped=flipped, spacing_mm=(z, y, x))


def views_through(
    point: tuple[int, ...], box: Box, spacing_mm: tuple[float, float, float], *, anatomical: bool
) -> tuple[View, ...]:
    """Return the orthogonal views through a point of a hung array: three, or one if an axis has one voxel only.

    Parameters
    ----------
    point
        Index ``(z, y, x)``.
    box
        The part of the hung array to show.
    spacing_mm
        Of the hung array's axes.
    anatomical
        Whether the grid tells where the patient's right is; if not, views have no names and no letters.
    """
    thin = [axis for axis, part in enumerate(box) if part.stop - part.start == 1]
    views = []
    for axis, (name, letters) in enumerate(_PLANES):
        if thin and axis != thin[0]:
            continue
        rows, columns = (s for a, s in enumerate(spacing_mm) if a != axis)
        told = (name, letters) if anatomical else ("", None)
        views.append(
            View(name=told[0], letters=told[1], spacing_mm=(rows, columns), axis=axis, index=point[axis], box=box)
        )
    return tuple(views)


def largest_section(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    """Return, per axis, the index of the plane in which a mask has most voxels; of several the middle one.

    Parameters
    ----------
    mask
        ``(z, y, x)`` bool, not empty.
    """
    point = []
    for axis in range(mask.ndim):
        areas = np.count_nonzero(mask, axis=tuple(a for a in range(mask.ndim) if a != axis))
        largest = np.flatnonzero(areas == areas.max())
        point.append(int(largest[largest.size // 2]))
    return tuple(point)


def box_around(
    mask: NDArray[np.bool_], spacing_mm: tuple[float, ...], *, share: float, least_mm: float
) -> tuple[slice, ...]:
    """Return the box of a mask with a margin on every side; the whole array if the mask is empty.

    Parameters
    ----------
    mask
        ``(z, y, x)`` bool.
    spacing_mm
        Of the array's axes.
    share
        Margin as a share of the mask's extent along the axis.
    least_mm
        Smallest margin in mm.
    """
    box = []
    for axis, size in enumerate(mask.shape):
        held = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if held.size == 0:
            box.append(slice(0, size))
            continue
        margin = round(max(share * (held[-1] + 1 - held[0]), least_mm / spacing_mm[axis]))
        box.append(slice(max(0, int(held[0]) - margin), min(size, int(held[-1]) + 1 + margin)))
    return tuple(box)
