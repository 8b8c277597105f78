"""Removal of pieces from label maps: of single labels, the others stay as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.masks.components import largest_component, without_small_components


def keep_largest_piece(labels: NDArray[Any], value: int) -> NDArray[Any]:
    """Return the label map with only the largest piece of one label; its other voxels become background.

    Parameters
    ----------
    labels
        (z, y, x), an integer dtype. Pieces are connected by faces.
    value
        The label.
    """
    mask = labels == value
    return np.where(mask & ~largest_component(mask, by_faces=True), 0, labels).astype(labels.dtype, copy=False)


def drop_small_pieces(labels: NDArray[Any], value: int, largest_dropped: float) -> NDArray[Any]:
    """Return the label map without the pieces of one label that have at most so many voxels.

    Parameters
    ----------
    labels
        (z, y, x), an integer dtype. Pieces are connected by faces.
    value
        The label.
    largest_dropped
        Voxels; a volume divided by that of a voxel.
    """
    mask = labels == value
    kept = without_small_components(mask, np.floor(largest_dropped) + 1, by_faces=True)
    return np.where(mask & ~kept, 0, labels).astype(labels.dtype, copy=False)
