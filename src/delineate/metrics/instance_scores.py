"""Scores of instances over pictures: of every picture, of groups of pictures, of types."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.metrics.contingency import InstanceOverlap, instance_overlap
from delineate.metrics.panoptic import (
    PanopticQuality,
    aggregated_jaccard_plus,
    average_precision,
    panoptic_quality,
)
from delineate.metrics.statistics import Interval, bootstrap_mean
from delineate.metrics.typed_panoptic import (
    count_determination,
    mean_panoptic_quality,
    mean_panoptic_quality_plus,
    panoptic_quality_by_type,
    pooled_by_type,
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScoredPicture:
    """What was found in a picture, against what is there."""

    case_id: str
    group: str
    overlap: InstanceOverlap
    dice: float
    """Of the foreground; NaN without any."""
    by_type: tuple[PanopticQuality, ...] = ()
    """Counts of types 1, 2, ...; empty if the reference has no types."""

    @property
    def quality(self) -> float:
        """Panoptic quality, 0 to 1; NaN without instances."""
        return panoptic_quality(self.overlap).quality

    @property
    def counts(self) -> tuple[int, int]:
        """Instances that were found and that are there."""
        return len(self.overlap.predicted_ids), len(self.overlap.reference_ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceScores:
    """How well the instances of a group of pictures were found."""

    group: str
    n_pictures: int
    n_instances: int
    n_found: int
    ap50: float
    """Mean over pictures of TP / (TP + FP + FN) at an IoU of 0.5."""
    ap50_interval: Interval
    """By bootstrap over pictures."""
    ap50_pooled: float
    """The same, counts added over pictures first."""
    ap_mean: float
    """Mean over pictures and over IoU 0.5 to 0.95."""
    pq: float
    """Pooled over pictures, as are the next two."""
    dq: float
    sq: float
    aji_plus: float
    """Mean over pictures."""
    dice: float
    """Of the foreground, mean over pictures."""
    r2: float
    """Of the counts of pictures; NaN if all have the same number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TypeScores:
    """How well the instances of a type were found and typed; counts pooled over pictures."""

    name: str
    n_instances: int
    n_found: int
    pq: float
    """A match needs an IoU above 0.5 and the type; the mean over types is mPQ+."""
    f1: float
    """2 TP / (2 TP + FP + FN) of the same matches."""
    r2: float
    """Of the counts of pictures."""


def score_picture(
    case_id: str,
    group: str,
    found: NDArray[Any],
    reference: NDArray[Any],
    types: tuple[NDArray[np.int64], NDArray[np.int64], int] | None = None,
) -> ScoredPicture:
    """Compare what was found in a picture with what is there.

    Parameters
    ----------
    case_id, group
        Of the picture.
    found, reference
        (y, x) instances, 0 background.
    types
        By instance number (index 0 is not used): types of the found ones and of the reference; and how many types
        there are. None: no types.
    """
    overlap = instance_overlap(found, reference)
    by_type: tuple[PanopticQuality, ...] = ()
    if types is not None:
        guessed, told, count = types
        by_type = panoptic_quality_by_type(overlap, guessed[overlap.predicted_ids], told[overlap.reference_ids], count)
    total = int((found > 0).sum() + (reference > 0).sum())
    dice = 2 * int(((found > 0) & (reference > 0)).sum()) / total if total else math.nan
    return ScoredPicture(case_id=case_id, group=group, overlap=overlap, dice=dice, by_type=by_type)


def score_group(group: str, pictures: Sequence[ScoredPicture], *, seed: int = 0) -> InstanceScores:
    """Return the scores of a group of pictures; all of them if it has none of another group."""
    overlaps = [picture.overlap for picture in pictures]
    single = [float(average_precision([overlap], thresholds=(0.5,))[0]) for overlap in overlaps]
    nothing = PanopticQuality(true_positive=0, false_positive=0, false_negative=0, iou_sum=0.0)
    pooled = sum((panoptic_quality(overlap) for overlap in overlaps), nothing)
    found, there = (np.array([picture.counts[side] for picture in pictures], dtype=np.int64) for side in (0, 1))
    ids = [picture.case_id for picture in pictures]
    return InstanceScores(
        group=group,
        n_pictures=len(pictures),
        n_instances=int(there.sum()),
        n_found=int(found.sum()),
        ap50=_mean(single),
        ap50_interval=bootstrap_mean(single, ids, np.random.default_rng(seed)),
        ap50_pooled=float(average_precision(overlaps, thresholds=(0.5,), pooled=True)[0]),
        ap_mean=float(average_precision(overlaps).mean()),
        pq=pooled.quality,
        dq=pooled.detection,
        sq=pooled.segmentation,
        aji_plus=_mean([aggregated_jaccard_plus(overlap) for overlap in overlaps]),
        dice=_mean([picture.dice for picture in pictures]),
        r2=count_determination(found, there),
    )


def score_types(names: Sequence[str], pictures: Sequence[ScoredPicture]) -> tuple[TypeScores, ...]:
    """Return the scores of every type over the pictures whose reference has types."""
    typed = [picture.by_type for picture in pictures if picture.by_type]
    if not typed:
        return ()
    scores = []
    for index, (name, counts) in enumerate(zip(names, pooled_by_type(typed), strict=True)):
        hits = np.array([picture[index].true_positive for picture in typed], dtype=np.int64)
        found = hits + np.array([picture[index].false_positive for picture in typed], dtype=np.int64)
        there = hits + np.array([picture[index].false_negative for picture in typed], dtype=np.int64)
        scores.append(
            TypeScores(
                name=name,
                n_instances=int(there.sum()),
                n_found=int(found.sum()),
                pq=counts.quality,
                f1=counts.detection,
                r2=count_determination(found, there),
            )
        )
    return tuple(scores)


def mean_over_types(pictures: Sequence[ScoredPicture]) -> tuple[float, float]:
    """Return mPQ+ (pooled) and PanNuke's mPQ (mean over pictures) of the pictures with types; NaN without any."""
    typed = [picture.by_type for picture in pictures if picture.by_type]
    if not typed:
        return math.nan, math.nan
    return mean_panoptic_quality_plus(typed), mean_panoptic_quality(typed)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
