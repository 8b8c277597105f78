"""The Gaussian by which a tile's voxels are weighed: the centre counts more than the rim. Knows no torch.

References
----------
Isensee et al., nnU-Net, Nature Methods 18 (2021), online methods "inference"; nnunetv2 2.8.1 ``compute_gaussian``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SIGMA_SHARE = 1 / 8
"""Standard deviation as a share of the patch edge (nnU-Net)."""

PEAK = 10.0
"""Weight at the centre (nnU-Net); without effect on a mean, kept so that the numbers can be compared."""


@lru_cache(maxsize=64)
def gaussian_axis(length: int) -> NDArray[np.float64]:
    """Return the Gaussian over one patch axis of ``length`` voxels, 1 at voxel ``length // 2``; read-only.

    Four standard deviations are half the edge, so no voxel of the patch lies outside.
    """
    distance = np.arange(length) - length // 2
    profile: NDArray[np.float64] = np.exp(-0.5 * (distance / (length * SIGMA_SHARE)) ** 2)
    profile.setflags(write=False)
    return profile


def gaussian_weights(patch_size: Sequence[int]) -> NDArray[np.float32]:
    """Return the weights of a patch, shape ``patch_size``; the highest is :data:`PEAK`, none is 0."""
    weights = np.full((1,) * len(patch_size), PEAK)
    for axis, length in enumerate(patch_size):
        weights = weights * np.expand_dims(gaussian_axis(length), tuple(a for a in range(len(patch_size)) if a != axis))
    single = weights.astype(np.float32)
    single[single == 0] = single[single > 0].min()
    return single
