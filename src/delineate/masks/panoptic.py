"""Merging regions and objects: which of the two a pixel belongs to where both claim it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.errors import GeometryError, UsageError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Merged:
    """Classes and objects that do not contradict each other."""

    classes: NDArray[np.int32]
    instances: NDArray[np.int32]
    """Numbered 1, 2, ... without gaps."""
    sources: NDArray[np.int64]
    """(object,) the number that each object had before."""


def merge_regions_and_objects(
    regions: NDArray[Any],
    instances: NDArray[Any],
    class_of: Mapping[int, int],
    *,
    forbidden: Mapping[int, frozenset[int]] | None = None,
    most_outside: float = 0.5,
) -> Merged:
    """Lay objects over regions: an object takes its pixels, as a thing lies in front of stuff (Kirillov et al.).

    An object is left out whole, never cut, if more than a share of it lies in regions where its class cannot be, such
    as nuclei on glass; its pixels then stay with the regions.

    Parameters
    ----------
    regions
        (y, x) or (z, y, x) integer: 0 nothing, else a class of stuff.
    instances
        The same axes: 0, or object numbers.
    class_of
        Class of every object number; classes differ from those of regions.
    forbidden
        Per class of objects, the regions (0 among them) where it cannot be.
    most_outside
        Share, 0 to 1, of an object that may lie in forbidden regions.

    Raises
    ------
    GeometryError
        If shapes differ.
    UsageError
        If an object has no class, or a class is a region and an object.

    References
    ----------
    A. Kirillov et al., Panoptic segmentation, CVPR 2019.
    """
    if regions.shape != instances.shape:
        raise GeometryError(f"Regions and objects need one shape; got {regions.shape} and {instances.shape}.")
    numbers, index = np.unique(instances, return_inverse=True)
    index = index.reshape(instances.shape)
    missing = [int(n) for n in numbers if n and int(n) not in class_of]
    shared = sorted(set(np.unique(regions).tolist()) & set(class_of.values()) - {0})
    if missing or shared or 0 in class_of.values():
        raise UsageError(
            f"Every object needs a class above 0 that no region has; without a class: {missing[:5]}, shared: {shared}."
        )
    kinds = np.array([class_of.get(int(n), 0) if n else 0 for n in numbers], dtype=np.int32)
    kept = (numbers > 0) & (_share_outside(regions, index, kinds, forbidden or {}) <= most_outside)
    renumbered = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    merged = renumbered[index]
    classes = np.where(merged > 0, kinds[index], regions).astype(np.int32)
    return Merged(classes=classes, instances=merged, sources=numbers[kept].astype(np.int64))


def _share_outside(
    regions: NDArray[Any], index: NDArray[np.int64], kinds: NDArray[np.int32], forbidden: Mapping[int, frozenset[int]]
) -> NDArray[np.float64]:
    """Return, per number, the share of its pixels in regions where its class cannot be."""
    outside = np.zeros(regions.shape, dtype=bool)
    for kind, places in forbidden.items():
        outside |= (kinds[index] == kind) & np.isin(regions, sorted(places))
    share: NDArray[np.float64] = np.asarray(ndimage.mean(outside, index, np.arange(len(kinds))), dtype=np.float64)
    return share
