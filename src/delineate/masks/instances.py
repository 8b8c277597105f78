"""Instances: arrays where every object has a number of its own.

Knows integer arrays of any number of axes; 0 is the background, other numbers need not follow each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.errors import LabelError


def instance_centroids(instances: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the number and the centre of mass of every instance.

    Parameters
    ----------
    instances
        Integers not below 0, any number of axes.

    Returns
    -------
    tuple
        (instance,) int64 numbers in rising order; (instance, axis) float64 array indices.

    Raises
    ------
    LabelError
        If the array is not integer or holds negative numbers.
    """
    if instances.dtype.kind not in "iub" or (instances.size and int(instances.min()) < 0):
        raise LabelError(f"Instances must be whole numbers from 0; got an array of {instances.dtype}.")
    where = np.nonzero(instances)
    numbers, index = np.unique(instances[where], return_inverse=True)
    sizes = np.bincount(index, minlength=len(numbers))
    centres = [np.bincount(index, weights=axis, minlength=len(numbers)) / sizes for axis in where]
    return numbers.astype(np.int64), np.stack(centres, axis=-1)
