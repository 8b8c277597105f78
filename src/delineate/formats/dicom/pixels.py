"""Decoding the pixels of planes into intensities. All planes of a volume are decoded before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from delineate.errors import ImageReadError
from delineate.formats.dicom.files import raw_pixels
from delineate.formats.dicom.planes import Plane
from delineate.formats.dicom.series_report import SHOWN_FILES

_CODECS: dict[str, Any] = {
    JPEGBaseline8Bit: imagecodecs.jpeg_decode,
    JPEGExtended12Bit: imagecodecs.jpeg_decode,
    JPEGLossless: imagecodecs.ljpeg_decode,
    JPEGLosslessSV1: imagecodecs.ljpeg_decode,
    JPEGLSLossless: imagecodecs.jpegls_decode,
    JPEGLSNearLossless: imagecodecs.jpegls_decode,
    JPEG2000Lossless: imagecodecs.jpeg2k_decode,
    JPEG2000: imagecodecs.jpeg2k_decode,
    HTJ2KLossless: imagecodecs.htj2k_decode,
    HTJ2KLosslessRPCL: imagecodecs.htj2k_decode,
    HTJ2K: imagecodecs.htj2k_decode,
}
"""Transfer syntaxes that pydicom leaves to plug-ins; the same library reads TIFF here."""
GREY = ("MONOCHROME1", "MONOCHROME2", "")
QUANTITATIVE = ("CT", "PT", "NM")
"""Modalities whose numbers have a unit: MONOCHROME1 then says how to show them, not what they are."""
_ALLOCATED = {8: "u1", 16: "u2", 32: "u4"}
_INT16 = np.iinfo(np.int16)


def unreadable(plane: Plane) -> Iterator[tuple[str, str]]:
    """Yield code and words of every reason why a plane's numbers are no intensities, as far as its header tells."""
    dataset = plane.dataset
    kind = plane.text("PhotometricInterpretation")
    if int(plane.text("SamplesPerPixel") or 1) != 1 or kind not in GREY:
        yield "COLOUR", f"expected one grey value per pixel; found {kind or 'colour'}; choose another series"
    if not math.isfinite(plane.slope * plane.intercept) or plane.slope == 0:
        yield "BAD_RESCALE", "slope or intercept of the intensities is no number, or the slope is 0; export it again"
    if dataset.get("ModalityLUTSequence"):
        yield "MODALITY_TABLE", "the numbers become intensities by a table (Modality LUT), which is not supported"
    syntax = UID(str(dataset.file_meta.TransferSyntaxUID))
    if syntax not in _CODECS and (not syntax.is_transfer_syntax or syntax.is_compressed) and syntax != RLELossless:
        if not syntax.is_deflated:
            yield "UNKNOWN_COMPRESSION", f"the pixels are compressed as {syntax.name}, which cannot be decoded here"


def decode_planes(planes: Sequence[Plane]) -> NDArray[Any]:
    """Return intensities (z, y, x) of planes in their order.

    Slope and intercept of every plane are applied (PET changes them from plane to plane). MONOCHROME1 is turned, so
    that larger is brighter, unless the numbers have a unit. Padding values become the smallest intensity of their
    plane. Whole numbers stay int16 or int32 if they fit and all slopes are whole; else the volume is float32.

    Raises
    ------
    ImageReadError
        If planes cannot be decoded; the text names all of them.
    """
    volume = np.empty((len(planes), planes[0].rows, planes[0].columns), dtype=_dtype_for(planes))
    opened: dict[int, NDArray[Any]] = {}
    scratch = bytearray(volume[0].size * 4)  # read into again and again: fresh memory costs more than the reading
    faults: list[str] = []
    for index, plane in enumerate(planes):
        try:
            _fill(volume[index], plane, _stored(plane, opened, scratch))
        except Exception as error:  # noqa: BLE001  # decoders raise whatever they like on damaged data
            faults.append(f"{plane.file} ({type(error).__name__})")
    if faults:
        shown = ", ".join(faults[:SHOWN_FILES])
        raise ImageReadError(
            f"UNDECODABLE: the pixels of {len(faults)} of {len(planes)} planes cannot be decoded: {shown}. "
            "Copy or export the series again."
        )
    if volume.dtype == np.int32 and _INT16.min <= int(volume.min()) and int(volume.max()) <= _INT16.max:
        return volume.astype(np.int16)
    return volume


def _dtype_for(planes: Sequence[Plane]) -> type[np.generic]:
    """Return a type that holds the intensities of all planes."""
    if any(p.slope % 1 or p.intercept % 1 or "PixelData" not in p.dataset for p in planes):
        return np.float32
    ends = [end * plane.slope + plane.intercept for plane in planes for end in _stored_range(plane.dataset)]
    fitting = (
        kind for kind in (np.int16, np.int32) if np.iinfo(kind).min <= min(ends) <= max(ends) <= np.iinfo(kind).max
    )
    return next(fitting, np.float64)


def _stored_range(dataset: Dataset) -> tuple[int, int]:
    bits = int(dataset.BitsStored)
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if int(dataset.PixelRepresentation) else (0, (1 << bits) - 1)


def _stored(plane: Plane, opened: dict[int, NDArray[Any]], scratch: bytearray) -> NDArray[Any]:
    """Return the stored numbers (y, x) of a plane; a multi-frame file is decoded once."""
    if plane.frame is None:
        only: NDArray[Any] = stored_frames(plane, scratch)[0]
        return only
    key = id(plane.dataset)
    if key not in opened:
        opened[key] = stored_frames(plane)
    one: NDArray[Any] = opened[key][plane.frame - 1]
    return one


def stored_frames(plane: Plane, scratch: bytearray | None = None) -> NDArray[Any]:
    """Return all frames (frame, y, x) of a plane's instance."""
    dataset, syntax = plane.dataset, UID(str(plane.dataset.file_meta.TransferSyntaxUID))
    shape = (-1, plane.rows, plane.columns)
    if "PixelData" not in dataset:
        floats: NDArray[Any] = dataset.pixel_array.reshape(shape)
        return floats
    if syntax == RLELossless:
        array = dataset.pixel_array
    elif syntax in _CODECS:
        count = int(plane.text("NumberOfFrames") or 1)
        codes = generate_frames(bytes(raw_pixels(dataset)), number_of_frames=count)
        array = np.stack([_CODECS[syntax](code) for code in codes])
    else:
        kind = np.dtype(_ALLOCATED[int(dataset.BitsAllocated)]).newbyteorder(
            ">" if syntax == ExplicitVRBigEndian else "<"
        )
        size = plane.rows * plane.columns * int(plane.text("NumberOfFrames") or 1)
        array = np.frombuffer(raw_pixels(dataset, scratch), dtype=kind, count=size)
    return _significant(array.reshape(shape), dataset)


def _significant(array: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """Return numbers of the bits that are stored, the highest of them a sign if the header says so.

    Older images keep overlays in the bits above, and codecs do not know of the sign.
    """
    stored, width = int(dataset.BitsStored), 8 * array.dtype.itemsize
    high = int(dataset.get("HighBit", stored - 1))
    kind = np.dtype(f"{'i' if int(dataset.PixelRepresentation) else 'u'}{array.dtype.itemsize}")
    numbers = array.astype(array.dtype.newbyteorder("="), copy=False).view(kind)
    if stored >= width:
        return numbers
    if str(dataset.file_meta.TransferSyntaxUID) in _CODECS:
        high = stored - 1  # codecs hand out the stored bits alone
    if kind.kind == "u" and high == stored - 1 and not int(numbers.max()) >> stored:
        return numbers
    shifted: NDArray[Any] = np.left_shift(numbers, width - 1 - high)
    shifted >>= width - stored
    return shifted


def _fill(out: NDArray[Any], plane: Plane, stored: NDArray[Any]) -> None:
    """Write the intensities of a plane."""
    padding = _padding(plane, stored)
    numbers = stored
    if plane.text("PhotometricInterpretation") == "MONOCHROME1" and plane.text("Modality") not in QUANTITATIVE:
        numbers = sum(_stored_range(plane.dataset)) - stored.astype(np.int64)
    if out.dtype.kind == "f":
        out[...] = numbers.astype(np.float64) * plane.slope + plane.intercept
    elif plane.slope == 1:  # whatever wraps round on the way comes back: all sums fit
        out[...] = numbers
        out += out.dtype.type(int(plane.intercept))
    else:
        out[...] = numbers.astype(np.int64) * int(plane.slope) + int(plane.intercept)
    if padding is not None and padding.any() and not padding.all():
        out[padding] = out[~padding].min()


def _padding(plane: Plane, stored: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return where a plane holds padding around the image; None if the header names no padding value."""
    value, limit = plane.text("PixelPaddingValue"), plane.text("PixelPaddingRangeLimit")
    if not value:
        return None
    ends = sorted([int(value), int(limit or value)])
    outside: NDArray[np.bool_] = (stored >= ends[0]) & (stored <= ends[1])
    return outside
