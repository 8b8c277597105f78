"""The grid on which anatomy models look at a scan, and the way back: crop, canonical orientation, isotropic spacing.

Order and numbers are those of TotalSegmentator 2.18, on whose images the published weights were trained: the crop is
taken on the scan's own grid, the part is turned to RAS, interpolated linearly, and cut to whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.case.image import Image
from delineate.errors import GeometryError, InputError
from delineate.geometry.corner_resample import zoom_linear, zoom_nearest, zoomed_shape
from delineate.geometry.crop import Box, bounding_box, crop, uncrop
from delineate.geometry.grid import Grid
from delineate.geometry.orientation import Reorientation, crop_grid, reorientation_to

LEAST_GREY_RANGE = 16
"""Smallest range of intensities that survives the cut to whole numbers; below it nothing of the image is left."""

Spacing = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkingTrace:
    """The way from a scan to its working grid."""

    grid: Grid
    """Of the scan."""
    box: Box
    """Part of the scan that was kept."""
    reorientation: Reorientation
    turned_shape: tuple[int, ...]
    """Of the kept part, turned, before resampling."""


def to_working_grid(image: Image, spacing_mm: Spacing | None, *, box: Box | None = None) -> tuple[Image, WorkingTrace]:
    """Crop a scan, turn it to RAS and resample it.

    Parameters
    ----------
    image
        (1, z, y, x) with its grid.
    spacing_mm
        Wanted spacing of the turned axes (z, y, x); None: keep the scan's.
    box
        Part of the scan to keep; None: all of it.

    Returns
    -------
    tuple
        The image on the working grid, int32 if it was cropped or resampled; and the way back.

    Raises
    ------
    InputError
        If the image has several channels, is a plane, or its intensities would vanish in whole numbers.
    """
    _check(image)
    kept = box if box is not None else tuple((0, size) for size in image.grid.shape)
    part = crop(image.array[0], kept)
    part = part if box is None else _whole(part)
    grid = crop_grid(image.grid, kept)
    turn = reorientation_to(grid)
    array, turned = turn.apply(part), turn.apply_to_grid(grid)
    trace = WorkingTrace(grid=image.grid, box=kept, reorientation=turn, turned_shape=turned.shape)
    if spacing_mm is not None and _header_spacing(turned) != spacing_mm:
        shape = zoomed_shape(turned.shape, _header_spacing(turned), spacing_mm)
        array = _whole(zoom_linear(array, shape))
        turned = Grid(shape=shape, spacing_mm=spacing_mm, origin_mm=turned.origin_mm, direction=turned.direction)
    return Image(array=np.ascontiguousarray(array)[None], grid=turned), trace


def from_working_grid(labels: NDArray[Any], trace: WorkingTrace) -> NDArray[Any]:
    """Take a label map back to the scan's grid: nearest voxels, turned back, background outside the box.

    Parameters
    ----------
    labels
        (z, y, x) on the working grid.
    trace
        The way there.

    Returns
    -------
    NDArray
        (z, y, x) on the scan's grid, the dtype of ``labels``.
    """
    turned = zoom_nearest(labels, trace.turned_shape)
    part = trace.reorientation.inverse.apply(turned)
    return np.ascontiguousarray(uncrop(part, trace.box, trace.grid.shape))


def box_around(mask: NDArray[np.bool_], grid: Grid, margin_mm: float) -> Box | None:
    """Return the box around a mask, widened by whole voxels within the margin; None if the mask is empty.

    Parameters
    ----------
    mask
        (z, y, x) bool.
    grid
        Where its voxels lie.
    margin_mm
        Least distance of the mask from the box on every side, rounded down to voxels, ending at the image.
    """
    if not mask.any():
        return None
    margins = [int(margin_mm / spacing) for spacing in _header_spacing(grid)]
    return tuple(
        (max(0, start - margin), min(size, stop + margin))
        for (start, stop), margin, size in zip(bounding_box(mask), margins, mask.shape, strict=True)
    )


def _check(image: Image) -> None:
    if image.grid.dims != 3:
        raise GeometryError(f"Anatomy is segmented in volumes; the image is a plane of {image.grid.shape} voxels.")
    if image.channels != 1:
        raise InputError(
            f"Anatomy is segmented in one channel; the image has {image.channels}. Give one of them as a file."
        )
    if image.array.dtype.kind == "f":
        low, high = float(image.array.min()), float(image.array.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InputError("The image holds intensities that are no numbers (NaN or Inf). Export it again.")
        if high > low and high - low < LEAST_GREY_RANGE:
            raise InputError(
                f"The intensities range from {low:g} to {high:g} only; the models work on whole numbers, in which "
                "little of the image would be left. Give the scan as it left the scanner, or multiply it by 1000."
            )


def _header_spacing(grid: Grid) -> Spacing:
    """Return the spacing in the single precision of image headers, so that sizes are rounded as elsewhere."""
    z, y, x = (float(np.float32(spacing)) for spacing in grid.spacing_mm)
    return z, y, x


def _whole(array: NDArray[Any]) -> NDArray[np.int32]:
    """Return int32, cut towards zero."""
    return array.astype(np.int32, copy=False)
