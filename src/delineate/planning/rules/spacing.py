"""Rules on spacing and size: target spacing, axis order, and image sizes after resampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delineate.errors import PlanError

ANISOTROPY_THRESHOLD = 3
"""An axis is low in resolution if its spacing is more than this times the next one (nnU-Net ``ANISO_THRESHOLD``)."""
COARSE_AXIS_PERCENTILE = 10
"""Percentile of the spacings taken for a low-resolution axis (nnU-Net ``determine_fullres_target_spacing``)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AxisOrder:
    """A permutation of the three image axes and its inverse."""

    forward: tuple[int, ...]
    backward: tuple[int, ...]


def target_spacing(spacings_mm: NDArray[np.float64], shapes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the spacing to which all cases are resampled at full resolution.

    The median per axis; but for a strongly anisotropic dataset the 10th percentile of the coarse axis, so that cases
    with thin slices are not thrown away.

    Parameters
    ----------
    spacings_mm
        ``(case, axis)`` spacings in mm, axes as in the files (z, y, x).
    shapes
        ``(case, axis)`` sizes in voxels after cropping, same axes.

    Returns
    -------
    NDArray
        ``(axis,)`` mm.

    References
    ----------
    nnU-Net 2.8.1, ``ExperimentPlanner.determine_fullres_target_spacing``.
    """
    target: NDArray[np.float64] = np.percentile(spacings_mm, 50, 0)
    size = np.percentile(shapes, 50, 0)
    worst = int(np.argmax(target))
    others = [axis for axis in range(len(target)) if axis != worst]
    finest_coarse = max(target[axis] for axis in others)
    coarse = target[worst] > ANISOTROPY_THRESHOLD * finest_coarse
    thin = size[worst] * ANISOTROPY_THRESHOLD < min(size[axis] for axis in others)
    if coarse and thin:
        chosen = np.percentile(spacings_mm[:, worst], COARSE_AXIS_PERCENTILE)
        target[worst] = chosen if chosen >= finest_coarse else finest_coarse + 1e-5
    return target


def axis_order(target_spacing_mm: NDArray[np.float64]) -> AxisOrder:
    """Return the order that puts the axis of the largest spacing (mm, z y x) first and keeps the others in order.

    References
    ----------
    nnU-Net 2.8.1, ``ExperimentPlanner.determine_transpose``.
    """
    first = int(np.argmax(target_spacing_mm))
    forward = (first, *(axis for axis in range(len(target_spacing_mm)) if axis != first))
    return AxisOrder(forward=forward, backward=tuple(int(i) for i in np.argsort(forward)))


def resampled_shape(
    shape: Sequence[float], spacing_mm: Sequence[float], new_spacing_mm: Sequence[float]
) -> tuple[int, ...]:
    """Return the size in voxels of an image after resampling: ``round(spacing / new spacing * size)`` per axis.

    All three arguments run over the same axes; spacings in mm. Halves round to even, as Python does.

    References
    ----------
    nnU-Net 2.8.1, ``compute_new_shape``.
    """
    return tuple(round(i / j * k) for i, j, k in zip(spacing_mm, new_spacing_mm, shape, strict=True))


def resampled_shapes(
    shapes: NDArray[np.int64], spacings_mm: NDArray[np.float64], target_mm: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return the sizes ``(case, axis)`` in voxels after resampling every case to ``target_mm`` ``(axis,)``."""
    target = target_mm.tolist()
    return np.array([resampled_shape(n, s, target) for n, s in zip(shapes.tolist(), spacings_mm.tolist(), strict=True)])


def checked_target(target_mm: Sequence[float]) -> NDArray[np.float64]:
    """Return a target spacing given by the user as an array of three mm values (z, y, x).

    Raises
    ------
    PlanError
        If it is not three positive finite numbers.
    """
    target = np.array(target_mm, dtype=np.float64)
    if target.shape != (3,) or not np.all(np.isfinite(target)) or not np.all(target > 0):
        raise PlanError(f"The target spacing must be three positive numbers in mm (z, y, x); got {tuple(target_mm)}.")
    return target
