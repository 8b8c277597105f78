"""Volume files through SimpleITK: NIfTI, NRRD, MetaImage. World LPS mm; our arrays are zyx, ITK's vectors xyz.

Knows arrays and grids; does not know what labels mean.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from delineate.case import Image
from delineate.errors import GeometryError, ImageReadError, ResourceError
from delineate.execution import atomic_path
from delineate.formats.header_geometry import Geometry
from delineate.formats.magic import image_ending
from delineate.formats.nifti import read_nifti, write_nifti
from delineate.formats.orthonormal import nearest_orthonormal
from delineate.geometry.grid import Grid, is_orthonormal

VOLUME_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
_NIFTI_ENDINGS = (".nii.gz", ".nii")


def read_volume(path: Path) -> Image:
    """Read a volume or plane; vector voxels and the fourth axis become channels; the stored dtype is kept.

    Returns
    -------
    Image
        ``(channel, z, y, x)`` or ``(channel, y, x)`` with its grid in LPS mm.

    Raises
    ------
    ImageReadError
        If the file is damaged or not an image that can be used.
    """
    if image_ending(path) in _NIFTI_ENDINGS:
        array, geometry = read_nifti(path)
    else:
        from delineate.formats.itk import read_with_itk

        array, geometry = read_with_itk(path)
    return Image(array=array, grid=_grid(geometry, array.shape[1:], path))


def write_volume(path: Path, image: Image) -> None:
    """Write an image with its geometry, compressed, atomically; several channels become vector voxels.

    A NIfTI file of several channels cannot say whether its only slice was a plane or a volume; it is read as a plane.

    Raises
    ------
    ResourceError
        If the disk is full or the folder cannot be written.
    """
    from delineate.formats import itk

    foreign = itk.to_itk(image)
    with atomic_path(path) as temporary:
        try:
            if image_ending(path) in _NIFTI_ENDINGS:
                write_nifti(temporary, foreign)
            else:
                itk.write(temporary, foreign, compressed=True)
        except RuntimeError as error:
            raise ResourceError(
                f"{path} could not be written ({itk.last_line(error)}). Is the disk full? "
                "Free some space or choose another folder."
            ) from error


def _grid(geometry: Geometry, shape: tuple[int, ...], path: Path) -> Grid:
    n, rank = len(shape), len(geometry.size)
    columns = np.array(geometry.direction, dtype=np.float64).reshape(rank, rank)[:n, :n]
    spacing = np.array(geometry.spacing_mm, dtype=np.float64)[:n][::-1]
    axes = columns.T[::-1]
    if not is_orthonormal(axes):
        axes = nearest_orthonormal(axes, spacing, shape, path)
    try:
        return Grid(
            shape=shape,
            spacing_mm=tuple(float(s) for s in spacing),
            origin_mm=tuple(float(o) for o in geometry.origin_mm[:n]),
            direction=tuple(tuple(float(v) for v in axis) for axis in axes),
        )
    except GeometryError as error:
        raise ImageReadError(f"{path}: the header's geometry is impossible: {error} Export the image again.") from error
