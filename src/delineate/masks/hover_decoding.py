"""From HoVer-Net's maps to nuclei: as published, and corrected.

The offsets from a nucleus' centre jump where two nuclei touch; their gradient marks the seam. As published, gradients
are taken over 21 pixels whatever the size of the nuclei and stretched between the smallest and the largest of the tile,
so the same nucleus can come out differently in two tiles. Corrected, the width follows the typical nucleus and the
gradient is divided by that of an ideal nucleus, which no tile can change.

References
----------
S. Graham et al., HoVer-Net, Medical Image Analysis 58 (2019); constants of the published program, version of 2021.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from delineate.errors import GeometryError

PUBLISHED_DIAMETER = 24.0
"""Pixels of a nucleus of 6 micrometres at 40 times magnification, for which the published constants were chosen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HoverDecoding:
    """How HoVer-Net's maps are decoded; the defaults are the published ones."""

    sobel: int = 21
    """Width of the gradient in pixels, odd."""
    opening: int = 5
    """Diameter of the ellipse that opens markers."""
    least_pixels: int = 10
    foreground: float = 0.5
    seam: float = 0.4
    """Markers are the foreground where the seam is below this."""
    stretched: bool = True
    """Gradients are stretched over the tile; False: divided by an ideal nucleus' gradient."""

    @property
    def settings(self) -> dict[str, float]:
        """Thresholds and lengths by name."""
        return asdict(self)

    diameter: float = 20.0
    """Of the typical nucleus in pixels; used if gradients are not stretched."""


def corrected(diameter: float) -> HoverDecoding:
    """Return the decoding whose lengths follow the diameter, in pixels, of the typical nucleus."""
    return HoverDecoding(
        sobel=max(3, 2 * round(diameter / 8) + 1),
        opening=3,
        least_pixels=max(4, round(HoverDecoding().least_pixels * (diameter / PUBLISHED_DIAMETER) ** 2)),
        stretched=False,
        diameter=diameter,
    )


def decode_hover(
    foreground: NDArray[Any], horizontal: NDArray[Any], vertical: NDArray[Any], decoding: HoverDecoding | None = None
) -> NDArray[np.int32]:
    """Find the nuclei of a plane.

    Parameters
    ----------
    foreground
        (y, x) probability of being a nucleus.
    horizontal, vertical
        (y, x) offset from the nucleus' centre, -1 at its left (upper) rim to 1 at its right (lower) one.
    decoding
        Constants; None: the published ones.

    Returns
    -------
    (y, x) int32
        0 background, nuclei 1, 2, ...

    Raises
    ------
    GeometryError
        If the maps have different shapes.
    """
    if not foreground.shape == horizontal.shape == vertical.shape or foreground.ndim != 2:
        raise GeometryError(
            f"Three maps of one plane are expected; got {foreground.shape}, {horizontal.shape}, {vertical.shape}."
        )
    chosen = decoding or HoverDecoding()
    blobs = _without_specks(ndimage.label(foreground >= chosen.foreground)[0], chosen.least_pixels) > 0
    seam = np.maximum(_seam(horizontal, 1, chosen), _seam(vertical, 0, chosen))
    seam = np.clip(seam - (1.0 - blobs), 0, None)
    height = (1.0 - seam) * blobs
    energy = -ndimage.convolve(ndimage.convolve(height, _SMOOTH[None], mode="mirror"), _SMOOTH[:, None], mode="mirror")
    marker = ndimage.binary_fill_holes(blobs & (seam < chosen.seam))
    marker = ndimage.binary_opening(marker, _ellipse(chosen.opening))
    markers = _without_specks(ndimage.label(marker)[0], chosen.least_pixels)
    nuclei = watershed(energy, markers, mask=blobs)  # type: ignore[no-untyped-call]
    return np.asarray(nuclei, dtype=np.int32)


_SMOOTH = np.array([0.25, 0.5, 0.25])


def hover_targets(instances: NDArray[Any]) -> NDArray[np.float32]:
    """Return what HoVer-Net learns: (2, y, x), horizontal and vertical offset of every pixel of every instance.

    Offsets are from the rounded centre of mass; the negative and the positive ones are each divided by their largest.

    Parameters
    ----------
    instances
        (y, x) integer, 0 background.
    """
    offsets = np.zeros((2, *instances.shape), dtype=np.float32)
    for value, box in enumerate(ndimage.find_objects(instances), start=1):
        if box is None:
            continue
        mine = instances[box] == value
        y, x = np.nonzero(mine)
        for channel, places in ((0, x), (1, y)):
            distance = (places - np.floor(places.mean() + 0.5)).astype(np.float32)
            for sign in (-1, 1):
                side = distance * sign > 0
                if side.any():
                    distance[side] /= np.abs(distance[side]).max()
            offsets[channel][box][mine] = distance
    return offsets


def _seam(offset: NDArray[Any], axis: int, decoding: HoverDecoding) -> NDArray[np.float64]:
    """Return 0 inside nuclei to 1 on seams from the offset along an axis."""
    gradient = offset.astype(np.float64)
    if decoding.stretched:
        gradient = _stretched(gradient)
    for along in (0, 1):
        kernel = _sobel(decoding.sobel, derivative=along == axis)
        shape = [1, 1]
        shape[along] = len(kernel)
        gradient = ndimage.correlate(gradient, kernel.reshape(shape), mode="mirror")
    if decoding.stretched:
        return 1.0 - _stretched(gradient)
    ideal = 2.0 / decoding.diameter * _gain(decoding.sobel)
    return np.clip(0.5 - 0.5 * gradient / ideal, 0, 1)


def _stretched(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _sobel(size: int, *, derivative: bool) -> NDArray[np.float64]:
    """Return a one-dimensional part of the Sobel kernel: binomial, or its difference."""
    kernel = np.array([1.0])
    for _ in range(size - 1 - derivative):
        kernel = np.convolve(kernel, [1.0, 1.0])
    return np.convolve(kernel, [-1.0, 1.0]) if derivative else kernel


def _gain(size: int) -> float:
    """Return what the kernel gives for a plane that rises by 1 per pixel."""
    derivative, smooth = _sobel(size, derivative=True), _sobel(size, derivative=False)
    return float((derivative * np.arange(size)).sum() * smooth.sum())


def _without_specks(labels: NDArray[Any], least: int) -> NDArray[Any]:
    sizes = np.bincount(labels.ravel())
    kept = np.where(sizes >= least, np.arange(len(sizes)), 0)
    kept[0] = 0
    large: NDArray[Any] = kept[labels]
    return large


def _ellipse(diameter: int) -> NDArray[np.bool_]:
    """Return the structuring element that image libraries call an ellipse: rows of a disc, rounded."""
    radius = diameter // 2
    element = np.zeros((diameter, diameter), dtype=bool)
    for row in range(diameter):
        half = round(radius * np.sqrt(max(0.0, 1 - ((row - radius) / radius) ** 2))) if radius else 0
        element[row, radius - half : radius + half + 1] = True
    return element
