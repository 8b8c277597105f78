"""Direction cosines that are not quite orthonormal, made so or refused. Knows no file format."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from delineate.errors import ImageReadError

_log = logging.getLogger(__name__)

LARGEST_SHIFT_VOXELS = 0.5
"""A repair may move no voxel by more than this share of the smallest spacing; beyond it the image is truly sheared."""


def nearest_orthonormal(
    axes: NDArray[np.float64], spacing_mm: NDArray[np.float64], size: Sequence[int], path: Path
) -> NDArray[np.float64]:
    """Return the orthonormal vectors nearest to ``axes`` and record the change.

    Parameters
    ----------
    axes
        ``(axis, world)``: one nearly unit world vector per array axis.
    spacing_mm
        Spacing per array axis, in the order of ``axes``.
    size
        Voxels per array axis, in the order of ``axes``.
    path
        The file that the axes come from, for messages.

    Raises
    ------
    ImageReadError
        If the repair would move a voxel by more than half a voxel: the image is sheared (a tilted gantry).
    """
    if not np.all(np.isfinite(axes)) or abs(np.linalg.det(axes)) < 1e-3:
        raise ImageReadError(
            f"{path}: expected independent direction vectors; found {axes.round(4).tolist()}. "
            "The header is damaged; export the image again."
        )
    u, _, vt = np.linalg.svd(axes)
    straight = u @ vt
    extent = (np.asarray(size, dtype=np.float64) - 1) * spacing_mm
    # the corner farthest from the first voxel moves most; every sign of the differences is covered by their norms
    shift_mm = float((np.linalg.norm(straight - axes, axis=1) * extent).sum())
    if shift_mm > LARGEST_SHIFT_VOXELS * float(spacing_mm.min()):
        raise ImageReadError(
            f"{path}: expected orthonormal direction cosines; making them so would move voxels by up to {shift_mm:.2f} "
            "mm, so the image is sheared (a tilted gantry?). Resample it onto an orthogonal grid first."
        )
    _log.warning(
        "%s: direction cosines were not orthonormal; repaired, no voxel moved more than %.3f mm", path, shift_mm
    )
    return np.asarray(straight, dtype=np.float64)
