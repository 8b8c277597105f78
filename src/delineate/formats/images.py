"""Image files and arrays with their grids: one door for all formats, chosen by the file's ending.

Knows which format module reads what; knows nothing of datasets or training.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.case import Image, LabelMap, LabelScheme
from delineate.errors import GeometryError, LabelError, UsageError
from delineate.formats.magic import ENDINGS, check_file, image_ending, is_dicom
from delineate.formats.raster import (
    PICTURE_ENDINGS,
    TIFF_ENDINGS,
    read_picture,
    read_picture_values,
    read_tiff,
    write_picture,
    write_tiff,
)
from delineate.formats.volumes import VOLUME_ENDINGS, read_volume, write_volume

logger = logging.getLogger(__name__)

LARGEST_UINT8_LABEL = 254
"""nnU-Net writes uint16 from label value 255 on; 255 often means something else in 8-bit masks."""


def read_image(paths: Path | Sequence[Path]) -> Image:
    """Read an image from one file, or from one file per channel in the given order.

    Returns
    -------
    Image
        ``(channel, z, y, x)`` or ``(channel, y, x)``, the stored dtype, geometry in LPS mm as the file says.

    Raises
    ------
    ImageReadError
        If a file is missing, empty, truncated, damaged, or not an image.
    GeometryError
        If the files do not lie on one grid.
    """
    files = [paths] if isinstance(paths, Path) else list(paths)
    if not files:
        raise UsageError("An image needs at least one file; got none.")
    return stack_channels([read_file(path) for path in files], [str(path) for path in files])


def read_labels(path: Path, scheme: LabelScheme | None = None) -> LabelMap:
    """Read a label map; whole numbers stored as floats are converted.

    Returns
    -------
    LabelMap
        ``(z, y, x)`` or ``(y, x)`` of an integer dtype.

    Raises
    ------
    ImageReadError
        If the file is missing, empty, truncated, damaged, or not an image.
    LabelError
        If a value is not a whole number, or if colours are stored instead of values.
    """
    image = read_mask(path)
    return LabelMap(array=whole_numbers(image.array[0], str(path)), grid=image.grid, scheme=scheme)


def label_ending(image_ending: str) -> str:
    """Return the ending of label maps for images of an ending: the same, but PNG where it would lose values (JPEG)."""
    return ".png" if image_ending in (".jpg", ".jpeg") else image_ending


def write_labels(path: Path, labels: LabelMap) -> None:
    """Write a label map as uint8, or as uint16 if a value is 255 or more; atomically.

    Raises
    ------
    LabelError
        If a value is negative or above 65535.
    ResourceError
        If the disk is full or the folder cannot be written.
    """
    low, high = int(labels.array.min()), int(labels.array.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise LabelError(f"{path}: label values must lie between 0 and 65535; found {low} to {high}.")
    dtype = np.uint8 if high <= LARGEST_UINT8_LABEL else np.uint16
    write_image(path, Image(array=labels.array[None].astype(dtype), grid=labels.grid))


def write_image(path: Path, image: Image) -> None:
    """Write an image in the format of the path's ending; atomically, with its geometry.

    Raises
    ------
    UsageError
        If the ending is unknown or the format cannot hold such values.
    GeometryError
        If the format cannot hold the grid.
    ResourceError
        If the disk is full or the folder cannot be written.
    """
    ending = image_ending(path)
    if ending in VOLUME_ENDINGS:
        write_volume(path, image)
    elif ending in TIFF_ENDINGS:
        write_tiff(path, image)
    elif ending in PICTURE_ENDINGS:
        write_picture(path, image)
    else:
        raise UsageError(f"{path}: an image can be written as {', '.join(sorted(ENDINGS))}; got '{path.suffix}'.")


def read_file(path: Path) -> Image:
    """Read a single file with all its channels, or the one DICOM series of a folder or a multi-frame file.

    Raises
    ------
    ImageReadError
        If the file is missing, empty, truncated, damaged, or not an image.
    """
    if path.is_dir() or is_dicom(path):
        return _read_dicom(path)
    check_file(path)
    ending = image_ending(path)
    if ending in VOLUME_ENDINGS:
        return read_volume(path)
    return read_tiff(path) if ending in TIFF_ENDINGS else read_picture(path)


def _read_dicom(path: Path) -> Image:
    try:
        from delineate.formats.dicom.reading import read_dicom
    except ImportError as error:
        raise UsageError(
            f"{path}: reading DICOM needs the extra `dicom` ({error.name} is not installed): "
            "pip install 'delineate[dicom]'. Or convert the series to NIfTI."
        ) from error
    volume = read_dicom(path)
    for finding in volume.report.findings:
        logger.warning("%s: %s", finding.code, finding.words)
    return volume.image


def read_mask(path: Path) -> Image:
    """Read a file that holds label values, as it is stored; several equal channels become one.

    Raises
    ------
    ImageReadError
        If the file is missing, empty, truncated, damaged, or not an image.
    LabelError
        If the channels differ (colours instead of label values).
    """
    check_file(path)
    image = read_picture_values(path) if image_ending(path) in PICTURE_ENDINGS else read_file(path)
    if any(not np.array_equal(image.array[0], other) for other in image.array[1:]):
        raise LabelError(
            f"{path}: expected one label value per voxel; found {image.channels} different channels (colours?). "
            "Save the mask with one channel of whole numbers."
        )
    return Image(array=image.array[:1], grid=image.grid)


def stack_channels(images: Sequence[Image], names: Sequence[str]) -> Image:
    """Put the channels of several images on one grid into one image.

    Raises
    ------
    GeometryError
        If the grids differ; the text names the files and what differs.
    """
    first = images[0]
    if len(images) == 1:
        return first
    for image, name in zip(images[1:], names[1:], strict=True):
        if differences := first.grid.differences(image.grid):
            raise GeometryError(
                f"{name}: expected the grid of {names[0]}; found {'; '.join(differences)}. "
                "Resample them onto one grid, or use `--repair geometry-from-image` if only the header is wrong."
            )
    return Image(array=np.concatenate([image.array for image in images]), grid=first.grid)


def whole_numbers(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return label values as an integer array of the same shape.

    Raises
    ------
    LabelError
        If a value is not a whole number.
    """
    if np.issubdtype(array.dtype, np.integer):
        return array
    rounded: NDArray[Any] = np.rint(array)
    wrong = ~np.isfinite(array) | (rounded != array)
    if wrong.any():
        raise LabelError(
            f"{name}: expected whole numbers as label values; found for example {float(array[wrong][0]):g} in "
            f"{int(wrong.sum())} voxels. Use `--repair round-mask` to round them."
        )
    return rounded.astype(np.int32)
