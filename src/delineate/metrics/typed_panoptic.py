"""Panoptic quality by type, in the two ways it is published; ensemble Dice; how well counts agree.

PanNuke averages over classes within every picture and leaves out classes that the picture's reference does not have, so
false objects of such a class cost nothing. CoNIC adds the counts of all pictures per class first (mPQ+), which has no
such hole; prefer it, and always say which one a number is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from delineate.errors import UsageError
from delineate.metrics.contingency import InstanceOverlap, instance_overlap
from delineate.metrics.panoptic import PANOPTIC_IOU, PanopticQuality, panoptic_quality


def panoptic_quality_by_type(
    overlap: InstanceOverlap,
    predicted_types: NDArray[np.int64],
    reference_types: NDArray[np.int64],
    n_types: int,
) -> tuple[PanopticQuality, ...]:
    """Return the counts of every type: a pair matches if its IoU is above 0.5 and both are of the type.

    Reference instances whose type nobody told (0 or less) count for no type, and neither do predicted ones that match
    them.

    Parameters
    ----------
    overlap
        Of one picture.
    predicted_types, reference_types
        (instance,) type of each in the order of the overlap's ids; 1, 2, ...
    n_types
        How many types there are.

    Raises
    ------
    UsageError
        If there is not one type per instance.
    """
    if len(predicted_types) != len(overlap.predicted_ids) or len(reference_types) != len(overlap.reference_ids):
        raise UsageError(
            f"Every instance needs a type; got {len(predicted_types)} and {len(reference_types)} types for "
            f"{len(overlap.predicted_ids)} and {len(overlap.reference_ids)} instances."
        )
    above = np.flatnonzero(overlap.iou > PANOPTIC_IOU)
    predicted, reference, iou = overlap.predicted[above], overlap.reference[above], overlap.iou[above]
    ignored = np.zeros(len(predicted_types), dtype=bool)
    ignored[predicted[reference_types[reference] <= 0]] = True
    found = []
    for kind in range(1, n_types + 1):
        both = (predicted_types[predicted] == kind) & (reference_types[reference] == kind)
        hits = int(both.sum())
        found.append(
            PanopticQuality(
                true_positive=hits,
                false_positive=int(((predicted_types == kind) & ~ignored).sum()) - hits,
                false_negative=int((reference_types == kind).sum()) - hits,
                iou_sum=float(iou[both].sum()),
            )
        )
    return tuple(found)


def panoptic_quality_of_classes(
    predicted: Callable[[int], NDArray[np.int32]], reference: Callable[[int], NDArray[np.int32]], classes: Sequence[int]
) -> dict[int, PanopticQuality]:
    """Return the counts of every class of a panoptic result; stuff is one segment per picture, things one per object.

    Parameters
    ----------
    predicted, reference
        Class to the numbers of its segments, 0 elsewhere; equal shapes. See ``case.panoptic.Panoptic.of_class``.
    classes
        Stuff and things.

    References
    ----------
    A. Kirillov et al., Panoptic segmentation, CVPR 2019.
    """
    return {kind: panoptic_quality(instance_overlap(predicted(kind), reference(kind))) for kind in classes}


def pooled_by_type(pictures: Sequence[Sequence[PanopticQuality]]) -> tuple[PanopticQuality, ...]:
    """Return the counts of every type over all pictures; the mean of their qualities is mPQ+."""
    nothing = PanopticQuality(true_positive=0, false_positive=0, false_negative=0, iou_sum=0.0)
    return tuple(sum(column, nothing) for column in zip(*pictures, strict=True))


def mean_panoptic_quality_plus(pictures: Sequence[Sequence[PanopticQuality]]) -> float:
    """Return mPQ+, 0 to 1: counts pooled over pictures per type, then the mean over types that occur on either side.

    Parameters
    ----------
    pictures
        Per picture the counts of every type.

    References
    ----------
    S. Graham et al., CoNIC: colon nuclei identification and counting challenge, 2021.
    """
    return _mean([counts.quality for counts in pooled_by_type(pictures)])


def mean_panoptic_quality(pictures: Sequence[Sequence[PanopticQuality]]) -> float:
    """Return PanNuke's mPQ, 0 to 1: per picture the mean over the types of its reference, then the mean over pictures.

    PanNuke also averages over tissues first; give the pictures of one tissue at a time for that.

    References
    ----------
    J. Gamper et al., PanNuke dataset extension, insights and baselines, 2020.
    """
    return _mean([_mean([_punished(counts) for counts in picture]) for picture in pictures])


def binary_panoptic_quality(pictures: Sequence[PanopticQuality]) -> float:
    """Return PanNuke's bPQ, 0 to 1: types merged, mean over the pictures whose reference has an instance."""
    return _mean([_punished(counts) for counts in pictures])


def ensemble_dice(overlap: InstanceOverlap) -> float:
    """Return Dice2, 0 to 1; NaN without an overlapping pair: over all pairs that share a pixel, sum 2 I / sum of sizes.

    References
    ----------
    Q. D. Vu et al., Methods for segmentation and classification of digital microscopy tissue images, 2019.
    """
    sizes = overlap.predicted_sizes[overlap.predicted] + overlap.reference_sizes[overlap.reference]
    return float(2 * overlap.intersection.sum() / sizes.sum()) if len(sizes) else math.nan


def count_determination(predicted: NDArray[np.int64], reference: NDArray[np.int64]) -> float:
    """Return R2 of counts, 1 - sum (reference - predicted)^2 / sum (reference - mean)^2; NaN if that sum is 0.

    Parameters
    ----------
    predicted, reference
        (picture,) counts of one type.

    Raises
    ------
    UsageError
        If they differ in length.

    References
    ----------
    S. Graham et al., CoNIC: colon nuclei identification and counting challenge, 2021.
    """
    if len(predicted) != len(reference):
        raise UsageError(f"Counts of the same pictures are compared; got {len(predicted)} and {len(reference)}.")
    if not len(reference):
        return math.nan
    spread = float(((reference - reference.mean()) ** 2).sum())
    return 1 - float(((reference - predicted) ** 2).sum()) / spread if spread else math.nan


def _punished(counts: PanopticQuality) -> float:
    """Return PQ, or NaN where the reference has none."""
    return counts.quality if counts.true_positive + counts.false_negative else math.nan


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
