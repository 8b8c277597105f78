"""Pictures of microscopes made alike: three colours from 0 to 1.

Pictures of stained tissue in eight bits are taken as they are: the light of the lamp is their white, and how dark a
stain is means something. All others are stretched between two percentiles of the whole picture, never of a tile, so
that a nucleus looks the same in every tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.errors import InputError, UsageError

LOW, HIGH = 0.5, 99.8
"""Percentiles that become 0 and 1."""
LIT = 0.4
"""Share of 255 that the brightest colour of half the pixels reaches in transmitted light."""
COLOURED = 0.02
"""Mean difference of the colours of a pixel, as a share of the largest number, in a picture that has colours."""
MOST_SAMPLES = 1 << 22
"""Pixels that the percentiles are taken from; larger pictures are thinned out evenly."""

ReadWindow = Callable[[slice, slice], NDArray[Any]]
"""Rows and columns to a part of a picture (y, x, colour)."""


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
    every = sampling_step((picture.shape[0], picture.shape[1]))
    return stretch_of_sample(picture[::every, ::every])


def sampling_step(shape: tuple[int, int]) -> int:
    """Return every how many rows and columns of a picture are enough for its percentiles."""
    return max(1, round(math.sqrt(shape[0] * shape[1] / MOST_SAMPLES)))


def stretch_of_sample(sample: NDArray[Any]) -> Stretch:
    """Return the stretch of a picture from pixels that are spread evenly over it.

    Raises
    ------
    InputError
        If the sample holds values that are not finite.
    """
    require_finite(sample)
    if _is_transmitted_light(sample):
        return Stretch(low=0.0, high=255.0)
    low, high = np.percentile(sample, (LOW, HIGH))
    return Stretch(low=float(low), high=float(high))


def _is_transmitted_light(sample: NDArray[Any]) -> bool:
    """Say whether pixels (..., 3) are those of a stained section, in eight bits."""
    if sample.dtype != np.uint8 or sample.ndim != 3 or sample.shape[-1] != 3:
        return False
    brightest, darkest = sample.max(axis=-1), sample.min(axis=-1)
    coloured = (brightest - darkest).mean() > COLOURED * 255
    return bool(coloured and np.median(brightest) > LIT * 255)


def require_finite(values: NDArray[Any]) -> None:
    """Refuse pixels that are no numbers.

    Raises
    ------
    InputError
        If there are some.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError("The picture holds values that are not finite (NaN or infinite); export it again.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Zoom:
    """A picture on a finer or coarser grid that covers the same area; any window of it is that of the whole.

    Values are interpolated linearly; where the grid becomes coarser the picture is blurred first, so that nothing is
    skipped over.
    """

    shape: tuple[int, int]
    """Rows and columns of the picture."""
    zoomed: tuple[int, int]
    """Rows and columns of the new grid."""

    @staticmethod
    def by(shape: tuple[int, int], factor: float) -> Zoom:
        """Return the zoom by a factor: above 1 objects become larger.

        Raises
        ------
        UsageError
            If the factor is not from 1/32 to 32.
        """
        if not 1 / 32 <= factor <= 32:
            raise UsageError(
                f"A picture can be made up to 32 times larger or smaller; got a factor of {factor:g}. "
                "Look at the pixel size (--mpp) and the diameter of the objects (--diameter)."
            )
        rows, columns = (max(1, round(size * factor)) for size in shape)
        return Zoom(shape=shape, zoomed=(rows, columns))

    @property
    def scales(self) -> tuple[float, float]:
        """Pixels of the picture per pixel of the new grid, along y and x."""
        return self.shape[0] / self.zoomed[0], self.shape[1] / self.zoomed[1]

    def read(self, source: ReadWindow, rows: slice, columns: slice) -> NDArray[np.float32]:
        """Return a window (y, x, colour) of the new grid.

        Parameters
        ----------
        source
            Gives windows of the picture.
        rows, columns
            Of the new grid.
        """
        if self.shape == self.zoomed:
            return source(rows, columns)
        places = [self._places(part, axis) for axis, part in enumerate((rows, columns))]
        sigmas = [max(0.0, (scale - 1) / 2) for scale in self.scales]
        seen = []
        for axis, place in enumerate(places):
            margin = int(4 * sigmas[axis] + 0.5) + 1
            first, last = int(place[0]) - margin, int(place[-1]) + margin + 2
            seen.append(slice(max(0, first), min(self.shape[axis], last)))
        values = source(seen[0], seen[1]).astype(np.float32)
        if max(sigmas) > 0:
            values = ndimage.gaussian_filter(values, (*sigmas, 0.0), mode="nearest", truncate=4.0)
        for axis, place in enumerate(places):
            values = _between(values, place - seen[axis].start, axis)
        return values

    def picture(self, picture: NDArray[Any]) -> NDArray[np.float32]:
        """Return the whole picture (y, x, colour) on the new grid."""
        whole = slice(0, self.zoomed[0]), slice(0, self.zoomed[1])
        return self.read(lambda rows, columns: picture[rows, columns], *whole)

    def labels(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return labels (y, x) of the picture on the new grid: the nearest pixel's."""
        places = [self._places(slice(0, size), axis) for axis, size in enumerate(self.zoomed)]
        rows, columns = (np.rint(place).astype(np.int64) for place in places)
        nearest: NDArray[Any] = labels[np.ix_(rows, columns)]
        return nearest

    def nearest(self, axis: int) -> NDArray[np.int64]:
        """Return, for every row (axis 0) or column (1) of the picture, the nearest one of the new grid."""
        scale = self.zoomed[axis] / self.shape[axis]
        place = (np.arange(self.shape[axis]) + 0.5) * scale - 0.5
        index: NDArray[np.int64] = np.clip(np.rint(place), 0, self.zoomed[axis] - 1).astype(np.int64)
        return index

    def _places(self, part: slice, axis: int) -> NDArray[np.float64]:
        """Return where rows or columns of the new grid lie in the picture."""
        place = (np.arange(part.start, part.stop) + 0.5) * self.scales[axis] - 0.5
        return np.clip(place, 0, self.shape[axis] - 1)


def _between(values: NDArray[np.float32], place: NDArray[np.float64], axis: int) -> NDArray[np.float32]:
    """Return values at places along an axis, linearly between the two nearest."""
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    share = (place - np.floor(place)).astype(np.float32)
    share = share.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    mixed: NDArray[np.float32] = values.take(low, axis) * (1 - share) + values.take(high, axis) * share
    return mixed
