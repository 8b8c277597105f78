"""Lesion-wise detection: how many lesions were found and how many were invented, whatever their size.

A lesion is a connected component (faces, edges and corners connect). What counts as found is part of the definition and
goes by name. The module knows boolean arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from delineate.errors import UsageError
from delineate.masks.components import label_components
from delineate.metrics.contingency import InstanceOverlap, assign, instance_overlap

OverlapRule = Literal["any_voxel", "coverage", "iou"]
"""When a lesion is found; see :func:`lesion_detection`."""

_Found = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class LesionDetection:
    """Counts of one case; cases are pooled by adding them."""

    n_reference: int
    n_detected: int
    """Reference lesions that were found."""
    n_predicted: int
    n_false_positive: int
    """Predicted lesions that found nothing."""

    @property
    def sensitivity(self) -> float:
        """Detected / reference lesions, 0 to 1; NaN without reference lesions."""
        return self.n_detected / self.n_reference if self.n_reference else math.nan

    @property
    def precision(self) -> float:
        """1 - false positives / predicted lesions, 0 to 1; NaN without predicted lesions."""
        return 1 - self.n_false_positive / self.n_predicted if self.n_predicted else math.nan

    @property
    def f1(self) -> float:
        """2 D / (2 D + FP + FN) with D detected and FN missed reference lesions, 0 to 1; NaN without any lesion."""
        total = self.n_detected + self.n_reference + self.n_false_positive
        return 2 * self.n_detected / total if total else math.nan

    def __add__(self, other: LesionDetection) -> LesionDetection:
        return LesionDetection(
            n_reference=self.n_reference + other.n_reference,
            n_detected=self.n_detected + other.n_detected,
            n_predicted=self.n_predicted + other.n_predicted,
            n_false_positive=self.n_false_positive + other.n_false_positive,
        )


def lesion_detection(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    *,
    rule: OverlapRule = "any_voxel",
    threshold: float = 0.1,
) -> LesionDetection:
    """Count found, missed and invented lesions.

    Parameters
    ----------
    prediction, reference
        (z, y, x) or (y, x) bool, equal shapes.
    rule
        ``any_voxel``: a lesion is found if one voxel of it is predicted, and a predicted one is false if no voxel of it
        is in the reference. ``coverage``: at least ``threshold`` of a reference lesion's voxels must be predicted, and
        at least ``threshold`` of a predicted lesion's voxels be in the reference. ``iou``: pairs one to one, of IoU at
        least ``threshold``, as many as possible.
    threshold
        Above 0, at most 1; not used by ``any_voxel``.

    Raises
    ------
    GeometryError
        If the shapes differ.
    UsageError
        If the rule is unknown or the threshold impossible.

    References
    ----------
    A. Carass et al., Longitudinal multiple sclerosis lesion segmentation, NeuroImage 148 (2017), for lesion-wise rates;
    L. Maier-Hein et al., Metrics reloaded, Nature Methods 21 (2024), for naming the overlap rule.
    """
    if rule not in _RULES:
        raise UsageError(f"The overlap rule must be one of {', '.join(_RULES)}; got '{rule}'.")
    if not 0 < threshold <= 1:
        raise UsageError(f"The threshold of an overlap rule must be above 0 and at most 1; got {threshold}.")
    overlap = instance_overlap(label_components(prediction)[0], label_components(reference)[0])
    found, true = _RULES[rule](overlap, threshold)
    return LesionDetection(
        n_reference=len(overlap.reference_ids),
        n_detected=len(found),
        n_predicted=len(overlap.predicted_ids),
        n_false_positive=len(overlap.predicted_ids) - len(true),
    )


def _by_any_voxel(overlap: InstanceOverlap, _threshold: float) -> _Found:
    return np.unique(overlap.reference), np.unique(overlap.predicted)


def _by_coverage(overlap: InstanceOverlap, threshold: float) -> _Found:
    in_reference = np.bincount(overlap.reference, overlap.intersection, len(overlap.reference_ids))
    in_prediction = np.bincount(overlap.predicted, overlap.intersection, len(overlap.predicted_ids))
    return (
        np.flatnonzero(in_reference >= threshold * overlap.reference_sizes),
        np.flatnonzero(in_prediction >= threshold * overlap.predicted_sizes),
    )


def _by_iou(overlap: InstanceOverlap, threshold: float) -> _Found:
    iou = overlap.iou
    near = np.flatnonzero(iou >= threshold)
    chosen = near[assign(overlap.predicted[near], overlap.reference[near], 1 + 1e-6 * iou[near])]
    return overlap.reference[chosen], overlap.predicted[chosen]


_RULES: Mapping[str, Callable[[InstanceOverlap, float], _Found]] = {
    "any_voxel": _by_any_voxel,
    "coverage": _by_coverage,
    "iou": _by_iou,
}
