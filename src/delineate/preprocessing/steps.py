"""The single steps of preparing a case: lifting planes, cropping to the body, sampling foreground voxels.

Arrays in, arrays out; the order of the steps stands in :mod:`delineate.preprocessing.prepare`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.case.labels import LabelScheme
from delineate.case.prepared import ANNOTATED_KEY, OUTSIDE_LABEL
from delineate.geometry.crop import Box, bounding_box, crop, nonzero_mask
from delineate.geometry.grid import Grid

PLANE_SPACING_FACTOR = 999.0
"""The absent axis of a plane gets this multiple of its largest spacing (nnU-Net's readers)."""
LEAST_SAMPLES = 10_000
"""Foreground voxels kept per structure, if it has as many (nnU-Net)."""
LEAST_SHARE = 0.01
"""Share of a structure's voxels kept at least (nnU-Net)."""
LOCATION_SEED = 1234
"""nnU-Net's seed of the foreground sample."""


def volume_spacing(grid: Grid) -> tuple[float, ...]:
    """Return the (z, y, x) spacing in mm; a plane's slice axis gets 999 times its largest spacing."""
    if grid.dims == 3:
        return grid.spacing_mm
    return (PLANE_SPACING_FACTOR * max(grid.spacing_mm), *grid.spacing_mm)


def lift(array: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """Return the array with three spatial axes: ``(..., y, x)`` of a plane becomes ``(..., 1, y, x)``."""
    return array if grid.dims == 3 else np.expand_dims(array, -3)


def crop_to_body(array: NDArray[Any], labels: NDArray[Any] | None) -> tuple[NDArray[Any], NDArray[np.int16], Box]:
    """Crop to the box of voxels that are not zero in every channel.

    Parameters
    ----------
    array
        (channel, z, y, x).
    labels
        (z, y, x) or None.

    Returns
    -------
    tuple
        The cropped array (a view); (z, y, x) int16 labels, 0 if none were given, where unlabelled voxels outside the
        body (holes filled) are -1; and the box.
    """
    mask = nonzero_mask(array)
    box = bounding_box(mask)
    mask = crop(mask, box)
    kept = np.zeros(mask.shape, np.int16) if labels is None else crop(labels, box).astype(np.int16)
    kept[(kept == 0) & ~mask] = OUTSIDE_LABEL
    return crop(array, box), kept, box


def location_labels(scheme: LabelScheme) -> dict[int, tuple[int, ...]]:
    """Return which label values are sampled together under which key.

    Keys are the label values (label mode) or 1-based positions of the structures (region mode); if there is an ignore
    label, :data:`~delineate.case.prepared.ANNOTATED_KEY` stands for every other value, background and outside included.
    """
    if scheme.has_regions:
        groups = {key: tuple(s.values) for key, s in enumerate(scheme.structures, start=1)}
    else:
        groups = {value: (value,) for value in scheme.values}
    if scheme.ignore is not None:
        groups[ANNOTATED_KEY] = (OUTSIDE_LABEL, 0, *scheme.values)
    return groups


def sample_locations(
    labels: NDArray[Any], groups: Mapping[int, Sequence[int]], *, seed: int = LOCATION_SEED
) -> dict[int, NDArray[np.int32]]:
    """Draw voxels of every group of labels, evenly and without repetition.

    Parameters
    ----------
    labels
        (z, y, x) integer.
    groups
        Key -> label values; the order of the keys is the order of the draws.
    seed
        Seed of numpy's legacy generator, which nnU-Net uses; the same seed draws the same voxels.

    Returns
    -------
    dict
        Key -> (n, 3) int32 indices (z, y, x); n = max(min(10 000, voxels), ceil(1 % of the voxels)).
    """
    generator = np.random.RandomState(seed)  # legacy, because the draws are nnU-Net's
    voxels = _voxels_by_label(labels, {value for values in groups.values() for value in values})
    found = {}
    for key, values in groups.items():
        members = [voxels[value] for value in values if value in voxels]
        pool = members[0] if len(members) == 1 else np.concatenate([*members, np.empty(0, np.intp)])
        count = max(min(LEAST_SAMPLES, pool.size), math.ceil(pool.size * LEAST_SHARE))
        drawn = pool[generator.choice(pool.size, count, replace=False)] if pool.size else pool
        found[key] = np.stack(np.unravel_index(drawn.astype(np.intp), labels.shape), axis=1).astype(np.int32)
    return found


def _voxels_by_label(labels: NDArray[Any], wanted: set[int]) -> dict[int, NDArray[np.intp]]:
    """Return for every wanted label that occurs its flat voxel indices, ascending."""
    flat = np.ascontiguousarray(labels).reshape(-1)
    candidates = np.arange(flat.size) if min(wanted) <= 0 else np.flatnonzero(flat > 0)
    values = flat[candidates]
    ordered = candidates[np.argsort(values, kind="stable")]
    present, starts = np.unique(np.sort(values), return_index=True)
    parts = np.split(ordered, starts[1:]) if present.size else []
    return {int(value): part for value, part in zip(present, parts, strict=True) if int(value) in wanted}
