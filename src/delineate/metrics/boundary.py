"""Distances between the surfaces of two masks, and the scores that follow from them.

Which surface is measured is part of a metric's definition (:data:`Elements`): *voxels* are the border voxels of a mask
by faces, each of weight 1, as MONAI, SimpleITK and MetricsReloaded take them; *area* are the surface elements of
marching cubes with their area, as surface-distance takes them. Empty masks: both empty gives NaN; one empty gives
infinite distances and a surface Dice of 0. The module knows boolean arrays and their spacing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from delineate.errors import UsageError
from delineate.masks.distance import distance_map, nearest_distances
from delineate.masks.surfaces import (
    Spacing,
    Surface,
    border_voxels,
    bounding_box,
    require_spacing,
    surface_elements,
    surface_voxels,
)
from delineate.metrics.overlap import require_equal_shapes

Elements = Literal["voxels", "area"]
"""Which surface is measured: border voxels that count alike, or marching-cubes elements weighted by area."""

PercentileVariant = Literal["directed_maximum", "directed_mean", "pooled", "area_weighted"]
"""How the percentiles of the two directions become one number; see :func:`hausdorff_percentile`."""

HD95_PERCENTILE = 95.0
"""Percentile of the robust Hausdorff distance that the field reports."""

TOLERANCE_SLACK = 1e-9
"""Relative slack of distance against tolerance: 3 x 0.8 mm counts as within 2.4 mm although doubles say otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SurfaceDistances:
    """From every piece of either surface to the nearest piece of the other, in mm; infinite if there is no other."""

    to_reference: NDArray[np.float64]
    """(piece of the prediction,) mm."""
    to_prediction: NDArray[np.float64]
    """(piece of the reference,) mm."""
    prediction_sizes: NDArray[np.float64]
    """(piece of the prediction,) mm^2, mm in a plane, or 1 for border voxels."""
    reference_sizes: NDArray[np.float64]

    @property
    def undefined(self) -> bool:
        """Whether both masks are empty."""
        return len(self.to_reference) == 0 and len(self.to_prediction) == 0

    @property
    def one_sided(self) -> bool:
        """Whether exactly one of the masks is empty."""
        return (len(self.to_reference) == 0) != (len(self.to_prediction) == 0)


def surface_distances(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    spacing_mm: Spacing,
    *,
    elements: Elements = "voxels",
) -> SurfaceDistances:
    """Measure the distances between two surfaces, both ways.

    Parameters
    ----------
    prediction, reference
        (z, y, x) or (y, x) bool, equal shapes.
    spacing_mm
        Millimetres per axis, in the order of the axes.
    elements
        Which surface is measured.

    Raises
    ------
    GeometryError
        If the shapes differ or the spacing does not fit.
    """
    require_equal_shapes(prediction, reference)
    make = _surface_maker(elements)
    first, second = make(prediction, spacing_mm), make(reference, spacing_mm)
    return SurfaceDistances(
        to_reference=nearest_distances(first.indices, second.indices, spacing_mm),
        to_prediction=nearest_distances(second.indices, first.indices, spacing_mm),
        prediction_sizes=first.sizes,
        reference_sizes=second.sizes,
    )


def hausdorff(distances: SurfaceDistances) -> float:
    """Return the Hausdorff distance, max(max d(P, R), max d(R, P)), in mm: 0 or more.

    Both empty NaN, one empty infinite. The same for either choice of elements up to half a voxel.

    References
    ----------
    D. P. Huttenlocher et al., Comparing images using the Hausdorff distance, IEEE TPAMI 15 (1993).
    """
    return hausdorff_percentile(distances, 100.0)


def hausdorff_percentile(
    distances: SurfaceDistances,
    percentile: float = HD95_PERCENTILE,
    *,
    variant: PercentileVariant = "directed_maximum",
) -> float:
    """Return a robust Hausdorff distance in mm, HD95 by default: 0 or more; both empty NaN, one empty infinite.

    Parameters
    ----------
    distances
        Of border voxels for all variants but ``area_weighted``, which is made for area elements.
    percentile
        Above 0, at most 100.
    variant
        ``directed_maximum``: the larger of the two directed percentiles, with numpy's linear interpolation (MONAI's
        ``HausdorffDistanceMetric(percentile=95)`` and MetricsReloaded). ``directed_mean``: their mean. ``pooled``: the
        percentile of both directions' distances in one heap (medpy's ``hd95``). ``area_weighted``: the larger of the
        two smallest distances under which ``percentile`` of a surface's area lies (surface-distance's
        ``compute_robust_hausdorff``).

    Raises
    ------
    UsageError
        If the variant is unknown or the percentile impossible.

    References
    ----------
    G. Podobnik, T. Vrtovec, Understanding implementation pitfalls of distance-based metrics for image segmentation,
    arXiv 2410.02630 (2024).
    """
    if not 0 < percentile <= 100:
        raise UsageError(f"A percentile must be above 0 and at most 100; got {percentile}.")
    if variant not in _PERCENTILES:
        raise UsageError(f"The Hausdorff variant must be one of {', '.join(_PERCENTILES)}; got '{variant}'.")
    if distances.undefined or distances.one_sided:
        return math.nan if distances.undefined else math.inf
    return _PERCENTILES[variant](distances, percentile)


def average_surface_distance(distances: SurfaceDistances) -> float:
    """Return ASSD in mm, (sum d(P, R) + sum d(R, P)) / (|P| + |R|), each piece weighted by its size: 0 or more.

    Pooled over both surfaces, so the larger one has more say (MONAI's ``SurfaceDistanceMetric(symmetric=True)``,
    SimpleITK's notebooks). Both empty NaN, one empty infinite.

    References
    ----------
    T. Heimann et al., Comparison and evaluation of methods for liver segmentation, IEEE TMI 28 (2009).
    """
    if distances.undefined or distances.one_sided:
        return math.nan if distances.undefined else math.inf
    # sums, not dot products: those wait for the threads of a linear algebra library
    total = (distances.to_reference * distances.prediction_sizes).sum()
    total += (distances.to_prediction * distances.reference_sizes).sum()
    return float(total / (distances.prediction_sizes.sum() + distances.reference_sizes.sum()))


def mean_average_surface_distance(distances: SurfaceDistances) -> float:
    """Return MASD in mm, (mean d(P, R) + mean d(R, P)) / 2, each piece weighted by its size: 0 or more.

    Both surfaces have equal say whatever their sizes (medpy's ``assd``, MetricsReloaded's MASD). Both empty NaN, one
    empty infinite.

    References
    ----------
    A. Reinke et al., Understanding metric-related pitfalls in image analysis validation, Nature Methods 21 (2024).
    """
    if distances.undefined or distances.one_sided:
        return math.nan if distances.undefined else math.inf
    forth = np.average(distances.to_reference, weights=distances.prediction_sizes)
    back = np.average(distances.to_prediction, weights=distances.reference_sizes)
    return float(0.5 * (forth + back))


def surface_dice(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """Return the normalised surface Dice (NSD): the share of both surfaces within a tolerance of the other, 0 to 1.

    (|{p in P: d(p, R) <= t}| + |{r in R: d(r, P) <= t}|) / (|P| + |R|), where | | adds areas for area elements
    (surface-distance's ``compute_surface_dice_at_tolerance``, the definition to report) and counts border voxels
    otherwise. Both empty NaN, one empty 0.

    Parameters
    ----------
    distances
        Of either kind of elements.
    tolerance_mm
        0 or more; usually what two people differ by.

    Raises
    ------
    UsageError
        If the tolerance is negative or no number.

    References
    ----------
    S. Nikolov et al., J. Med. Internet Res. 23 (2021).
    """
    if not tolerance_mm >= 0:
        raise UsageError(f"The tolerance of a surface Dice must be 0 mm or more; got {tolerance_mm}.")
    if distances.undefined or distances.one_sided:
        return math.nan if distances.undefined else 0.0
    limit = tolerance_mm * (1 + TOLERANCE_SLACK)
    near = distances.prediction_sizes[distances.to_reference <= limit].sum()
    near += distances.reference_sizes[distances.to_prediction <= limit].sum()
    return float(near / (distances.prediction_sizes.sum() + distances.reference_sizes.sum()))


def added_path_length(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    spacing_mm: Spacing,
    *,
    tolerance_mm: float = 0.0,
) -> float:
    """Return how much contour a person must draw to correct the prediction, in mm: 0 or more.

    Slice by slice, the number of pixels of the reference's contour that are farther than the tolerance from the
    prediction's contour in the same slice, times the geometric mean of the pixel's sides. A contour is the pixels of
    the mask with a side towards the outside. An empty prediction costs the whole reference; an empty reference nothing
    (deleting is no drawing); both empty NaN.

    Parameters
    ----------
    prediction, reference
        (z, y, x) or (y, x) bool, equal shapes; slices are the planes of the last two axes.
    spacing_mm
        Millimetres per axis, in the order of the axes.
    tolerance_mm
        0 or more.

    Raises
    ------
    GeometryError
        If the shapes differ or the spacing does not fit.

    References
    ----------
    F. Vaassen et al., Evaluation of measures for assessing time-saving of automatic organ-at-risk segmentation in
    radiotherapy, Phys. Imaging Radiat. Oncol. 13 (2020).
    """
    require_equal_shapes(prediction, reference)
    spacing = require_spacing(reference.ndim, spacing_mm)
    box = bounding_box(prediction | reference)
    if box is None:
        return math.nan
    in_plane = (reference.ndim - 2, reference.ndim - 1)
    wanted = np.argwhere(border_voxels(reference[box], in_plane))
    drawn = np.argwhere(border_voxels(prediction[box], in_plane))
    # other slices are put out of reach
    apart = (*(2 * tolerance_mm + 1.0 for _ in spacing[:-2]), *spacing[-2:])
    missing = nearest_distances(wanted, drawn, apart) > tolerance_mm * (1 + TOLERANCE_SLACK)
    return float(missing.sum() * math.sqrt(spacing[-1] * spacing[-2]))


def boundary_iou(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing_mm: Spacing, *, width_mm: float
) -> float:
    """Return the intersection over union of the two masks' inner bands, 0 to 1; both empty NaN, one empty 0.

    The band of a mask is its voxels whose centre is at most ``width_mm`` from the nearest voxel centre outside it;
    outside the array is outside the mask.

    Parameters
    ----------
    prediction, reference
        (z, y, x) or (y, x) bool, equal shapes.
    spacing_mm
        Millimetres per axis, in the order of the axes.
    width_mm
        Above 0. A width below the spacing leaves no band, and the score is NaN.

    Raises
    ------
    GeometryError
        If the shapes differ or the spacing does not fit.

    References
    ----------
    B. Cheng et al., Boundary IoU: improving object-centric image segmentation evaluation, CVPR 2021.
    """
    require_equal_shapes(prediction, reference)
    box = bounding_box(prediction | reference)
    if box is None:
        return math.nan
    first, second = (_band(mask[box], spacing_mm, width_mm) for mask in (prediction, reference))
    union = int(np.count_nonzero(first | second))
    return float(np.count_nonzero(first & second) / union) if union else math.nan


def _surface_maker(elements: Elements) -> Callable[[NDArray[np.bool_], Spacing], Surface]:
    makers: Mapping[str, Callable[[NDArray[np.bool_], Spacing], Surface]] = {
        "voxels": surface_voxels,
        "area": surface_elements,
    }
    if elements not in makers:
        raise UsageError(f"Surface elements must be one of {', '.join(makers)}; got '{elements}'.")
    return makers[elements]


def _band(mask: NDArray[np.bool_], spacing_mm: Spacing, width_mm: float) -> NDArray[np.bool_]:
    padded = np.pad(mask, 1)
    # one part in a million: distance maps may be single precision
    near = distance_map(~padded, spacing_mm) <= width_mm * (1 + 1e-6)
    return (padded & near)[(slice(1, -1),) * mask.ndim]


def _directed(distances: SurfaceDistances, percentile: float) -> tuple[float, float]:
    return (
        float(np.percentile(distances.to_reference, percentile)),
        float(np.percentile(distances.to_prediction, percentile)),
    )


def _pooled(distances: SurfaceDistances, percentile: float) -> float:
    return float(np.percentile(np.concatenate([distances.to_reference, distances.to_prediction]), percentile))


def _weighted(distances: SurfaceDistances, percentile: float) -> float:
    return max(
        _weighted_percentile(distances.to_reference, distances.prediction_sizes, percentile),
        _weighted_percentile(distances.to_prediction, distances.reference_sizes, percentile),
    )


def _weighted_percentile(values: NDArray[np.float64], weights: NDArray[np.float64], percentile: float) -> float:
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    return float(values[order[min(int(np.searchsorted(share, percentile / 100)), len(values) - 1)]])


_PERCENTILES: Mapping[str, Callable[[SurfaceDistances, float], float]] = {
    "directed_maximum": lambda distances, percentile: max(_directed(distances, percentile)),
    "directed_mean": lambda distances, percentile: sum(_directed(distances, percentile)) / 2,
    "pooled": _pooled,
    "area_weighted": _weighted,
}
