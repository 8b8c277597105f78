"""Turning images as the reader that a plan names would have turned them.

nnU-Net's readers ``NibabelIOWithReorient`` and ``SimpleITKIOWithReorient`` (2.8.1, ``imageio``) hand every volume to
the network in RAS+ orientation and turn the segmentation back; a network trained behind one of them has never seen
another orientation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.case.image import Image, LabelMap
from delineate.geometry.grid import Grid
from delineate.geometry.orientation import CANONICAL, Reorientation, reorientation_to
from delineate.planning.plan import Plan

TURNING_READERS = ("NibabelIOWithReorient", "SimpleITKIOWithReorient")
UNTURNED = Reorientation(axes=(0, 1, 2), flips=(False, False, False))


def reader_turning(plan: Plan, grid: Grid) -> Reorientation:
    """Return how the plan's reader turns an image of that grid; planes and all other readers turn nothing."""
    if plan.image_reader not in TURNING_READERS or grid.dims != 3:
        return UNTURNED
    return reorientation_to(grid, CANONICAL)


def turn_image(image: Image, turning: Reorientation) -> Image:
    """Return the turned image, a view, on its turned grid."""
    if turning == UNTURNED:
        return image
    return Image(array=turning.apply(image.array), grid=turning.apply_to_grid(image.grid))


def turn_labels(labels: LabelMap, turning: Reorientation) -> LabelMap:
    """Return the turned label map, a view, on its turned grid."""
    if turning == UNTURNED:
        return labels
    return LabelMap(array=turning.apply(labels.array), grid=turning.apply_to_grid(labels.grid), scheme=labels.scheme)


def turn_labels_back(labels: LabelMap, turning: Reorientation, grid: Grid) -> LabelMap:
    """Return labels of the turned image on the grid of the image as it was."""
    if turning == UNTURNED:
        return labels
    return LabelMap(array=turn_array_back(labels.array, turning), grid=grid, scheme=labels.scheme)


def turn_array_back(array: NDArray[Any], turning: Reorientation) -> NDArray[Any]:
    """Return an array (..., z, y, x) of the turned image as the image lay; contiguous."""
    return array if turning == UNTURNED else np.ascontiguousarray(turning.inverse.apply(array))
