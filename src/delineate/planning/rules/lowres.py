"""Rules on the low-resolution configuration: when it is worth planning, and how its spacing grows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LOWRES_BELOW_COVERAGE = 0.25
"""A patch that holds less than this share of the median image calls for a coarser view (nnU-Net)."""
SPACING_STEP = 1.03
"""Factor by which the spacing grows per attempt (nnU-Net)."""
MIN_SIZE_RATIO = 2
"""A low resolution that has more than half of the voxels is dropped (nnU-Net)."""


def coarser(spacing_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the next coarser spacing ``(axis,)`` mm: first the fine axes catch up to half the coarsest, then all grow.

    References
    ----------
    nnU-Net 2.8.1, ``ExperimentPlanner.plan_experiment``.
    """
    fine = spacing_mm.max() / spacing_mm > 2
    grows = fine if fine.any() else np.ones_like(fine)
    return np.where(grows, spacing_mm * SPACING_STEP, spacing_mm)


def covers_too_little(patch_voxels: float, median_voxels: float) -> bool:
    """Say whether a patch shows so little of the median image that a low resolution is needed."""
    return patch_voxels / median_voxels < LOWRES_BELOW_COVERAGE


def too_similar(fullres_voxels: float, lowres_voxels: float) -> bool:
    """Say whether a low resolution is too close to the full one to be of use."""
    return fullres_voxels / lowres_voxels < MIN_SIZE_RATIO
