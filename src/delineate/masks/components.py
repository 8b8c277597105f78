"""Connected components of masks. Neighbours touch by faces, edges or corners unless said otherwise.

Knows no label names, no spacing, no files.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def label_components(mask: NDArray[np.bool_], *, by_faces: bool = False) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number the connected components of a mask.

    Parameters
    ----------
    mask
        (z, y, x) or (y, x) bool.
    by_faces
        Only voxels that share a face are neighbours; else edges and corners connect as well.

    Returns
    -------
    tuple
        int32 component numbers, 0 outside the mask and from 1 in the order of the first voxel; and int64 voxels per
        component, entry i for component i + 1.
    """
    structure = ndimage.generate_binary_structure(mask.ndim, 1 if by_faces else mask.ndim)
    numbered = np.zeros(mask.shape, np.int32)
    count = int(ndimage.label(mask, structure, output=numbered))
    sizes = np.bincount(numbered.ravel(), minlength=count + 1)[1:].astype(np.int64)
    return numbered, sizes


def largest_component(mask: NDArray[np.bool_], *, by_faces: bool = False) -> NDArray[np.bool_]:
    """Keep the largest component; components of equal size all stay, as in nnU-Net.

    Parameters
    ----------
    mask
        (z, y, x) or (y, x) bool.
    by_faces
        See :func:`label_components`.

    Returns
    -------
    NDArray
        Bool, the shape of ``mask``.
    """
    numbered, sizes = label_components(mask, by_faces=by_faces)
    return _kept(numbered, sizes == sizes.max(initial=0))


def without_small_components(mask: NDArray[np.bool_], least: float, *, by_faces: bool = False) -> NDArray[np.bool_]:
    """Drop the components of fewer than ``least`` voxels.

    Parameters
    ----------
    mask
        (z, y, x) or (y, x) bool.
    least
        Voxels; a volume in cubic millimetres divided by the voxel's.
    by_faces
        See :func:`label_components`.

    Returns
    -------
    NDArray
        Bool, the shape of ``mask``.
    """
    numbered, sizes = label_components(mask, by_faces=by_faces)
    return _kept(numbered, sizes >= least)


def _kept(numbered: NDArray[np.int32], wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    keep: NDArray[Any] = np.concatenate([[False], wanted])
    kept: NDArray[np.bool_] = keep[numbered]
    return kept
