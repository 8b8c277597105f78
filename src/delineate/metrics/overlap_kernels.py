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


_compiled = njit(cache=True, nogil=True, boundscheck=False)


@_compiled
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
    n_labels = len(matrix)
    for z in range(prediction.shape[0]):
        for y in range(prediction.shape[1]):
            ours, theirs = prediction[z, y], reference[z, y]
            start = 0
            while start < len(ours):
                end = _end_of_run(ours, theirs, start)
                first, second = ours[start], theirs[start]
                if second != ignore:
                    if first >= n_labels or second >= n_labels:
                        return False
                    matrix[second, first] += end - start
                _widen(boxes[0], first, first_slice + z, y, start, end)
                _widen(boxes[1], second, first_slice + z, y, start, end)
                start = end
    return True


@_compiled
def _end_of_run(ours: NDArray[Any], theirs: NDArray[Any], start: int) -> int:
    # label maps are mostly constant: a whole stride is compared at once
    first, second = ours[start], theirs[start]
    end = start + 1
    while end + STRIDE <= len(ours):
        change = (ours[end] ^ first) | (theirs[end] ^ second)
        for x in range(end, end + STRIDE):
            change |= (ours[x] ^ first) | (theirs[x] ^ second)
        if change:
            break
        end += STRIDE
    while end < len(ours) and ours[end] == first and theirs[end] == second:
        end += 1
    return end


@_compiled
def _widen(boxes: NDArray[np.int64], label: int, z: int, y: int, start: int, end: int) -> None:
    if 0 < label < len(boxes):
        box = boxes[label]
        box[0, 0], box[0, 1] = min(box[0, 0], z), max(box[0, 1], z + 1)
        box[1, 0], box[1, 1] = min(box[1, 0], y), max(box[1, 1], y + 1)
        box[2, 0], box[2, 1] = min(box[2, 0], start), max(box[2, 1], end)
