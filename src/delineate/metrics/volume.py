"""Volumes and volume errors: from voxel counts and the voxel's volume to millilitres.

The module knows numbers only. For planes the same functions give areas: put in the pixel's area in mm^2 and read the
results of the mm^3 functions as mm^2.
"""

from __future__ import annotations

import math

from delineate.errors import GeometryError

MM3_PER_ML = 1000.0
"""Cubic millimetres in one millilitre."""


def require_voxel_volume(voxel_volume_mm3: float) -> None:
    """Refuse a voxel that has no volume.

    Raises
    ------
    GeometryError
        If the voxel volume is not positive and finite.
    """
    if not (math.isfinite(voxel_volume_mm3) and voxel_volume_mm3 > 0):
        raise GeometryError(f"The voxel volume must be a positive number of mm^3; got {voxel_volume_mm3}.")


def volume_mm3(voxels: int, voxel_volume_mm3: float) -> float:
    """Return the volume of so many voxels in mm^3.

    Raises
    ------
    GeometryError
        If the voxel volume is not positive and finite.
    """
    require_voxel_volume(voxel_volume_mm3)
    return voxels * voxel_volume_mm3


def volume_ml(voxels: int, voxel_volume_mm3: float) -> float:
    """Return the volume of so many voxels in millilitres.

    Raises
    ------
    GeometryError
        If the voxel volume is not positive and finite.
    """
    return volume_mm3(voxels, voxel_volume_mm3) / MM3_PER_ML


def signed_volume_error(predicted: float, reference: float) -> float:
    """Return predicted minus reference volume, in their unit: positive if the prediction is too large.

    NaN if both are 0: the structure is in neither label map and says nothing about the volume.
    """
    return predicted - reference if predicted or reference else math.nan


def absolute_volume_error(predicted: float, reference: float) -> float:
    """Return the size of the volume error, in the unit of the volumes; NaN if both are 0."""
    return abs(signed_volume_error(predicted, reference))


def relative_volume_error(predicted: float, reference: float) -> float:
    """Return (predicted - reference) / reference, signed, as a fraction; NaN if the reference is 0."""
    return (predicted - reference) / reference if reference else math.nan
