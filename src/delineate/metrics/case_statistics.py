"""What is monitored of a case before anybody looked at it: its image and header, and the label map made from it.

The module knows arrays and grids; it does not know what is usual.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.geometry.grid import Grid
from delineate.geometry.orientation import orientation_codes
from delineate.masks.components import label_components

Value = float | bool | str
"""A number, a yes/no, or a category."""
PERCENTILES = (1, 50, 99)
AXES = ("x", "y", "z")


def input_statistics(array: NDArray[Any], grid: Grid) -> dict[str, Value]:
    """Return the monitored numbers of an image.

    Parameters
    ----------
    array
        ``(channel, z, y, x)`` or ``(channel, y, x)``, any real dtype.
    grid
        Where the voxels lie.

    Returns
    -------
    dict
        Per axis of the file ``spacing_x_mm`` and ``size_x`` (voxels); ``extent_ml`` or, for planes, mm^2 / 1000; per
        channel percentiles, ``range`` (99th minus 1st percentile) and ``skewness`` of the finite intensities; from the
        header ``orientation``, ``dtype`` and ``channels`` as categories.
    """
    found: dict[str, Value] = {}
    for axis, size, spacing in zip(AXES, grid.shape[::-1], grid.spacing_mm[::-1], strict=False):
        found[f"spacing_{axis}_mm"] = float(spacing)
        found[f"size_{axis}"] = float(size)
    found["extent_ml"] = math.prod(grid.shape) * grid.voxel_volume_mm3 / 1000
    for number, channel in enumerate(array):
        name = f"channel_{number}." if len(array) > 1 else ""
        found.update({f"{name}{key}": value for key, value in _intensities(channel).items()})
    found["orientation"] = orientation_codes(grid) if grid.dims == 3 else "plane"
    found["dtype"] = str(array.dtype)
    found["channels"] = str(len(array))
    return found


def output_statistics(
    labels: NDArray[Any], grid: Grid, structures: Sequence[tuple[str, tuple[int, ...]]]
) -> dict[str, Value]:
    """Return the monitored numbers of a label map.

    Parameters
    ----------
    labels
        ``(z, y, x)`` or ``(y, x)``, an integer dtype.
    grid
        Where the voxels lie.
    structures
        Name and label values of each structure.

    Returns
    -------
    dict
        Per structure ``NAME.volume_ml`` (planes: mm^2 / 1000), ``NAME.empty``, ``NAME.components`` (by faces, edges and
        corners), ``NAME.touches_border``, and per axis of the file ``NAME.centre_x``, the centroid as a fraction of
        the image, 0 to 1: a mirrored or wrongly labelled scan moves it. Of an empty structure only the first two.
    """
    found: dict[str, Value] = {}
    for name, values in structures:
        mask = np.isin(labels, values)
        voxels = int(mask.sum())
        found[f"{name}.volume_ml"] = voxels * grid.voxel_volume_mm3 / 1000
        found[f"{name}.empty"] = voxels == 0
        if voxels:
            found.update({f"{name}.{key}": value for key, value in _place(mask).items()})
    return found


def _intensities(channel: NDArray[Any]) -> Mapping[str, Value]:
    finite = channel[np.isfinite(channel)].astype(np.float64)
    if not finite.size:
        return {}
    low, middle, high = (float(v) for v in np.percentile(finite, PERCENTILES))
    deviation = float(finite.std())
    skewness = float(((finite - finite.mean()) ** 3).mean()) / deviation**3 if deviation > 0 else 0.0
    return {"p1": low, "p50": middle, "p99": high, "range": high - low, "skewness": skewness}


def _place(mask: NDArray[np.bool_]) -> Mapping[str, Value]:
    index_zyx = np.nonzero(mask)
    _, sizes = label_components(mask)
    centres = [(float(i.mean()) + 0.5) / n for i, n in zip(index_zyx, mask.shape, strict=True)]
    edges = any(i.min() == 0 or i.max() == n - 1 for i, n in zip(index_zyx, mask.shape, strict=True))
    return {
        "components": float(np.count_nonzero(sizes)),
        "touches_border": bool(edges),
        **{f"centre_{axis}": centre for axis, centre in zip(AXES, centres[::-1], strict=False)},
    }
