"""Images and label maps: an array and the grid on which it lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.case.labels import LabelScheme
from delineate.errors import GeometryError, LabelError
from delineate.geometry.grid import Grid


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Image:
    """Intensities on a grid.

    Attributes
    ----------
    array
        ``(channel, z, y, x)`` or ``(channel, y, x)``, any real dtype.
    grid
        Where the voxels lie (LPS mm).

    Raises
    ------
    GeometryError
        If the array's spatial shape is not the grid's.
    """

    array: NDArray[Any]
    grid: Grid

    def __post_init__(self) -> None:
        if self.array.shape[1:] != self.grid.shape or self.array.shape[0] < 1:
            raise GeometryError(f"An image array must be (channel, *{self.grid.shape}); got {self.array.shape}.")

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.array.shape[0])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelMap:
    """Label values on a grid.

    Attributes
    ----------
    array
        ``(z, y, x)`` or ``(y, x)``, an integer dtype.
    grid
        Where the voxels lie (LPS mm).
    scheme
        What the values mean, if known.

    Raises
    ------
    GeometryError
        If the array's shape is not the grid's.
    LabelError
        If the array is not of an integer dtype.
    """

    array: NDArray[Any]
    grid: Grid
    scheme: LabelScheme | None = None

    def __post_init__(self) -> None:
        if self.array.shape != self.grid.shape:
            raise GeometryError(f"A label array must have the grid's shape {self.grid.shape}; got {self.array.shape}.")
        if not np.issubdtype(self.array.dtype, np.integer):
            raise LabelError(f"A label array must be of an integer dtype; got {self.array.dtype}.")
