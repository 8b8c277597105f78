"""The skin as a shell: the outermost voxels of the body that are as dense as skin.

The rule and its numbers are TotalSegmentator's (2.18, derived mask of its task ``body``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.masks.components import without_small_components

OUTWARD, INWARD = 1, 3
"""Voxels by which the body is widened, and by which the widened body is then eroded."""
DENSITY_HU = (-200.0, 250.0)
"""Skin lies between these intensities; wide, so that it has no holes."""
LEAST_VOXELS = 6
"""Pieces of five voxels or fewer are dropped."""


def skin_of(body: NDArray[np.bool_], intensities: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the skin.

    Parameters
    ----------
    body
        (z, y, x) bool.
    intensities
        (z, y, x) CT in HU.

    Returns
    -------
    NDArray
        (z, y, x) bool. Where the body leaves the image its cut is skin too if it is as dense, as in TotalSegmentator.
    """
    wide = ndimage.binary_dilation(body, iterations=OUTWARD)
    shell = wide & ~ndimage.binary_erosion(wide, iterations=INWARD)
    low, high = DENSITY_HU
    shell &= (intensities > low) & (intensities < high)
    return without_small_components(shell, LEAST_VOXELS, by_faces=True)
