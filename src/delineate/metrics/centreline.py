"""Centre-line Dice: whether tubes are connected as they should be, whatever their thickness."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from delineate.masks.topology import centre_line
from delineate.metrics.overlap import require_equal_shapes


def centre_line_dice(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float:
    """Return clDice = 2 T S / (T + S), 0 to 1; both empty NaN, one empty 0.

    T (precision) is the share of the prediction's centre line inside the reference, S (sensitivity) the share of the
    reference's centre line inside the prediction. Centre lines are thinned voxels, so the score does not know spacing
    and flipping the arrays can change it a little.

    Parameters
    ----------
    prediction, reference
        (z, y, x) or (y, x) bool, equal shapes.

    Raises
    ------
    GeometryError
        If the shapes differ.

    References
    ----------
    S. Shit et al., clDice: a novel topology-preserving loss function for tubular structure segmentation, CVPR 2021.
    """
    require_equal_shapes(prediction, reference)
    if not prediction.any() or not reference.any():
        return 0.0 if prediction.any() or reference.any() else math.nan
    topological_precision = float(reference[centre_line(prediction)].mean())
    topological_sensitivity = float(prediction[centre_line(reference)].mean())
    total = topological_precision + topological_sensitivity
    return 2 * topological_precision * topological_sensitivity / total if total else 0.0
