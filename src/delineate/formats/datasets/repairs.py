"""Repairs that a user may ask for by name, applied while a case is loaded; each one that changes something is logged.

Nothing is repaired unasked. Knows arrays and grids; does not know where cases come from.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.case import Image, LabelMap, LabelScheme
from delineate.errors import GeometryError, InputError, LabelError, UsageError
from delineate.formats.images import stack_channels, whole_numbers
from delineate.geometry.grid import Grid

_log = logging.getLogger(__name__)

NAN_TO_ZERO = "nan-to-zero"
GEOMETRY_FROM_IMAGE = "geometry-from-image"
UNDECLARED_TO_BACKGROUND = "undeclared-to-background"
ROUND_MASK = "round-mask"
MAP_255_TO_1 = "map-255-to-1"
DROP_FAULTY_CASES = "drop-faulty-cases"

REPAIRS = {
    NAN_TO_ZERO: "replace NaN and infinite intensities by 0",
    GEOMETRY_FROM_IMAGE: "trust the first channel's spacing, origin and direction where another file's differ",
    UNDECLARED_TO_BACKGROUND: "turn label values that are not declared into background",
    ROUND_MASK: "round masks to whole numbers",
    MAP_255_TO_1: "read masks that hold 0 and 255 as 0 and 1",
    DROP_FAULTY_CASES: "leave out cases that have faults",
}
"""Name and effect of every repair, as `--repair NAME` takes them."""

BINARY_WHITE = 255
"""Foreground of a binary mask saved as a grey picture."""


def check_repairs(names: Collection[str]) -> frozenset[str]:
    """Return the names as a set if all of them are repairs.

    Raises
    ------
    UsageError
        If a name is unknown.
    """
    unknown = sorted(set(names) - set(REPAIRS))
    if unknown:
        raise UsageError(f"Unknown repair {', '.join(unknown)}; there are: {', '.join(REPAIRS)}.")
    return frozenset(names)


def joined_channels(channels: Sequence[Image], names: Sequence[str], repairs: Collection[str]) -> Image:
    """Return one image of all channels, with the wanted repairs of geometry and of non-finite intensities.

    Raises
    ------
    GeometryError
        If the channels do not lie on one grid and this is not repaired.
    InputError
        If intensities are NaN or infinite and this is not repaired.
    """
    grid = channels[0].grid
    aligned = [with_grid(c, grid, n, repairs) for c, n in zip(channels, names, strict=True)]
    image = stack_channels(aligned, names)
    count = non_finite_count(image.array)
    if not count:
        return image
    if NAN_TO_ZERO not in repairs:
        raise InputError(
            f"{names[0]}: expected finite intensities; found {count} voxels that are NaN or infinite. "
            f"Use `--repair {NAN_TO_ZERO}` or export the image again."
        )
    _log.warning("%s: %d voxels were NaN or infinite; set to 0", names[0], count)
    return Image(array=np.nan_to_num(image.array, nan=0.0, posinf=0.0, neginf=0.0), grid=grid)


def label_map(mask: Image, grid: Grid, scheme: LabelScheme, name: str, repairs: Collection[str]) -> LabelMap:
    """Return the mask as label values of the scheme on the image's grid, with the wanted repairs.

    Raises
    ------
    GeometryError
        If the mask does not lie on ``grid`` and this is not repaired.
    LabelError
        If values are not whole or not declared and this is not repaired.
    """
    aligned = with_grid(mask, grid, name, repairs)
    if differences := grid.differences(aligned.grid):
        raise GeometryError(
            f"{name}: expected the grid of the image; found {'; '.join(differences)}. "
            f"Use `--repair {GEOMETRY_FROM_IMAGE}` if only the header is wrong."
        )
    values = declared_values(repaired_values(aligned.array[0], name, repairs), scheme, name, repairs)
    return LabelMap(array=values, grid=grid, scheme=scheme)


def with_grid(image: Image, grid: Grid, name: str, repairs: Collection[str]) -> Image:
    """Return the image on ``grid`` if that repair is wanted and possible (equal shapes), else as it is."""
    if GEOMETRY_FROM_IMAGE not in repairs or image.grid.shape != grid.shape or image.grid.matches(grid):
        return image
    _log.warning("%s: geometry taken from the image (%s)", name, "; ".join(grid.differences(image.grid)))
    return Image(array=image.array, grid=grid)


def repaired_values(array: NDArray[Any], name: str, repairs: Collection[str]) -> NDArray[Any]:
    """Return mask values ``(z, y, x)`` or ``(y, x)`` as integers: rounded, and 255 read as 1, where that is wanted.

    Raises
    ------
    LabelError
        If a value is not a whole number and rounding is not wanted.
    """
    if ROUND_MASK in repairs and not np.issubdtype(array.dtype, np.integer):
        rounded = np.rint(np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0))
        if not np.array_equal(rounded, array):
            _log.warning("%s: mask rounded to whole numbers", name)
        array = rounded
    values = whole_numbers(array, name)
    if MAP_255_TO_1 in repairs and is_black_and_white(values):
        _log.warning("%s: label value 255 read as 1", name)
        return np.asarray(values == BINARY_WHITE, dtype=np.uint8)
    return values


def declared_values(values: NDArray[Any], scheme: LabelScheme, name: str, repairs: Collection[str]) -> NDArray[Any]:
    """Return the mask if all its values are declared, or with the others set to background if that is wanted.

    Raises
    ------
    LabelError
        If a value is not declared and this is not repaired.
    """
    highest = highest_label(scheme)
    if values.min() >= 0 and values.max() <= highest:
        return values
    wrong = (values < 0) | (values > highest)
    found = [int(v) for v in np.unique(values[wrong])]
    if UNDECLARED_TO_BACKGROUND not in repairs:
        advice = MAP_255_TO_1 if is_black_and_white(values) else UNDECLARED_TO_BACKGROUND
        raise LabelError(
            f"{name}: expected label values 0 to {highest} as declared; found {found}. Declare them, or use "
            f"`--repair {advice}`."
        )
    _log.warning("%s: undeclared label values %s set to background", name, found)
    return np.where(wrong, 0, values).astype(values.dtype)


def is_black_and_white(values: NDArray[Any]) -> bool:
    """Say whether a mask holds 255 and otherwise only 0."""
    return bool(values.max() == BINARY_WHITE) and bool(np.all((values == 0) | (values == BINARY_WHITE)))


def highest_label(scheme: LabelScheme) -> int:
    """Return the highest value that a mask may hold, the ignore label included."""
    return scheme.ignore if scheme.ignore is not None else scheme.values[-1]


def non_finite_count(array: NDArray[Any]) -> int:
    """Return how many numbers are NaN or infinite."""
    return int(array.size - np.isfinite(array).sum()) if np.issubdtype(array.dtype, np.floating) else 0
