"""Rules on the patch: its first shape from the spacing, and shrinking it until it fits the memory reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from delineate.errors import PlanError
from delineate.planning.rules.topology import Pooling, pooling

INITIAL_PATCH_VOXELS = {3: 256**3, 2: 2048**2}
"""Size of the first patch before clipping to the median image, by number of axes (nnU-Net)."""


def initial_patch(spacing_mm: Sequence[float], median_shape: Sequence[float]) -> tuple[float, ...]:
    """Return the first patch: inverse to the spacing, of fixed volume, clipped to the median image (voxels per axis).

    A median may be a half voxel, therefore floats.

    References
    ----------
    nnU-Net 2.8.1, ``ExperimentPlanner.get_plans_for_configuration``.
    """
    dims = len(spacing_mm)
    density = 1 / np.array(spacing_mm)
    ideal = density * (INITIAL_PATCH_VOXELS[dims] / np.prod(density)) ** (1 / dims)
    return tuple(float(min(round(i), j)) for i, j in zip(ideal, median_shape, strict=True))


def axis_to_shrink(patch_size: Sequence[int], median_shape: Sequence[float]) -> int:
    """Return the axis whose patch is largest relative to the median image; the later one of equals.

    References
    ----------
    nnU-Net 2.8.1 takes the last entry of ``argsort``, which for two or three numbers is the later of equals.
    """
    ratios = [p / m for p, m in zip(patch_size, median_shape, strict=True)]
    return max(range(len(ratios)), key=lambda axis: (ratios[axis], axis))


def shrink_once(found: Pooling, spacing_mm: Sequence[float], median_shape: Sequence[float]) -> Pooling:
    """Return the topology with the next smaller patch.

    The axis loses as many voxels as the divisor *after* a trial step: subtracting the old divisor could jump over a
    valid size (256 to 192, missing 224).

    Raises
    ------
    PlanError
        If the patch cannot become smaller.

    References
    ----------
    nnU-Net 2.8.1, shrink loop of ``ExperimentPlanner.get_plans_for_configuration``.
    """
    axis = axis_to_shrink(found.patch_size, median_shape)
    trial = _less(found.patch_size, axis, found.divisor[axis])
    step = pooling(spacing_mm, trial).divisor[axis]
    smaller = _less(found.patch_size, axis, step)
    if smaller[axis] < 1:
        raise PlanError(
            f"No patch fits the memory target: patch {found.patch_size} at spacing {tuple(spacing_mm)} mm is still too "
            "large and cannot shrink further. Give a larger memory target."
        )
    return pooling(spacing_mm, smaller)


def _less(patch_size: Sequence[int], axis: int, step: int) -> tuple[int, ...]:
    return tuple(n - step if i == axis else n for i, n in enumerate(patch_size))


def fit_patch(
    spacing_mm: Sequence[float], median_shape: Sequence[float], *, too_large: Callable[[Pooling], bool]
) -> Pooling:
    """Return the first topology, from the initial patch downwards, that is not ``too_large``.

    Raises
    ------
    PlanError
        If no patch is small enough.
    """
    found = pooling(spacing_mm, initial_patch(spacing_mm, median_shape))
    while too_large(found):
        found = shrink_once(found, spacing_mm, median_shape)
    return found
