"""What a network learns of instances: three maps from which every instance can be found again.

Of the published forms this one had the highest ceiling for its cost when perfect maps were decoded: the foreground, the
interior (instances without their rim, which keeps touching ones apart) and the distance to the rim, normalised per
instance so that small and large ones rise to the same height.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.errors import GeometryError
from delineate.masks.distance import distances_to_rim


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InstanceTargets:
    """Maps of a plane; all (y, x) float32 from 0 to 1."""

    foreground: NDArray[np.float32]
    interior: NDArray[np.float32]
    """1 where all eight neighbours belong to the same instance; at least one pixel of every instance."""
    distance: NDArray[np.float32]
    """Euclidean distance to the nearest pixel outside the instance, divided by the instance's largest."""

    def stacked(self) -> NDArray[np.float32]:
        """Return (3, y, x) in the order of the attributes."""
        return np.stack([self.foreground, self.interior, self.distance])


def instance_targets(instances: NDArray[Any]) -> InstanceTargets:
    """Return the maps of a plane of instances.

    Parameters
    ----------
    instances
        (y, x) integer: 0 is background, every other value one instance.

    Raises
    ------
    GeometryError
        If the array is not a plane.
    """
    if instances.ndim != 2:
        raise GeometryError(f"Instances of a plane (y, x) are expected; got shape {instances.shape}.")
    foreground = instances > 0
    distance = distances_to_rim(instances)
    highest = _highest_of(instances, distance)
    normalised = np.divide(distance, highest, out=np.zeros_like(distance), where=foreground)
    interior = _inner(instances) | (foreground & (normalised >= 1.0) & (highest <= 1.5))
    return InstanceTargets(
        foreground=foreground.astype(np.float32), interior=interior.astype(np.float32), distance=normalised
    )


def _inner(instances: NDArray[Any]) -> NDArray[np.bool_]:
    """Return pixels all of whose neighbours are of their own instance; beyond the plane the instance goes on."""
    low = ndimage.minimum_filter(instances, 3, mode="nearest")
    high = ndimage.maximum_filter(instances, 3, mode="nearest")
    inner: NDArray[np.bool_] = (low == high) & (instances > 0)
    return inner


def _highest_of(instances: NDArray[Any], distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return, per pixel, the largest distance in its instance."""
    numbers = instances.ravel()
    if numbers.size and (numbers.min() < 0 or numbers.max() > numbers.size):
        numbers = np.unique(numbers, return_inverse=True)[1].ravel()
    highest = np.zeros(int(numbers.max(initial=0)) + 1, dtype=np.float32)
    np.maximum.at(highest, numbers, distance.ravel())
    per_pixel: NDArray[np.float32] = highest[numbers].reshape(instances.shape)
    return per_pixel
