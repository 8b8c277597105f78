"""SimpleITK: the only module that imports it, because its import takes longer than reading a small file.

World LPS mm; our arrays are zyx, ITK's vectors xyz.
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
from delineate.errors import ImageReadError
from delineate.formats.header_geometry import Geometry

sitk: Any = SimpleITK  # its functions carry no types


def ask_itk(path: Path) -> Geometry:
    """Return the geometry that ITK reads from a NIfTI header.

    Raises
    ------
    RuntimeError
        ITK's own, if it refuses the file.
    """
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")  # named, so that ITK does not ask every format whether the file is its own
    reader.SetFileName(str(path))
    with quiet():
        reader.ReadImageInformation()
    return _geometry_of(reader)


def read_with_itk(path: Path) -> tuple[NDArray[Any], Geometry]:
    """Read a file of any format that ITK knows.

    Returns
    -------
    array
        ``(channel, z, y, x)`` or ``(channel, y, x)``, the stored dtype.
    geometry
        Its place in LPS mm.

    Raises
    ------
    ImageReadError
        If the file is damaged, holds complex numbers, or has more axes than an image with channels.
    """
    try:
        with quiet():
            image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise ImageReadError(
            f"{path}: expected a complete image; it is truncated or damaged ({last_line(error)}). "
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


def to_itk(image: Image) -> Any:
    """Return an image as ITK's; several channels become vector voxels."""
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


def write(path: Path, foreign: Any, *, compressed: bool) -> None:
    """Write ITK's image in the format of the path's ending.

    Raises
    ------
    RuntimeError
        ITK's own, if it cannot.
    """
    with quiet():
        sitk.WriteImage(foreign, str(path), useCompression=compressed)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep ITK's warnings off the terminal; faults are still raised."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def last_line(error: RuntimeError) -> str:
    """Return the sentence at the end of ITK's long messages."""
    return str(error).strip().splitlines()[-1].strip()


def _geometry_of(image: Any) -> Geometry:
    """Return the geometry of an image, or of a reader that knows it."""
    return Geometry(
        size=tuple(int(n) for n in image.GetSize()),
        spacing_mm=tuple(image.GetSpacing()),
        origin_mm=tuple(image.GetOrigin()),
        direction=tuple(image.GetDirection()),
        double=image.GetPixelID() in (sitk.sitkFloat64, sitk.sitkVectorFloat64),
    )
