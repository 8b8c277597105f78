"""Compiled kernel: the counts of label pairs and the box of every label, of two label maps, in one pass.

Needs numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

STRIDE = 64
"""Voxels that are compared at once while label maps are constant."""


@njit(cache=True, nogil=True, boundscheck=False)
def survey(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    first_slice: int,
    ignore: int,
    matrix: NDArray[np.int64],
    boxes: NDArray[np.int64],
) -> bool:
    """Add one slab's counts of label pairs, and widen the labels' boxes; return whether every label fits the matrix.

    Parameters
    ----------
    prediction, reference
        (z, y, x) uint8 or uint16, of equal dtype.
    first_slice
        Index of the slab's first slice in the whole volume.
    ignore
        Reference value whose voxels are not counted; negative for none.
    matrix
        (reference label, predicted label) counts.
    boxes
        (prediction or reference, label, axis, 2): first index, and index after the last, of labels above 0.
    """
    slices, rows, columns = prediction.shape
    n_labels = len(matrix)
    for z in range(slices):
        for y in range(rows):
            ours, theirs = prediction[z, y], reference[z, y]
            start = 0
            while start < columns:
                first, second = ours[start], theirs[start]
                end = start + 1
                while end + STRIDE <= columns:
                    change = (ours[end] ^ first) | (theirs[end] ^ second)
                    for x in range(end, end + STRIDE):
                        change |= (ours[x] ^ first) | (theirs[x] ^ second)
                    if change:
                        break
                    end += STRIDE
                while end < columns and ours[end] == first and theirs[end] == second:
                    end += 1
                if second != ignore:
                    if first >= n_labels or second >= n_labels:
                        return False
                    matrix[second, first] += end - start
                for side in range(2):
                    label = first if side == 0 else second
                    if 0 < label < n_labels:
                        box = boxes[side, label]
                        box[0, 0], box[0, 1] = min(box[0, 0], first_slice + z), max(box[0, 1], first_slice + z + 1)
                        box[1, 0], box[1, 1] = min(box[1, 0], y), max(box[1, 1], y + 1)
                        box[2, 0], box[2, 1] = min(box[2, 0], start), max(box[2, 1], end)
                start = end
    return True
