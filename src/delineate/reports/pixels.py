"""Pixels for the screen: from intensities to 8-bit grey or colour, and to PNG. Knows no geometry and no labels."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

PERCENTILES = (0.5, 99.5)
"""Of the values, shown as black and white where no window is given."""

MAX_VALUES = 1 << 20
"""Values from which percentiles are taken; larger arrays are thinned evenly."""


def window_of(values: NDArray[Any]) -> tuple[float, float]:
    """Return the intensities to show as black and white; NaN and Inf do not count, a constant image is black."""
    flat = np.ravel(values)[:: max(1, values.size // MAX_VALUES)]
    finite = flat[np.isfinite(flat)] if flat.dtype.kind == "f" else flat
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(finite, PERCENTILES))
    if high <= low:
        low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low, low + 1.0)


def to_bytes(values: NDArray[Any], window: tuple[float, float]) -> NDArray[np.uint8]:
    """Return intensities as 0 (black, at or below the window) to 255; NaN is black.

    Parameters
    ----------
    values
        Any shape and real dtype.
    window
        Intensities shown as black and white.
    """
    low, high = window
    scaled = (np.asarray(values, dtype=np.float32) - low) * (255.0 / (high - low))
    shown: NDArray[np.uint8] = np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255).round().astype(np.uint8)
    return shown


def png(pixels: NDArray[np.uint8], longest_side: int) -> bytes:
    """Return ``(y, x)`` grey or ``(y, x, 3)`` colour pixels as PNG, averaged down to the longest side."""
    picture = Pillow.fromarray(np.ascontiguousarray(pixels))
    shrink = longest_side / max(picture.size)
    if shrink < 1:
        size = (max(1, round(picture.width * shrink)), max(1, round(picture.height * shrink)))
        picture = picture.resize(size, Pillow.Resampling.BOX)
    stream = io.BytesIO()
    picture.save(stream, format="PNG")  # `optimize` takes four times as long for a three-hundredth fewer bytes
    return stream.getvalue()
