"""Decoding the pixels of planes into intensities. All planes of a volume are decoded before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from delineate.errors import ImageReadError
from delineate.formats.dicom.planes import Plane

_CODECS: dict[str, Any] = {
    JPEGLossless: imagecodecs.ljpeg_decode,
    JPEGLosslessSV1: imagecodecs.ljpeg_decode,
    JPEGLSLossless: imagecodecs.jpegls_decode,
    JPEGLSNearLossless: imagecodecs.jpegls_decode,
    JPEG2000Lossless: imagecodecs.jpeg2k_decode,
    JPEG2000: imagecodecs.jpeg2k_decode,
}
"""Transfer syntaxes that pydicom leaves to plug-ins; the same library reads TIFF here."""


def decode_planes(planes: Sequence[Plane]) -> NDArray[Any]:
    """Return intensities (z, y, x) of planes in their order.

    Slope and intercept of every plane are applied (PET changes them from plane to plane); MONOCHROME1 is turned so that
    larger is brighter; padding values become the smallest intensity of their plane. Whole numbers stay int16 or int32
    if they fit and all slopes are 1.

    Raises
    ------
    ImageReadError
        If a plane cannot be decoded or holds colour.
    """
    whole = all(plane.slope == int(plane.slope) and plane.intercept == int(plane.intercept) for plane in planes)
    decoded = [_intensities(plane, stored, whole=whole) for plane, stored in zip(planes, _stored(planes), strict=True)]
    volume = np.stack(decoded)
    if whole and volume.size and -32768 <= int(volume.min()) and int(volume.max()) <= 32767:
        return volume.astype(np.int16)
    return volume


def _stored(planes: Sequence[Plane]) -> list[NDArray[Any]]:
    """Return the stored numbers of every plane; a multi-frame file is decoded once."""
    opened: dict[int, NDArray[Any]] = {}
    for plane in planes:
        if id(plane.dataset) not in opened:
            opened[id(plane.dataset)] = _frames(plane)
    return [opened[id(plane.dataset)][(plane.frame or 1) - 1] for plane in planes]


def _frames(plane: Plane) -> NDArray[Any]:
    """Return all frames (frame, y, x) of a plane's instance."""
    dataset = plane.dataset
    if int(dataset.get("SamplesPerPixel", 1)) != 1:
        raise ImageReadError(f"{plane.file}: expected one grey value per pixel; found colour. Choose another series.")
    try:
        syntax = dataset.file_meta.TransferSyntaxUID
        array = _decompressed(dataset) if syntax in _CODECS else dataset.pixel_array
    except Exception as error:  # decoders raise whatever they like on damaged data
        raise ImageReadError(
            f"{plane.file}: its pixels cannot be decoded ({type(error).__name__}: {error}). Copy or export it again."
        ) from error
    frames: NDArray[Any] = array.reshape(-1, plane.rows, plane.columns)
    return frames


def _decompressed(dataset: Dataset) -> NDArray[Any]:
    decode = _CODECS[dataset.file_meta.TransferSyntaxUID]
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    frames = [decode(frame) for frame in generate_frames(dataset.PixelData, number_of_frames=count)]
    array = np.stack(frames)
    if int(dataset.get("PixelRepresentation", 0)) == 1 and array.dtype.kind == "u":
        array = _signed(array, int(dataset.BitsStored))
    return array


def _signed(array: NDArray[Any], bits: int) -> NDArray[Any]:
    """Return numbers whose highest stored bit is a sign."""
    values = array.astype(np.int32)
    return np.where(values >= 1 << (bits - 1), values - (1 << bits), values)


def _intensities(plane: Plane, stored: NDArray[Any], *, whole: bool) -> NDArray[Any]:
    if whole:
        intensities: NDArray[Any] = stored.astype(np.int32) * int(plane.slope) + int(plane.intercept)
    else:
        intensities = stored.astype(np.float32) * np.float32(plane.slope) + np.float32(plane.intercept)
    padding = plane.dataset.get("PixelPaddingValue")
    if padding is not None:
        outside = stored == int(padding)
        if outside.any() and not outside.all():
            intensities[outside] = intensities[~outside].min()
    if str(plane.dataset.get("PhotometricInterpretation", "")) == "MONOCHROME1":
        intensities = intensities.max() + intensities.min() - intensities
    return intensities
