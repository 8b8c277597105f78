"""Pictures of microscopes made alike: three colours from 0 to 1, stretched between two percentiles of the whole.

The percentiles are those of the whole picture, never of a tile, so that a nucleus looks the same in every tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.errors import InputError

LOW, HIGH = 0.5, 99.8
"""Percentiles that become 0 and 1."""
MOST_SAMPLES = 1 << 22
"""Pixels that the percentiles are taken from; larger pictures are thinned out evenly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """The intensities that become 0 and 1; the same for all colours, so that colours stay."""

    low: float
    high: float

    def applied(self, picture: NDArray[Any]) -> NDArray[np.float32]:
        """Return (y, x, 3) float32 from 0 to 1 of a picture (y, x) or (y, x, 1 or 3)."""
        values = picture.astype(np.float32)
        stretched = np.clip((values - self.low) / max(self.high - self.low, 1e-6), 0, 1)
        if stretched.ndim == 2:
            stretched = stretched[..., None]
        return np.repeat(stretched, 3, axis=2) if stretched.shape[2] == 1 else stretched


def stretch_of(picture: NDArray[Any]) -> Stretch:
    """Return the stretch of a whole picture.

    Parameters
    ----------
    picture
        (y, x) or (y, x, 1 or 3), any number type.

    Raises
    ------
    InputError
        If the picture has other axes, or holds values that are not finite.
    """
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] not in (1, 3)):
        raise InputError(f"A picture has one or three colours (y, x, colour); got shape {picture.shape}.")
    every = max(1, round((picture.shape[0] * picture.shape[1] / MOST_SAMPLES) ** 0.5))
    sample = picture[::every, ::every]
    if not np.isfinite(sample).all():
        raise InputError("The picture holds values that are not finite (NaN or infinite); export it again.")
    low, high = np.percentile(sample, (LOW, HIGH))
    return Stretch(low=float(low), high=float(high))
