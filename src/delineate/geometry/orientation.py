"""Orientation of volumes: turning an array until its axes run along the patient's, and back, without interpolation.

A reorientation permutes the axes of an array and flips some of them. Codes name the world direction in which an axis of
an image runs, in the order x, y, z, as nibabel and ITK's users write them: R, L, A, P, S, I.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.errors import GeometryError
from delineate.geometry.crop import Box
from delineate.geometry.grid import Grid

CANONICAL = "RAS"
"""nibabel's canonical orientation: x to the right, y to the front, z to the head."""
WORLD_AXES = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
"""Code -> world axis (LPS) and sign along it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reorientation:
    """A permutation and flips of the three axes (z, y, x) of a volume.

    Attributes
    ----------
    axes
        For every new axis the old axis that it is.
    flips
        For every new axis whether it runs backwards.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def __post_init__(self) -> None:
        if sorted(self.axes) != [0, 1, 2]:
            raise GeometryError(f"A reorientation permutes the axes 0, 1, 2; got {self.axes}.")

    @property
    def inverse(self) -> Reorientation:
        """The reorientation that takes arrays back."""
        back = [self.axes.index(old) for old in range(3)]
        return Reorientation(
            axes=(back[0], back[1], back[2]),
            flips=(self.flips[back[0]], self.flips[back[1]], self.flips[back[2]]),
        )

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the reoriented array, a view; the last three axes are z, y, x, leading ones are kept."""
        lead = array.ndim - 3
        turned = array.transpose(*range(lead), *(lead + axis for axis in self.axes))
        cut: tuple[Any, ...] = (..., *(slice(None, None, -1) if flip else slice(None) for flip in self.flips))
        result: NDArray[Any] = turned[cut]
        return result

    def apply_to_grid(self, grid: Grid) -> Grid:
        """Return the grid on which the reoriented array lies; every voxel keeps its place in the world."""
        corner = [0, 0, 0]
        for axis, flip in zip(self.axes, self.flips, strict=True):
            corner[axis] = grid.shape[axis] - 1 if flip else 0
        signs = [-1.0 if flip else 1.0 for flip in self.flips]
        origin = grid.affine @ (*corner, 1)
        return Grid(
            shape=tuple(grid.shape[axis] for axis in self.axes),
            spacing_mm=tuple(grid.spacing_mm[axis] for axis in self.axes),
            origin_mm=tuple(float(v) for v in origin[:3]),
            direction=tuple(
                tuple(sign * v for v in grid.direction[axis]) for axis, sign in zip(self.axes, signs, strict=True)
            ),
        )


def reorientation_to(grid: Grid, codes: str = CANONICAL) -> Reorientation:
    """Return how to turn a volume so that its x, y, z axes run as closely as possible along ``codes``.

    The axes of the image, the one that is closest to a world axis first, take the free world axis along which they run
    most (the rule of ``io_orientation`` of nibabel 5.4), so that oblique volumes stay oblique and are turned by quarter
    turns only.

    Parameters
    ----------
    grid
        A volume's grid.
    codes
        Wanted directions of x, y, z, for instance ``RAS`` or ``LPS``.

    Raises
    ------
    GeometryError
        If the grid is a plane, or the codes do not name three different axes.
    """
    wanted = [WORLD_AXES.get(code) for code in codes]
    known = [axis for axis in wanted if axis is not None]
    if grid.dims != 3 or sorted(axis for axis, _ in known) != [0, 1, 2]:
        raise GeometryError(f"Only volumes are turned, and only to three different directions; got '{codes}'.")
    taken = _world_axes(grid)
    axes, flips = [], []
    for world, sign in known[::-1]:  # the new z, y, x
        axis = next(i for i in range(3) if taken[i][0] == world)
        axes.append(axis)
        flips.append(taken[axis][1] != sign)
    return Reorientation(axes=(axes[0], axes[1], axes[2]), flips=(flips[0], flips[1], flips[2]))


def orientation_codes(grid: Grid) -> str:
    """Return the directions of the volume's x, y, z axes as codes, for instance ``LPS``."""
    names = {value: code for code, value in WORLD_AXES.items()}
    return "".join(names[axis] for axis in _world_axes(grid)[::-1])


def crop_grid(grid: Grid, box: Box) -> Grid:
    """Return the grid of the part of an array inside a box."""
    origin = grid.affine @ (*(start for start, _ in box), 1)
    return Grid(
        shape=tuple(stop - start for start, stop in box),
        spacing_mm=grid.spacing_mm,
        origin_mm=tuple(float(v) for v in origin[:-1]),
        direction=grid.direction,
    )


def _world_axes(grid: Grid) -> list[tuple[int, int]]:
    """Return for the array axes z, y, x the world axis that each is given and the sign along it."""
    cosines = np.array(grid.direction, dtype=np.float64)
    taken: list[tuple[int, int]] = [(0, 1)] * 3
    strengths = np.max(cosines**2, axis=1)
    for axis in sorted((2, 1, 0), key=lambda one: -strengths[one]):
        world = int(np.argmax(np.abs(cosines[axis])))
        taken[axis] = (world, 1 if cosines[axis, world] >= 0 else -1)
        cosines[:, world] = 0
    return taken
