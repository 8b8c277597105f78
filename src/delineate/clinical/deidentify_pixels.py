"""What pixels tell of a person: text burnt into them, and faces that can be recognised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from delineate.errors import ImageReadError, UsageError

BURNT_IN = ("US", "IVUS", "SC", "OT", "XC", "ES", "GM", "OP", "ECG", "HD", "DOC", "SD", "EPS", "AU", "BI", "BMD", "PX")
"""Modalities whose images commonly carry a person's data as text: ultrasound, captures, cameras, scanned paper."""
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""Also the root of the multi-frame secondary captures (.1 to .4)."""
ENCAPSULATED = "1.2.840.10008.5.1.4.1.1.104."
TEXT_KINDS = ("LABEL", "OVERVIEW", "SCREEN SAVE", "SCREENSHOT", "SCREEN_SAVE", "DOSE_INFO", "DOSE REPORT", "PROTOCOL")
FACE_MODALITIES = ("CT", "MR", "PT")
FACE_WORDS = ("head", "brain", "skull", "face", "neck", "cranium", "orbit", "sinus", "iac", "pituitary", "cspine")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rectangle:
    """Pixels that are blanked in every frame; from the upper left corner, which is (0, 0)."""

    x: int
    y: int
    width: int
    height: int


def parse_rectangle(text: str) -> Rectangle:
    """Read ``X,Y,WIDTH,HEIGHT`` in pixels.

    Raises
    ------
    UsageError
        If these are not four numbers of a rectangle.
    """
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        x = y = width = height = -1
    if min(x, y) < 0 or min(width, height) < 1:
        raise UsageError(f"A rectangle is X,Y,WIDTH,HEIGHT in pixels, such as 0,0,640,60; got {text!r}.")
    return Rectangle(x=x, y=y, width=width, height=height)


def burnt_in_risk(dataset: Dataset) -> str:
    """Return why an image may carry text in its pixels; empty if nothing speaks for it.

    That nothing speaks for it proves nothing: no pixel is looked at.

    Parameters
    ----------
    dataset
        An original object; pixels not needed.
    """
    if "Rows" not in dataset:
        return ""
    if str(dataset.get("BurnedInAnnotation", "")).upper() == "YES":
        return "it says that annotation is burnt in"
    modality = str(dataset.get("Modality", "")).upper()
    if modality in BURNT_IN:
        return f"images of modality {modality} commonly carry text in their pixels"
    sop_class = str(dataset.get("SOPClassUID", ""))
    if sop_class == SECONDARY_CAPTURE or sop_class.startswith(SECONDARY_CAPTURE + "."):
        return "it is a secondary capture"
    kinds = [str(kind).upper() for kind in _many(dataset.get("ImageType"))]
    return "its image type says that it shows a screen or the label of a slide" if set(kinds) & set(TEXT_KINDS) else ""


def shows_face(dataset: Dataset) -> bool:
    """Return whether an image may show a face that a surface rendering makes recognisable.

    Parameters
    ----------
    dataset
        An original object; pixels not needed.
    """
    if str(dataset.get("Modality", "")) not in FACE_MODALITIES or "Rows" not in dataset:
        return False
    told = ("BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName")
    words = " ".join(str(dataset.get(name, "")) for name in told).lower()
    return any(word in words for word in FACE_WORDS)


def blank(dataset: Dataset, rectangles: Sequence[Rectangle]) -> Dataset:
    """Return an image with rectangles set to zero in all frames; compressed pixels come back uncompressed.

    Parameters
    ----------
    dataset
        A whole image as it was read; (frame, row, column, sample) when decoded.
    rectangles
        What to blank.

    Raises
    ------
    ImageReadError
        If the pixels cannot be decoded, or a rectangle lies beyond them.
    """
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if any(one.x + one.width > columns or one.y + one.height > rows for one in rectangles):
        raise ImageReadError(
            f"A declared rectangle lies beyond an image of {columns} x {rows} pixels. Give rectangles that fit, or "
            "take images of another size apart."
        )
    try:
        if dataset.file_meta.TransferSyntaxUID.is_compressed:
            dataset.decompress(generate_instance_uid=False)
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        pixels = dataset.pixel_array.copy()
    except (AttributeError, NotImplementedError, RuntimeError, ValueError, KeyError) as error:
        raise ImageReadError(
            "Pixels cannot be decoded, so nothing in them can be blanked; leave the image out."
        ) from error
    samples, frames = int(dataset.get("SamplesPerPixel", 1)), int(dataset.get("NumberOfFrames", 1) or 1)
    stacked = pixels.reshape(frames, rows, columns, samples)
    for one in rectangles:
        stacked[:, one.y : one.y + one.height, one.x : one.x + one.width] = _black(dataset)
    if samples > 1 and int(dataset.get("PlanarConfiguration", 0)) == 1:
        stacked = np.moveaxis(stacked, -1, 1)
    content = np.ascontiguousarray(stacked).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset.BurnedInAnnotation = "NO"
    return dataset


def _black(dataset: Dataset) -> Any:
    """Return the stored value of nothing: the brightest of inverted images, no colour of luminance and chrominance."""
    kind = str(dataset.get("PhotometricInterpretation", ""))
    if kind == "MONOCHROME1":
        signed = int(dataset.get("PixelRepresentation", 0))
        return 2 ** (int(dataset.BitsStored) - signed) - 1
    return np.array([0, 128, 128], dtype=np.uint8) if kind.startswith("YBR") else 0


def _many(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)
