"""How far a point is from a cloud of ordinary points, when there are fewer points than dimensions.

The distance is Mahalanobis' with a covariance of two parts: the largest principal axes as they are, and one variance
for all the rest (probabilistic principal components).

References
----------
M. E. Tipping, C. M. Bishop, Probabilistic principal component analysis, J. R. Stat. Soc. B 61 (1999); K. Lee et al., A
simple unified framework for detecting out-of-distribution samples, NeurIPS 2018, for Mahalanobis' distance of features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.errors import InputError

LEAST_POINTS = 8
"""Of fewer points no spread is estimated."""
MOST_AXES = 16
POINTS_PER_AXIS = 4
"""Axes are kept as far as there are so many points for each."""
GROUPS = 20
"""Ordinary distances are measured with a twentieth of the points left out at a time."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NormalReference:
    """A cloud of ordinary points."""

    mean: NDArray[np.float64]
    """(dimension,)"""
    scale: NDArray[np.float64]
    """(dimension,) standard deviations, above 0."""
    axes: NDArray[np.float64]
    """(axis, dimension) orthonormal, of the standardised points."""
    variances: NDArray[np.float64]
    """(axis,) of the standardised points along the axes."""
    rest: float
    """Variance per dimension of what the axes leave."""
    distances: NDArray[np.float64]
    """(point,) distances of the ordinary points from a cloud that they did not belong to, in the points' order."""

    def standardised(self, point: NDArray[Any]) -> NDArray[np.float64]:
        """Return a point (..., dimension) in standard deviations from the mean."""
        return np.asarray((np.asarray(point, np.float64) - self.mean) / self.scale)

    def distance(self, point: NDArray[Any]) -> float:
        """Return the distance of a point (dimension,), about 1 for ordinary ones."""
        return float(_distances(self, np.asarray(point, np.float64)[None])[0])


def fit_normal(points: NDArray[Any], *, floor: NDArray[Any] | float = 1e-6) -> NormalReference:
    """Describe a cloud of ordinary points.

    Parameters
    ----------
    points
        (point, dimension) finite numbers, at least :data:`LEAST_POINTS` points.
    floor
        Least standard deviation, for all or per dimension: what is constant among the points may differ by this much.

    Raises
    ------
    InputError
        If there are too few points or they are not finite.
    """
    cloud = np.asarray(points, np.float64)
    if cloud.ndim != 2 or len(cloud) < LEAST_POINTS or not np.isfinite(cloud).all():
        raise InputError(f"A cloud needs at least {LEAST_POINTS} finite points; got an array of shape {cloud.shape}.")
    return _fitted(cloud, floor, left_out_distances(cloud, floor))


def left_out_distances(points: NDArray[Any], floor: NDArray[Any] | float) -> NDArray[np.float64]:
    """Return the distance (point,) of every point from the cloud of the points outside its group."""
    cloud = np.asarray(points, np.float64)
    groups = np.arange(len(cloud)) % min(GROUPS, len(cloud))
    found = np.empty(len(cloud))
    for group in np.unique(groups):
        out = groups == group
        found[out] = _distances(_fitted(cloud[~out], floor, np.empty(0)), cloud[out])
    return found


def _fitted(cloud: NDArray[np.float64], floor: NDArray[Any] | float, distances: NDArray[np.float64]) -> NormalReference:
    mean, scale = cloud.mean(0), np.maximum(cloud.std(0, ddof=1), floor)
    standard = (cloud - mean) / scale
    try:
        _, singular, axes = np.linalg.svd(standard, full_matrices=False)
    except np.linalg.LinAlgError as error:
        raise InputError(f"The spread of {len(cloud)} points could not be computed: {error}.") from error
    count = max(1, min(MOST_AXES, len(cloud) // POINTS_PER_AXIS, len(singular) - 1))
    spectrum = singular**2 / (len(cloud) - 1)
    free = max(1, cloud.shape[1] - count)
    rest = float(max(spectrum[count:].sum() / free, 1e-3))
    return NormalReference(
        mean=mean,
        scale=scale,
        axes=axes[:count],
        variances=np.maximum(spectrum[:count], rest),
        rest=rest,
        distances=distances,
    )


def _distances(reference: NormalReference, points: NDArray[np.float64]) -> NDArray[np.float64]:
    standard = reference.standardised(points)
    along = standard @ reference.axes.T
    outside = np.maximum((standard**2).sum(1) - (along**2).sum(1), 0)
    squares = (along**2 / reference.variances).sum(1) + outside / reference.rest
    return np.asarray(np.sqrt(squares / points.shape[1]))
