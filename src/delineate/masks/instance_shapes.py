"""Shape and brightness of every instance of a plane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import regionprops_table

from delineate.errors import GeometryError

_SHAPES = {
    "area": ("area", 2),
    "perimeter": ("perimeter", 1),
    "equivalent_diameter": ("equivalent_diameter_area", 1),
    "major_axis": ("axis_major_length", 1),
    "minor_axis": ("axis_minor_length", 1),
    "eccentricity": ("eccentricity", 0),
    "solidity": ("solidity", 0),
    "orientation_rad": ("orientation", 0),
}
"""Column -> scikit-image's property, and to which power of the pixel size it is multiplied."""


def measure_instances(
    labels: NDArray[Any], picture: NDArray[Any] | None = None, *, pixel: float = 1.0
) -> Mapping[str, NDArray[np.float64]]:
    """Measure the instances of a plane.

    Parameters
    ----------
    labels
        (y, x) integer, 0 background.
    picture
        (y, x, colour) in any unit; gives ``mean_0``, ``std_0``, ... per colour.
    pixel
        Side of a pixel, in the unit that lengths should have (micrometres, say); areas are in its square.

    Returns
    -------
    mapping
        Columns, one value per instance, in the order of rising numbers: ``label``; ``centroid_y``, ``centroid_x``
        (pixels, the centre of the first at 0); ``min_y``, ``min_x``, ``max_y``, ``max_x`` (pixels, the last ones
        excluded); shapes as :mod:`skimage.measure` defines them; brightness.

    Raises
    ------
    GeometryError
        If the picture has another size.
    """
    if picture is not None and picture.shape[:2] != labels.shape:
        raise GeometryError(f"Picture and instances need one size; got {picture.shape[:2]} and {labels.shape}.")
    wanted = ["label", "centroid", "bbox", *(name for name, _ in _SHAPES.values())]
    values = None if picture is None else picture.astype(np.float64)
    if values is not None:
        wanted += ["intensity_mean", "intensity_std"]
    found = regionprops_table(labels, values, properties=wanted)  # type: ignore[no-untyped-call]
    table = {
        "label": found["label"],
        "centroid_y": found["centroid-0"],
        "centroid_x": found["centroid-1"],
        **{name: found[f"bbox-{i}"] for i, name in enumerate(("min_y", "min_x", "max_y", "max_x"))},
        **{column: found[name] * pixel**power for column, (name, power) in _SHAPES.items()},
    }
    if values is not None:
        for colour in range(values.shape[2]):
            table[f"mean_{colour}"] = found[f"intensity_mean-{colour}"]
            table[f"std_{colour}"] = found[f"intensity_std-{colour}"]
    return {name: np.asarray(column, dtype=np.float64) for name, column in table.items()}
