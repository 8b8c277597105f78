"""Two grids that should be one: what differs, and mistakes of axes and signs that resampling would only hide."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.errors import GeometryError
from delineate.geometry.grid import Grid

RELATIVE_TOLERANCE = 1e-3
"""Spacings that differ by less are equal, as headers in single precision show them."""


def mistaken_axes(found: Grid, expected: Grid) -> str | None:
    """Say in words which mistake of axes or signs explains that two grids differ; None if none does.

    Recognised are a spacing in the wrong order, an array saved with its axes exchanged, and an origin whose x and y
    have the wrong sign (RAS and LPS confused). A grid that fills the same place with turned axes is no mistake.

    Parameters
    ----------
    found, expected
        The grid of a file and the one that it should have.
    """
    if found.dims != expected.dims or found.matches(expected) or fill_the_same_place(found, expected):
        return None
    if found.shape == expected.shape and (order := permutation(found.spacing_mm, expected.spacing_mm)) is not None:
        return (
            f"its spacing ({_words(found.spacing_mm)}) mm is ({_words(expected.spacing_mm)}) mm in another order: the "
            f"spacing was written for other axes (axis {_axes(order)} of the array)"
        )
    if found.shape != expected.shape and (order := permutation(found.shape, expected.shape)) is not None:
        return (
            f"its shape ({_words(found.shape)}) is ({_words(expected.shape)}) in another order: the array was saved "
            f"with its axes exchanged (axis {_axes(order)} of the other)"
        )
    if _signs_turned(found, expected):
        return "its origin is the other one with the signs of x and y turned: RAS and LPS coordinates were confused"
    return None


def fill_the_same_place(first: Grid, second: Grid) -> bool:
    """Say whether two grids fill the same box of the world, to half a voxel, whatever the order of their axes."""
    limit = 0.5 * min(first.spacing_mm + second.spacing_mm)
    gaps = np.linalg.norm(_corners(first)[:, None] - _corners(second)[None], axis=-1)
    return bool((gaps.min(axis=0) <= limit).all() and (gaps.min(axis=1) <= limit).all())


def overlap_in_space(first: Grid, second: Grid) -> bool:
    """Say whether the boxes around two grids, along the axes of the world, have any place in common."""
    one, other = _corners(first), _corners(second)
    return bool((one.min(axis=0) < other.max(axis=0)).all() and (other.min(axis=0) < one.max(axis=0)).all())


def nearest_labels(labels: NDArray[np.generic], source: Grid, target: Grid) -> NDArray[np.generic]:
    """Return the label of the nearest voxel of ``source`` at every voxel of ``target``; 0 outside.

    Parameters
    ----------
    labels
        ``(z, y, x)`` or ``(y, x)`` on ``source``, any integer dtype, which is kept.
    source, target
        Grids in LPS mm of equally many axes, in any position to each other.

    Raises
    ------
    GeometryError
        If the shapes do not fit, or one grid is a plane and the other a volume.
    """
    if labels.shape != source.shape or source.dims != target.dims:
        raise GeometryError(
            f"Labels of shape {labels.shape} on a grid of shape {source.shape} cannot be taken to one of shape "
            f"{target.shape}: expected equal shapes, and planes with planes."
        )
    to_index = np.linalg.solve(source.affine, target.affine)
    n = source.dims
    found: NDArray[np.generic] = ndimage.affine_transform(
        labels,
        to_index[:n, :n],
        offset=to_index[:n, n],
        output_shape=target.shape,
        output=labels.dtype,
        order=0,
        mode="grid-constant",
    )
    return found


def permutation(values: Sequence[float], of: Sequence[float]) -> tuple[int, ...] | None:
    """Return an order with ``values[i] == of[order[i]]`` for all i; None if the two are equal or there is none."""
    if len(values) != len(of) or np.allclose(values, of, rtol=RELATIVE_TOLERANCE):
        return None
    orders = itertools.permutations(range(len(of)))
    return next((o for o in orders if np.allclose(values, [of[i] for i in o], rtol=RELATIVE_TOLERANCE)), None)


def _corners(grid: Grid) -> NDArray[np.float64]:
    """Return (2^n, n) world positions of the outer corners of the voxels at the ends."""
    ends = [(-0.5, size - 0.5) for size in grid.shape]
    index = np.array([(*corner, 1.0) for corner in itertools.product(*ends)])
    return np.asarray((index @ grid.affine.T)[:, : grid.dims], np.float64)


def _signs_turned(found: Grid, expected: Grid) -> bool:
    if found.shape != expected.shape or not np.allclose(found.spacing_mm, expected.spacing_mm, rtol=RELATIVE_TOLERANCE):
        return False
    turned = np.array(expected.origin_mm) * np.where(np.arange(expected.dims) < 2, -1.0, 1.0)
    same_direction = np.allclose(found.direction, expected.direction, atol=RELATIVE_TOLERANCE)
    return same_direction and np.allclose(found.origin_mm, turned, atol=1e-2)


def _words(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _axes(order: Sequence[int]) -> str:
    return ", ".join(f"{i} is axis {j}" for i, j in enumerate(order))
