"""Size, intensity and place of every structure of a label map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.geometry.grid import Grid

BORDER_VOXELS = 3
"""A structure within so many voxels of the image's border counts as cut off, since the outermost slices are segmented
poorly (TotalSegmentator 2.18, statistics)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureStatistics:
    """Numbers of one structure; those of an absent one are None."""

    voxels: int
    volume_mm3: float
    mean: float | None
    """Mean intensity, in the image's unit (HU for CT)."""
    median: float | None
    truncated: bool
    """Whether it reaches the border of the image, so that volume and intensity are those of a part."""
    centroid_mm: tuple[float, ...] | None
    """World position (x, y, z), LPS."""

    @property
    def volume_ml(self) -> float:
        """Volume in millilitres."""
        return self.volume_mm3 / 1000


def structure_statistics(
    labels: NDArray[Any], intensities: NDArray[Any], grid: Grid, names: Mapping[int, str]
) -> dict[str, StructureStatistics]:
    """Measure every named structure.

    Parameters
    ----------
    labels
        (z, y, x), an integer dtype.
    intensities
        (z, y, x), any real dtype.
    grid
        Where the voxels lie.
    names
        Label value -> structure.

    Returns
    -------
    dict
        Structure -> its numbers, in the order of ``names``; absent structures have zero voxels.
    """
    boxes = ndimage.find_objects(labels)
    return {
        name: _measured(labels, intensities, grid, value, boxes[value - 1] if value <= len(boxes) else None)
        for value, name in names.items()
    }


def _measured(
    labels: NDArray[Any], intensities: NDArray[Any], grid: Grid, value: int, box: tuple[slice, ...] | None
) -> StructureStatistics:
    if box is None:
        return StructureStatistics(voxels=0, volume_mm3=0.0, mean=None, median=None, truncated=False, centroid_mm=None)
    mask = labels[box] == value
    inside = intensities[box][mask].astype(np.float64)
    index = [float(np.mean(i)) + s.start for i, s in zip(np.nonzero(mask), box, strict=True)]
    return StructureStatistics(
        voxels=int(inside.size),
        volume_mm3=float(inside.size * grid.voxel_volume_mm3),
        mean=float(inside.mean()),
        median=float(np.median(inside)),
        truncated=any(
            s.start < BORDER_VOXELS or s.stop > n - BORDER_VOXELS for s, n in zip(box, labels.shape, strict=True)
        ),
        centroid_mm=tuple(float(v) for v in (grid.affine @ (*index, 1))[:-1]),
    )
