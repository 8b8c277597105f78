"""Surface elements of a mask: where its surface runs, and how large each piece of it is.

Two definitions are in use and give different numbers. *Elements* sit on the corners between voxels and carry their area
in mm^2 (length in mm in a plane), taken from marching cubes; *border voxels* are the voxels of the mask that share a
face with the outside, and each counts the same. The module knows boolean arrays and their spacing; it does not know
label values, and it measures no distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from delineate.errors import GeometryError
from delineate.masks.compiled import kernels

Spacing = Sequence[float]
"""Millimetres between voxel centres along each array axis, in the order of the axes: (z, y, x) or (y, x)."""

Box = tuple[slice, ...]
"""One slice per axis."""

KERNELS = "delineate.masks.surface_kernels"
"""What finds the pieces of large volumes, and their nearest neighbours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Surface:
    """Pieces of one surface, in the order of the array."""

    indices: NDArray[np.int64]
    """(piece, axis) position in array indices; corners are numbered by the voxel that lies after them on every axis."""
    sizes: NDArray[np.float64]
    """(piece,) area in mm^2 or length in mm; 1 for border voxels."""

    def __len__(self) -> int:
        return len(self.sizes)


def require_spacing(mask_dims: int, spacing_mm: Spacing) -> tuple[float, ...]:
    """Return the spacing as numbers.

    Raises
    ------
    GeometryError
        If it is not one positive finite number per axis.
    """
    spacing = tuple(float(s) for s in spacing_mm)
    if len(spacing) != mask_dims or not all(np.isfinite(s) and s > 0 for s in spacing):
        raise GeometryError(f"`spacing_mm` must be {mask_dims} positive numbers, one per array axis; got {spacing}.")
    return spacing


def bounding_box(mask: NDArray[np.bool_]) -> Box | None:
    """Return the smallest box that holds the whole mask; None if the mask is empty.

    Parameters
    ----------
    mask
        Bool, any number of axes.
    """
    box = []
    shadow = mask
    while shadow.ndim:
        filled = np.flatnonzero(shadow.any(axis=tuple(range(1, shadow.ndim))))
        if filled.size == 0:
            return None
        box.append(slice(int(filled[0]), int(filled[-1]) + 1))
        shadow = np.asarray(shadow.any(axis=0))
    return tuple(box)


def surface_elements(mask: NDArray[np.bool_], spacing_mm: Spacing) -> Surface:
    """Return the surface elements of a mask with their sizes; outside the array is outside the mask.

    Each corner between 2 x 2 x 2 voxels (2 x 2 pixels) whose neighbours are not all alike is one element. Its area is
    that of the triangles of marching cubes at level 0.5 for these neighbours; neighbourhoods of more than four voxels
    get the area of their complement, so that a mask and its complement have the same surface. In a plane the length
    is that of the line of marching squares. The sum over elements estimates the surface's area.

    Parameters
    ----------
    mask
        (z, y, x) or (y, x) bool.
    spacing_mm
        Millimetres per axis, in the order of the axes.

    Raises
    ------
    GeometryError
        If the mask has neither 2 nor 3 axes, or the spacing does not fit.

    References
    ----------
    S. Nikolov et al., Clinically applicable segmentation of head and neck anatomy for radiotherapy, J. Med. Internet
    Res. 23 (2021), and its package surface-distance 0.1, whose areas these are; W. Lorensen, H. Cline, Marching cubes,
    SIGGRAPH 1987.
    """
    if mask.ndim not in (2, 3):
        raise GeometryError(f"Surface elements need a mask of 2 or 3 axes; got shape {mask.shape}.")
    spacing = require_spacing(mask.ndim, spacing_mm)
    compiled = kernels(KERNELS, mask.size) if mask.ndim == 3 else None
    if compiled is not None:
        found = compiled.corners(_with_margin(mask))
        return Surface(indices=found[:, :3], sizes=_element_sizes(spacing)[found[:, 3]])
    box = bounding_box(mask)
    if box is None:
        return _nothing(mask.ndim)
    codes = _neighbour_codes(mask[box])
    everything = (1 << (1 << mask.ndim)) - 1
    # 0 and all-inside become the two largest values after the shift by one
    where = np.flatnonzero((codes.ravel() - np.uint8(1)) < np.uint8(everything - 1))
    indices = _unravel(where, codes.shape) + np.array([s.start for s in box])
    return Surface(indices=indices, sizes=_element_sizes(spacing)[codes.ravel()[where]])


def surface_voxels(mask: NDArray[np.bool_], spacing_mm: Spacing) -> Surface:
    """Return the border voxels of a mask, each of size 1: those with a face towards the outside or the array's end.

    Parameters
    ----------
    mask
        Bool, any number of axes.
    spacing_mm
        Millimetres per axis, in the order of the axes; checked only, so that both definitions are called alike.

    Raises
    ------
    GeometryError
        If the spacing does not fit.
    """
    require_spacing(mask.ndim, spacing_mm)
    compiled = kernels(KERNELS, mask.size) if mask.ndim == 3 else None
    if compiled is not None:
        indices = compiled.border(_with_margin(mask))
        return Surface(indices=indices, sizes=np.ones(len(indices)))
    box = bounding_box(mask)
    if box is None:
        return _nothing(mask.ndim)
    border = border_voxels(mask[box])
    indices = _unravel(np.flatnonzero(border), border.shape) + np.array([s.start for s in box])
    return Surface(indices=indices, sizes=np.ones(len(indices)))


def border_voxels(mask: NDArray[np.bool_], axes: Sequence[int] | None = None) -> NDArray[np.bool_]:
    """Return the voxels of a mask that have a face towards the outside or the array's end.

    Parameters
    ----------
    mask
        Bool, any number of axes.
    axes
        Axes along which faces count, all by default; the last two of a volume give each slice's own border.

    Returns
    -------
    NDArray
        Bool, the shape of ``mask``.
    """
    inner = mask.copy()
    for axis in range(mask.ndim) if axes is None else axes:
        source, target = np.moveaxis(mask, axis, 0), np.moveaxis(inner, axis, 0)
        target[1:] &= source[:-1]
        target[:-1] &= source[1:]
        target[0] = False
        target[-1] = False
    return mask & ~inner


def _nothing(dims: int) -> Surface:
    return Surface(indices=np.zeros((0, dims), np.int64), sizes=np.zeros(0))


def _with_margin(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    padded = np.zeros([n + 2 for n in mask.shape], np.uint8)
    padded[(slice(1, -1),) * mask.ndim] = mask
    return padded


def _unravel(where: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    return np.stack(np.unravel_index(where, shape), axis=-1).astype(np.int64)


def _neighbour_codes(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    # one bit per neighbour of each corner, the first neighbour in the highest bit; one axis after the other
    codes: NDArray[np.uint8] = np.pad(mask.view(np.uint8), 1)
    for axis in reversed(range(mask.ndim)):
        along = np.moveaxis(codes, axis, 0)
        joined = along[:-1] << np.uint8(1 << (mask.ndim - 1 - axis))
        joined |= along[1:]
        codes = np.moveaxis(joined, 0, axis)
    return np.ascontiguousarray(codes)


@lru_cache(maxsize=64)
def _element_sizes(spacing: tuple[float, ...]) -> NDArray[np.float64]:
    if len(spacing) == 2:
        return _line_lengths(*spacing)
    scale = np.array(spacing)
    sizes = np.zeros(256)
    for code, triangles in enumerate(_triangles()):
        corners = triangles * scale
        sides = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        sizes[code] = sizes[255 - code] = 0.5 * np.linalg.norm(sides, axis=1).sum()
    return sizes


def _line_lengths(rows_mm: float, columns_mm: float) -> NDArray[np.float64]:
    corner = 0.5 * float(np.hypot(rows_mm, columns_mm))
    lengths = np.full(16, corner)
    lengths[[0, 15]] = 0.0
    lengths[[0b0011, 0b1100]] = columns_mm
    lengths[[0b0101, 0b1010]] = rows_mm
    lengths[[0b0110, 0b1001]] = 2 * corner
    return lengths


@lru_cache(maxsize=1)
def _triangles() -> tuple[NDArray[np.float64], ...]:
    # of codes 0 to 127; neighbourhoods of more than four voxels are replaced by their complement
    pieces = [np.zeros((0, 3, 3))]
    for code in range(1, 128):
        inside = np.array([code >> bit & 1 for bit in range(7, -1, -1)], np.float32).reshape(2, 2, 2)
        cells = 1 - inside if inside.sum() > 4 else inside
        vertices, faces, _, _ = marching_cubes(cells, 0.5, method="lorensen")  # type: ignore[no-untyped-call]
        pieces.append(np.asarray(vertices, np.float64)[faces])
    return tuple(pieces)
