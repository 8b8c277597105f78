"""What each metric of a table is, in one line and with its unit: numbers without a definition cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from delineate.errors import UsageError
from delineate.metrics.table import METRICS

FORMULAS: Mapping[str, str] = {
    "dice": "2 TP / (2 TP + FP + FN), voxels",
    "iou": "TP / (TP + FP + FN), voxels",
    "precision": "TP / (TP + FP), voxels",
    "recall": "TP / (TP + FN), voxels",
    "specificity": "TN / (TN + FP), voxels; depends on the size of the image",
    "volume_similarity": "1 - abs(V(P) - V(R)) / (V(P) + V(R))",
    "volume_error": "V(P) - V(R)",
    "absolute_volume_error": "abs(V(P) - V(R))",
    "relative_volume_error": "(V(P) - V(R)) / V(R)",
    "hd": "max(max d(p, R), max d(r, P)), border voxels",
    "hd95": "max(P95 d(p, R), P95 d(r, P)), border voxels",
    "hd95_directed_mean": "(P95 d(p, R) + P95 d(r, P)) / 2, border voxels",
    "hd95_pooled": "P95 of d(p, R) and d(r, P) together, border voxels",
    "hd95_area_weighted": "max of the two smallest distances that 95 % of the area lie within, area elements",
    "assd": "(sum d(p, R) + sum d(r, P)) / (|P| + |R|), border voxels",
    "assd_area_weighted": "(sum d(p, R) + sum d(r, P)) / (|P| + |R|), each weighted by its area, area elements",
    "masd": "(mean d(p, R) + mean d(r, P)) / 2, border voxels",
    "masd_area_weighted": "(mean d(p, R) + mean d(r, P)) / 2, weighted by area, area elements",
    "nsd": "area of both surfaces within the tolerance of the other / area of both, area elements",
    "nsd_voxels": "border voxels within the tolerance of the other surface / border voxels of both",
    "boundary_iou": "IoU of the voxels at most twice the largest spacing inside each mask",
    "added_path_length": "contour of R beyond the tolerance of P's contour, slice by slice",
    "centre_line_dice": "2 T S / (T + S); T share of P's centre line in R, S share of R's in P",
    "lesion_sensitivity": "lesions of R that P touches / lesions of R",
    "lesion_false_positives": "lesions of P that touch none of R, per case",
    "lesion_f1": "2 D / (2 D + FP + FN) over lesions; D found, FN missed lesions of R",
}
"""By name: P prediction, R reference, d(p, R) distance of a piece of P's surface to the nearest of R's."""

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
    return Definition(metric=metric, unit=unit, factor=factor, formula=FORMULAS[metric])


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
