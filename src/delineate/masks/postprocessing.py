"""Post-processing of label maps: of some label values together, only the largest connected component stays.

Which steps a model gets is decided on cross-validation (``metrics.postprocessing_choice``). Knows no files, no models.

References
----------
nnU-Net 2.8.1, ``postprocessing/remove_connected_components.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.errors import LabelError
from delineate.masks.components import largest_component


@dataclass(frozen=True, kw_only=True, slots=True)
class PostprocessingStep:
    """Keep the largest component of the union of some label values; components of equal size all stay.

    Raises
    ------
    LabelError
        If there is no value, or one is not positive.
    """

    values: tuple[int, ...]
    """Label values whose voxels are looked at together; what is not kept becomes background."""

    def __post_init__(self) -> None:
        if not self.values or min(self.values) < 1:
            raise LabelError(f"A post-processing step needs positive label values; got {self.values}.")


def postprocess(labels: NDArray[Any], steps: Sequence[PostprocessingStep]) -> NDArray[Any]:
    """Return a label map (z, y, x) or (y, x) after the steps, one after the other; without steps the map itself."""
    for step in steps:
        labels = _keep_largest(labels, step.values)
    return labels


def _keep_largest(labels: NDArray[Any], values: tuple[int, ...]) -> NDArray[Any]:
    mask = np.isin(labels, values)
    if not mask.any():
        return labels
    box = ndimage.find_objects(mask.view(np.uint8))[0]
    inside = np.ascontiguousarray(mask[box])
    result = labels.copy()
    result[box][inside & ~largest_component(inside)] = 0
    return result
