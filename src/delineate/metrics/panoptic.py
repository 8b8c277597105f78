"""Scores of instances: panoptic quality, aggregated Jaccard, average precision, detection and typed F1.

All but the detection scores follow from one :class:`~delineate.metrics.contingency.InstanceOverlap`. The module knows
instance numbers and points; it does not know what an instance is. An image without any instance, predicted or
referenced, has no score: NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from delineate.errors import GeometryError, UsageError
from delineate.metrics.contingency import InstanceOverlap, assign

PANOPTIC_IOU = 0.5
"""Pairs above this IoU are matches; from 0.5 on no instance can be in two of them (Kirillov et al. 2019)."""

AP_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""IoU thresholds 0.50 to 0.95 of the 2018 Data Science Bowl and COCO."""

IGNORED_TYPE = -1
"""Type of reference objects whose class nobody knows; they count in detection and not in typing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticQuality:
    """Counts behind panoptic quality; images are pooled by adding them."""

    true_positive: int
    false_positive: int
    false_negative: int
    iou_sum: float
    """Over the matched pairs."""

    @property
    def detection(self) -> float:
        """DQ = TP / (TP + FP/2 + FN/2), 0 to 1; NaN without instances."""
        total = self.true_positive + 0.5 * (self.false_positive + self.false_negative)
        return self.true_positive / total if total else math.nan

    @property
    def segmentation(self) -> float:
        """SQ = mean IoU of the matched pairs, above 0.5 to 1; NaN without a match."""
        return self.iou_sum / self.true_positive if self.true_positive else math.nan

    @property
    def quality(self) -> float:
        """PQ = DQ x SQ = sum IoU / (TP + FP/2 + FN/2), 0 to 1; NaN without instances."""
        total = self.true_positive + 0.5 * (self.false_positive + self.false_negative)
        return self.iou_sum / total if total else math.nan

    def __add__(self, other: PanopticQuality) -> PanopticQuality:
        return PanopticQuality(
            true_positive=self.true_positive + other.true_positive,
            false_positive=self.false_positive + other.false_positive,
            false_negative=self.false_negative + other.false_negative,
            iou_sum=self.iou_sum + other.iou_sum,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection:
    """Pairs of points that stand for the same object, and what is left over."""

    predicted: NDArray[np.int64]
    """(pair,) indices of predicted points."""
    reference: NDArray[np.int64]
    """(pair,) indices of reference points."""
    n_predicted: int
    n_reference: int

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN), 0 to 1; NaN without points."""
        total = self.n_predicted + self.n_reference
        return 2 * len(self.predicted) / total if total else math.nan

    @property
    def precision(self) -> float:
        """TP / (TP + FP), 0 to 1; NaN without predicted points."""
        return len(self.predicted) / self.n_predicted if self.n_predicted else math.nan

    @property
    def recall(self) -> float:
        """TP / (TP + FN), 0 to 1; NaN without reference points."""
        return len(self.reference) / self.n_reference if self.n_reference else math.nan


def panoptic_quality(overlap: InstanceOverlap, threshold: float = PANOPTIC_IOU) -> PanopticQuality:
    """Match instances whose IoU is above a threshold and count.

    From 0.5 on the pairs are unique; below, the assignment of largest IoU sum among the pairs above the threshold.

    Parameters
    ----------
    overlap
        Of one image.
    threshold
        0 to below 1; a pair's IoU must be strictly above it.

    Raises
    ------
    UsageError
        If the threshold is impossible.

    References
    ----------
    A. Kirillov et al., Panoptic segmentation, CVPR 2019; S. Graham et al., HoVer-Net, Med. Image Anal. 58 (2019).
    """
    if not 0 <= threshold < 1:
        raise UsageError(f"The IoU threshold of panoptic quality must be from 0 to below 1; got {threshold}.")
    above = np.flatnonzero(overlap.iou > threshold)
    if threshold < PANOPTIC_IOU:
        above = above[assign(overlap.predicted[above], overlap.reference[above], overlap.iou[above])]
    return PanopticQuality(
        true_positive=len(above),
        false_positive=len(overlap.predicted_ids) - len(above),
        false_negative=len(overlap.reference_ids) - len(above),
        iou_sum=float(overlap.iou[above].sum()),
    )


def aggregated_jaccard(overlap: InstanceOverlap) -> float:
    """Return AJI, 0 to 1; NaN without instances.

    Every reference instance takes the predicted one of largest IoU (the first of equals; one may be taken several
    times): sum of intersections / (sum of unions + sizes of reference and predicted instances in no pair).

    References
    ----------
    N. Kumar et al., A dataset and a technique for generalized nuclear segmentation, IEEE TMI 36 (2017).
    """
    order = np.lexsort((overlap.predicted, -overlap.iou, overlap.reference))
    first = order[np.flatnonzero(np.diff(overlap.reference[order], prepend=-1))]
    return _aggregate(overlap, first)


def aggregated_jaccard_plus(overlap: InstanceOverlap) -> float:
    """Return AJI+, 0 to 1; NaN without instances: AJI with the one-to-one pairs of largest IoU sum.

    References
    ----------
    S. Graham et al., HoVer-Net, Med. Image Anal. 58 (2019).
    """
    return _aggregate(overlap, assign(overlap.predicted, overlap.reference, overlap.iou))


def average_precision(
    overlaps: Sequence[InstanceOverlap],
    thresholds: Sequence[float] = AP_THRESHOLDS,
    *,
    pooled: bool = False,
    inclusive: bool = True,
) -> NDArray[np.float64]:
    """Return TP / (TP + FP + FN) at each IoU threshold: the "average precision" of cell segmentation.

    Parameters
    ----------
    overlaps
        One per image.
    thresholds
        IoU; the mean of the result over 0.5 to 0.95 is the score of the 2018 Data Science Bowl.
    pooled
        Add the counts of all images first (StarDist's default), else take the mean over the images that have
        instances (Cellpose, Data Science Bowl).
    inclusive
        A pair matches from the threshold on (StarDist), else above it only (Cellpose, Data Science Bowl).

    Returns
    -------
    (threshold,) float64
        0 to 1; NaN if no image has instances.

    References
    ----------
    J. C. Caicedo et al., Nucleus segmentation across imaging experiments, Nature Methods 16 (2019); U. Schmidt et al.,
    Cell detection with star-convex polygons, MICCAI 2018.
    """
    hits = np.array([[_matches(o, t, inclusive) for t in thresholds] for o in overlaps], np.float64)
    hits = hits.reshape(len(overlaps), len(thresholds))
    instances = np.array([len(o.predicted_ids) + len(o.reference_ids) for o in overlaps], np.float64)
    used = instances > 0
    if not used.any():
        return np.full(len(thresholds), math.nan)
    if pooled:
        together = hits.sum(axis=0)
        return np.asarray(together / (instances.sum() - together))
    return np.asarray((hits[used] / (instances[used, None] - hits[used])).mean(axis=0))


def detect(predicted_mm: NDArray[np.float64], reference_mm: NDArray[np.float64], radius_mm: float) -> Detection:
    """Pair points that are at most a radius apart: as many pairs as possible, of those the shortest in total.

    HoVer-Net assigns without the radius first and drops long pairs afterwards, which can lose pairs that this keeps.

    Parameters
    ----------
    predicted_mm, reference_mm
        (point, axis), any unit, the same for both and the radius.
    radius_mm
        Above 0; 3 micrometres (12 pixels at 40x) for nuclei.

    Raises
    ------
    GeometryError
        If the two have different numbers of axes.
    UsageError
        If the radius is not above 0.

    References
    ----------
    S. Graham et al., HoVer-Net, Med. Image Anal. 58 (2019).
    """
    if not (math.isfinite(radius_mm) and radius_mm > 0):
        raise UsageError(f"The radius of a detection must be above 0; got {radius_mm}.")
    n_predicted, n_reference = len(predicted_mm), len(reference_mm)
    if n_predicted == 0 or n_reference == 0:
        nothing = np.zeros(0, np.int64)
        return Detection(predicted=nothing, reference=nothing, n_predicted=n_predicted, n_reference=n_reference)
    if predicted_mm.shape[1] != reference_mm.shape[1]:
        raise GeometryError(f"Points need equal axes; got {predicted_mm.shape[1]} and {reference_mm.shape[1]}.")
    near = cKDTree(predicted_mm).query_ball_point(reference_mm, radius_mm)
    reference = np.repeat(np.arange(n_reference), [len(n) for n in near])
    predicted = np.array([p for group in near for p in group], np.int64)
    distance = np.linalg.norm(predicted_mm[predicted] - reference_mm[reference], axis=1)
    # one more pair outweighs any saving of length
    worth = min(n_predicted, n_reference) + 1 - distance / radius_mm
    chosen = assign(predicted, reference, worth)
    return Detection(
        predicted=predicted[chosen], reference=reference[chosen], n_predicted=n_predicted, n_reference=n_reference
    )


def typed_f1(
    detection: Detection, predicted_types: NDArray[np.int64], reference_types: NDArray[np.int64], kind: int
) -> float:
    """Return the F1 of detecting and typing objects of one kind, 0 to 1; NaN if neither side has that kind.

    2 TPc / (2 TPc + 2 FPc + 2 FNc + FPd + FNd): among matched pairs TPc are of the kind on both sides, FPc in the
    prediction only, FNc in the reference only; FPd and FNd are unmatched points of the kind. True negatives do not
    enter, as in HoVer-Net's released code. Pairs whose reference type is -1 are left out.

    Parameters
    ----------
    detection
        Pairs of points.
    predicted_types, reference_types
        (point,) kind of each point.
    kind
        Which one.

    Raises
    ------
    UsageError
        If the types do not fit the points.

    References
    ----------
    S. Graham et al., HoVer-Net, Med. Image Anal. 58 (2019), equation 5.
    """
    if len(predicted_types) != detection.n_predicted or len(reference_types) != detection.n_reference:
        raise UsageError(
            f"Every point needs a type; got {len(predicted_types)} and {len(reference_types)} types for "
            f"{detection.n_predicted} and {detection.n_reference} points."
        )
    told = reference_types[detection.reference] != IGNORED_TYPE
    predicted = predicted_types[detection.predicted[told]] == kind
    reference = reference_types[detection.reference[told]] == kind
    both = int((predicted & reference).sum())
    confused = int((predicted ^ reference).sum())
    lone = _unmatched(predicted_types, detection.predicted, kind) + _unmatched(
        reference_types, detection.reference, kind
    )
    total = 2 * both + 2 * confused + lone
    return 2 * both / total if total else math.nan


def _unmatched(types: NDArray[np.int64], matched: NDArray[np.int64], kind: int) -> int:
    alone = np.ones(len(types), np.bool_)
    alone[matched] = False
    return int((types[alone] == kind).sum())


def _aggregate(overlap: InstanceOverlap, pairs: NDArray[np.int64]) -> float:
    lone_predicted = np.delete(overlap.predicted_sizes, overlap.predicted[pairs]).sum()
    lone_reference = np.delete(overlap.reference_sizes, overlap.reference[pairs]).sum()
    whole = int(overlap.union[pairs].sum() + lone_predicted + lone_reference)
    return float(overlap.intersection[pairs].sum() / whole) if whole else math.nan


def _matches(overlap: InstanceOverlap, threshold: float, inclusive: bool) -> int:
    iou = overlap.iou
    near = np.flatnonzero(iou >= threshold if inclusive else iou > threshold)
    # at 0.5 exactly two halves of an instance can both match
    return len(assign(overlap.predicted[near], overlap.reference[near], np.ones(len(near)) + 1e-6 * iou[near]))
