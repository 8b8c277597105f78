"""A folder with one DICOM series as a volume. Small and strict: whatever is ambiguous is refused.

Files are read by ITK's GDCM, which applies the rescale slope; order, spacing and completeness of the slices are decided
here from their positions. Knows no patient data: no tag but those of geometry is looked at, and none is told.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from delineate.case import Image
from delineate.errors import ImageReadError
from delineate.geometry.grid import Grid

sitk: Any = SimpleITK  # its functions carry no types
logger = logging.getLogger(__name__)

POSITION_TOLERANCE = 0.02
"""Largest deviation of a slice distance from the median one, as a share of it: headers round positions."""
SIDE_TOLERANCE_MM = 0.1
"""Largest shift of a slice across the stack; a tilted gantry shifts every slice."""
DIRECTION_TOLERANCE = 1e-4

ORIENTATION = "0020|0037"
FRAMES = "0028|0008"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Slice:
    file: str
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    axes: tuple[float, ...]
    """Direction cosines of x, y and the normal, one after the other."""


def read_series(folder: Path) -> Image:
    """Read the one DICOM series of a folder.

    Returns
    -------
    Image
        (1, z, y, x), rescaled intensities (HU for CT), on its grid in LPS mm.

    Raises
    ------
    ImageReadError
        If there is no series or several of them, slices are missing, doubled, tilted, or of different kinds.
    """
    files = _files(folder)
    slices = [_looked_at(file) for file in files]
    _check_alike(folder, slices)
    normal = np.array(slices[0].axes[6:9])
    heights = [float(np.dot(normal, one.origin)) for one in slices]
    order = np.argsort(heights, kind="stable")
    ordered = [slices[i] for i in order]
    distance = _distance(folder, ordered, np.array(heights)[order], normal)
    array = np.stack([_pixels(folder, one) for one in ordered])
    return Image(array=array[None], grid=_grid(ordered[0], array.shape, distance))


def _files(folder: Path) -> list[str]:
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise ImageReadError(
            f"{folder}: expected an image file or a DICOM series; found a folder without DICOM images. "
            "Name the file inside it."
        )
    if len(series) > 1:
        raise ImageReadError(
            f"{folder}: expected one DICOM series; found {len(series)}. Put the files of one series into a folder."
        )
    files = list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0]))
    others = sum(1 for path in folder.iterdir() if path.is_file()) - len(files)
    if others:
        logger.warning("%s holds %d other files, which are not read", folder, others)
    return files


def _looked_at(file: str) -> _Slice:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ImageReadError(f"{file}: a damaged DICOM file. Copy or export it again.") from error
    frames = reader.GetMetaData(FRAMES).strip() if reader.HasMetaDataKey(FRAMES) else "1"
    if frames not in ("", "1") or reader.GetNumberOfComponents() != 1 or not reader.HasMetaDataKey(ORIENTATION):
        raise ImageReadError(
            f"{file}: expected one grey slice with its orientation; found {frames} frames, "
            f"{reader.GetNumberOfComponents()} components. Convert the series to NIfTI."
        )
    direction = np.array(reader.GetDirection()).reshape(3, 3)
    return _Slice(
        file=file,
        size=tuple(reader.GetSize()[:2]),
        spacing=tuple(reader.GetSpacing()[:2]),
        origin=tuple(reader.GetOrigin()),
        axes=tuple(float(v) for v in direction.T.ravel()),
    )


def _check_alike(folder: Path, slices: Sequence[_Slice]) -> None:
    first = slices[0]
    if len(slices) < 2:
        raise ImageReadError(f"{folder}: expected a series of slices; found a single one.")
    for name, differ in (
        ("numbers of rows and columns", any(one.size != first.size for one in slices)),
        ("pixel spacings", any(not np.allclose(one.spacing, first.spacing, rtol=1e-4) for one in slices)),
        ("orientations", any(not np.allclose(one.axes, first.axes, atol=DIRECTION_TOLERANCE) for one in slices)),
    ):
        if differ:
            raise ImageReadError(f"{folder}: the slices have different {name}. Keep those that belong to one volume.")


def _distance(
    folder: Path, slices: Sequence[_Slice], heights: NDArray[np.float64], normal: NDArray[np.float64]
) -> float:
    """Return the distance of neighbouring slices after making sure that it is the same everywhere."""
    steps = np.diff(heights)
    distance = float(np.median(steps))
    if steps.min() <= POSITION_TOLERANCE * max(distance, 1e-6):
        raise ImageReadError(f"{folder}: several slices lie at one place. Keep one phase or one reconstruction.")
    gaps = int((np.abs(steps - distance) > POSITION_TOLERANCE * distance).sum())
    if gaps:
        raise ImageReadError(
            f"{folder}: the slices are {steps.min():g} to {steps.max():g} mm apart, at {gaps} places not "
            f"{distance:g} mm. Slices are missing, or the spacing varies; copy the whole series."
        )
    origins = np.array([one.origin for one in slices])
    aside = (origins - origins[0]) - np.outer(heights - heights[0], normal)
    if float(np.abs(aside).max()) > SIDE_TOLERANCE_MM:
        raise ImageReadError(
            f"{folder}: the slices are shifted sideways by up to {np.abs(aside).max():.1f} mm (a tilted gantry). "
            "Correct the tilt with a converter such as dcm2niix."
        )
    return float((heights[-1] - heights[0]) / (len(slices) - 1))


def _pixels(folder: Path, one: _Slice) -> NDArray[Any]:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(one.file)
    try:
        array: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise ImageReadError(f"{one.file}: its pixels cannot be decoded. Copy or export it again.") from error
    return array.reshape(one.size[::-1])


def _grid(first: _Slice, shape: tuple[int, ...], distance: float) -> Grid:
    x, y, z = first.axes[0:3], first.axes[3:6], first.axes[6:9]
    return Grid(
        shape=shape,
        spacing_mm=(distance, first.spacing[1], first.spacing[0]),
        origin_mm=first.origin,
        direction=(z, y, x),
    )
