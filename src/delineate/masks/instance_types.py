"""Which type each instance has, from a probability per type and pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def types_of_instances(
    labels: NDArray[Any], probabilities: NDArray[Any], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the type of the largest mean probability of every instance, and that mean.

    Parameters
    ----------
    labels
        (y, x) integer: 0, or instances 1 to ``count``, every number in use.
    probabilities
        (type, y, x) of types 1, 2, ... without the background; bytes (255 is 1) or fractions. (0, y, x): no types.
    count
        Number of instances.

    Returns
    -------
    tuple
        (instance,) types, 0 if there are none or no pixel speaks for one; (instance,) means from 0 to 1, NaN without
        types.
    """
    if not len(probabilities) or not count:
        return np.zeros(count, dtype=np.int64), np.full(count, np.nan)
    own = labels > 0
    numbers = labels[own]
    sizes = np.bincount(numbers, minlength=count + 1)[1:]
    means = np.stack([np.bincount(numbers, weights=k[own], minlength=count + 1)[1:] / sizes for k in probabilities])
    scale = 255.0 if probabilities.dtype == np.uint8 else 1.0
    highest = means.max(axis=0)
    types: NDArray[np.int64] = np.where(highest > 0, means.argmax(axis=0) + 1, 0).astype(np.int64)
    return types, highest / scale
