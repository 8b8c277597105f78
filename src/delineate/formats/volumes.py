"""Volume files through SimpleITK: NIfTI, NRRD, MetaImage. World LPS mm; our arrays are zyx, ITK's vectors xyz.

Knows arrays and grids; does not know what labels mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from delineate.case import Image
from delineate.errors import GeometryError, ImageReadError, ResourceError
from delineate.execution import atomic_path
from delineate.formats.magic import image_ending
from delineate.formats.nifti import Geometry, read_nifti, write_nifti
from delineate.formats.orthonormal import nearest_orthonormal
from delineate.geometry.grid import Grid, is_orthonormal

sitk: Any = SimpleITK  # its functions carry no types

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
    with _quiet():
        if image_ending(path) in _NIFTI_ENDINGS:
            array, geometry = read_nifti(path)
        else:
            array, geometry = _read_with_itk(path)
    return Image(array=array, grid=_grid(geometry, array.shape[1:], path))


def write_volume(path: Path, image: Image) -> None:
    """Write an image with its geometry, compressed, atomically; several channels become vector voxels.

    A NIfTI file of several channels cannot say whether its only slice was a plane or a volume; it is read as a plane.

    Raises
    ------
    ResourceError
        If the disk is full or the folder cannot be written.
    """
    foreign = _to_itk(image)
    with atomic_path(path) as temporary, _quiet():
        try:
            if image_ending(path) in _NIFTI_ENDINGS:
                write_nifti(temporary, foreign)
            else:
                sitk.WriteImage(foreign, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise ResourceError(
                f"{path} could not be written ({_last_line(error)}). Is the disk full? "
                "Free some space or choose another folder."
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ITK's warnings off the terminal; faults are still raised."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def _read_with_itk(path: Path) -> tuple[NDArray[Any], Geometry]:
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise ImageReadError(
            f"{path}: expected a complete image; it is truncated or damaged ({_last_line(error)}). "
            "Copy or export it again."
        ) from error
    array = sitk.GetArrayFromImage(image)
    if np.iscomplexobj(array):
        raise ImageReadError(f"{path}: expected real numbers; found complex ones. Save the magnitude instead.")
    components, rank = image.GetNumberOfComponentsPerPixel(), image.GetDimension()
    if components > 1 and rank <= 3:
        return np.ascontiguousarray(np.moveaxis(array, -1, 0)), _geometry_of(image)
    if components == 1 and rank <= 4:
        return (array if rank == 4 else array[None]), _geometry_of(image)
    raise ImageReadError(
        f"{path}: expected a 2-D or 3-D image with channels; found {rank} axes and {components} components per voxel. "
        "Save one file per channel."
    )


def _geometry_of(image: Any) -> Geometry:
    return Geometry(
        size=tuple(image.GetSize()),
        spacing_mm=tuple(image.GetSpacing()),
        origin_mm=tuple(image.GetOrigin()),
        direction=tuple(image.GetDirection()),
    )


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


def _to_itk(image: Image) -> Any:
    array = _storable(image.array)
    vector = array.shape[0] > 1
    foreign = sitk.GetImageFromArray(np.moveaxis(array, 0, -1) if vector else array[0], isVector=vector)
    grid = image.grid
    foreign.SetSpacing(_floats(grid.spacing_mm[::-1]))
    foreign.SetOrigin(_floats(grid.origin_mm))
    foreign.SetDirection(_floats(np.asarray(grid.direction)[::-1].T.ravel()))
    return foreign


def _storable(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def _floats(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _last_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1].strip()
