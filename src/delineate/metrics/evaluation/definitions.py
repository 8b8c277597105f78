"""What each metric of a table is, in one line and with its unit: numbers without a definition cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from delineate.errors import UsageError
from delineate.metrics.table import METRICS


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricText:
    """What a metric is called and what it is."""

    label: str
    """Its name for readers."""
    formula: str
    """For who computes it again: P prediction, R reference, d(p, R) distance of a piece of P's surface to R's."""
    words: str
    """The same in words for readers."""


_P95 = "95th percentile of the distances from one surface to the other"

TEXTS: Mapping[str, MetricText] = {
    "dice": MetricText(
        label="Dice",
        formula="2 TP / (2 TP + FP + FN), voxels",
        words="2 |P and R| / (|P| + |R|) of the voxels of P (prediction) and R (reference)",
    ),
    "iou": MetricText(
        label="IoU",
        formula="TP / (TP + FP + FN), voxels",
        words="|P and R| / |P or R|, intersection over union (Jaccard)",
    ),
    "precision": MetricText(
        label="Precision",
        formula="TP / (TP + FP), voxels",
        words="|P and R| / |P|, share of predicted voxels that are right",
    ),
    "recall": MetricText(
        label="Recall",
        formula="TP / (TP + FN), voxels",
        words="|P and R| / |R|, share of reference voxels that were found",
    ),
    "specificity": MetricText(
        label="Specificity",
        formula="TN / (TN + FP), voxels; depends on the size of the image",
        words="share of voxels outside R that are outside P; depends on the image's size",
    ),
    "volume_similarity": MetricText(
        label="Volume similarity",
        formula="1 - abs(V(P) - V(R)) / (V(P) + V(R))",
        words="1 - |V(P) - V(R)| / (V(P) + V(R))",
    ),
    "volume_error": MetricText(
        label="Size error",
        formula="V(P) - V(R)",
        words="size of P - size of R; positive is too large",
    ),
    "absolute_volume_error": MetricText(
        label="Absolute size error",
        formula="abs(V(P) - V(R))",
        words="|size of P - size of R|",
    ),
    "relative_volume_error": MetricText(
        label="Relative size error",
        formula="(V(P) - V(R)) / V(R)",
        words="(size of P - size of R) / size of R; no value if R is empty",
    ),
    "hd": MetricText(
        label="HD",
        formula="max(max d(p, R), max d(r, P)), border voxels",
        words="Hausdorff distance: largest distance from one surface to the other",
    ),
    "hd95": MetricText(
        label="HD95",
        formula="max(P95 d(p, R), P95 d(r, P)), border voxels",
        words=f"{_P95}, the larger of the two directions; border voxels",
    ),
    "hd95_directed_mean": MetricText(
        label="HD95, mean of directions",
        formula="(P95 d(p, R) + P95 d(r, P)) / 2, border voxels",
        words=f"{_P95}, mean of the two directions; border voxels",
    ),
    "hd95_pooled": MetricText(
        label="HD95, pooled",
        formula="P95 of d(p, R) and d(r, P) together, border voxels",
        words=f"{_P95}, both directions together; border voxels",
    ),
    "hd95_area_weighted": MetricText(
        label="HD95, by area",
        formula="max of the two smallest distances that 95 % of the area lie within, area elements",
        words=f"{_P95}, weighted by area, the larger of the two directions",
    ),
    "assd": MetricText(
        label="ASSD",
        formula="(sum d(p, R) + sum d(r, P)) / (|P| + |R|), border voxels",
        words="mean distance of all border voxels of either surface to the other surface",
    ),
    "assd_area_weighted": MetricText(
        label="ASSD, by area",
        formula="(sum d(p, R) + sum d(r, P)) / (|P| + |R|), each weighted by its area, area elements",
        words="mean distance of either surface to the other, weighted by area",
    ),
    "masd": MetricText(
        label="MASD",
        formula="(mean d(p, R) + mean d(r, P)) / 2, border voxels",
        words="mean of the two directed mean distances; border voxels",
    ),
    "masd_area_weighted": MetricText(
        label="MASD, by area",
        formula="(mean d(p, R) + mean d(r, P)) / 2, weighted by area, area elements",
        words="mean of the two directed mean distances, weighted by area",
    ),
    "nsd": MetricText(
        label="Surface Dice",
        formula="area of both surfaces within the tolerance of the other / area of both, area elements",
        words="share of both surfaces (area) that lies within the tolerance of the other",
    ),
    "nsd_voxels": MetricText(
        label="Surface Dice, voxels",
        formula="border voxels within the tolerance of the other surface / border voxels of both",
        words="share of both surfaces' border voxels within the tolerance",
    ),
    "boundary_iou": MetricText(
        label="Boundary IoU",
        formula="IoU of the voxels at most twice the largest spacing inside each mask",
        words="IoU of the voxels at most two of the largest spacings inside each mask",
    ),
    "added_path_length": MetricText(
        label="Added path length",
        formula="contour of R beyond the tolerance of P's contour, slice by slice",
        words="length of R's contours, slice by slice, beyond the tolerance of P's",
    ),
    "centre_line_dice": MetricText(
        label="Centre-line Dice",
        formula="2 T S / (T + S); T share of P's centre line in R, S share of R's in P",
        words="2 T S / (T + S); T share of P's centre line in R, S share of R's in P",
    ),
    "lesion_sensitivity": MetricText(
        label="Lesion sensitivity",
        formula="lesions of R that P touches / lesions of R",
        words="share of R's lesions that P touches; no value without lesions in R",
    ),
    "lesion_false_positives": MetricText(
        label="False lesions",
        formula="lesions of P that touch none of R, per case",
        words="predicted lesions that touch no lesion of R, per case",
    ),
    "lesion_f1": MetricText(
        label="Lesion F1",
        formula="2 D / (2 D + FP + FN) over lesions; D found, FN missed lesions of R",
        words="2 D / (2 D + FP + FN); D found, FN missed, FP false lesions",
    ),
}
"""By the metric's name; the full definitions stand in ``docs/metrics.md``."""

WITH_TOLERANCE = ("nsd", "nsd_voxels", "added_path_length")
"""Metrics that depend on the tolerance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Definition:
    """What a column of numbers is."""

    metric: str
    unit: str
    """``1`` for fractions; ``px`` where nobody knows the size of a pixel."""
    factor: float
    """Numbers of the rows times this are numbers in the unit (areas stand there as thousandths)."""
    formula: str


def define(metric: str, *, planar: bool, calibrated: bool) -> Definition:
    """Return the definition of a metric for volumes or planes, of known or unknown pixel size.

    Raises
    ------
    UsageError
        If there is no such metric.
    """
    if metric not in METRICS:
        raise UsageError(f"Unknown metric {metric}; known are {', '.join(METRICS)}.")
    unit, factor = unit_of(METRICS[metric].unit, planar=planar, calibrated=calibrated)
    return Definition(metric=metric, unit=unit, factor=factor, formula=TEXTS[metric].formula)


def unit_of(unit: str, *, planar: bool, calibrated: bool) -> tuple[str, float]:
    """Return the unit in which numbers are told, and the factor to it: ``ml`` of planes are areas in mm2 / 1000.

    Without a pixel size, lengths are pixels (``px``), areas square pixels (``px2``) and volumes are counted in voxels.
    """
    if unit == "ml":
        if planar:
            return ("mm2" if calibrated else "px2"), 1000.0
        return ("ml", 1.0) if calibrated else ("voxels", 1000.0)
    if unit == "mm" and not calibrated:
        return "px", 1.0
    return unit, 1.0
