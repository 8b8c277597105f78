"""Outlines of planar masks: closed lines half a pixel outside the mask's pixel centres.

The module knows one boolean plane in index coordinates; it does not know spacing, label values, or how lines are drawn.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.measure import find_contours

from delineate.errors import GeometryError


def outlines(mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], ...]:
    """Return the borders of a planar mask, outer borders and holes alike.

    Parameters
    ----------
    mask
        ``(y, x)`` bool.

    Returns
    -------
    tuple of (n, 2) float64
        Closed lines (first point equals last) as ``(y, x)`` pixel indices, where the centre of the first pixel is
        (0, 0); a mask that touches the picture's border is closed half a pixel outside it. Marching squares at 0.5, so
        corners are cut and every point lies midway between a pixel inside and one outside; pixels that meet in a
        corner only are separate.

    Raises
    ------
    GeometryError
        If the mask is not planar.

    References
    ----------
    W. Lorensen, H. Cline, Marching cubes, SIGGRAPH 1987; scikit-image, ``measure.find_contours``.
    """
    if mask.ndim != 2:
        raise GeometryError(f"An outline needs a mask of 2 axes (y, x); got shape {mask.shape}.")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return ()
    corner = np.array([rows[0], columns[0]], dtype=np.float64)
    window = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    lines = find_contours(np.pad(window, 1).astype(np.float32), 0.5)  # type: ignore[no-untyped-call]
    return tuple(np.asarray(line, dtype=np.float64) - 1.0 + corner for line in lines)
