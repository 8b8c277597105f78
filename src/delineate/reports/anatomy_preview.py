"""A picture of a labelled scan: the structures seen from the front, and three cuts through the scan.

Arrays are turned to RAS before they come here. The patient's right is on the left of the picture, the head on top, as
radiologists look at them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from delineate.reports.pixels import png, to_bytes, window_of

LONGEST_SIDE = 1600
"""Pixels of the picture."""
GREATEST_HEIGHT = 800
"""Pixels; whole bodies are tall."""
OPACITY = 0.55
"""Of the colours over the grey scan."""
DEEPEST_SHADE = 0.45
"""Brightness of what lies furthest from the eye."""
GAP = 8
"""Black pixels after a panel."""
BEHIND = (24, 24, 24)

Colour = tuple[int, int, int]


def anatomy_preview(
    labels: NDArray[np.uint8],
    intensities: NDArray[np.generic],
    spacing_mm: tuple[float, ...],
    colours: Mapping[int, Colour],
) -> bytes:
    """Draw the structures of a scan.

    Parameters
    ----------
    labels, intensities
        (z, y, x), axes running to the head, to the front, to the patient's right.
    spacing_mm
        (z, y, x).
    colours
        Label value -> red, green, blue.

    Returns
    -------
    bytes
        A PNG.
    """
    palette = np.zeros((256, 3), np.uint8)
    for value, colour in colours.items():
        palette[value] = colour
    z, y, x = spacing_mm
    cuts = [int(np.argmax((labels != 0).sum(axis=tuple(a for a in range(3) if a != axis)))) for axis in range(3)]
    cuts = cuts if labels.any() else [size // 2 for size in labels.shape]
    window = window_of(intensities)
    panels = [
        (_from_the_front(labels, palette), (z, x)),
        (_cut(labels[:, cuts[1]], intensities[:, cuts[1]], palette, window), (z, x)),
        (_cut(labels[:, :, cuts[2]], intensities[:, :, cuts[2]], palette, window), (z, y)),
        (_cut(labels[cuts[0]], intensities[cuts[0]], palette, window), (y, x)),
    ]
    return png(_side_by_side(panels), LONGEST_SIDE)


def _from_the_front(labels: NDArray[np.uint8], palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (z, x, 3): for every line of sight the first structure that is met, darker further away."""
    towards = labels[:, ::-1]
    met = (towards != 0).argmax(axis=1)
    seen = np.take_along_axis(towards, met[:, None], axis=1)[:, 0]
    shade = 1 - (1 - DEEPEST_SHADE) * met / max(1, labels.shape[1] - 1)
    picture = palette[seen] * shade[..., None]
    picture[seen == 0] = BEHIND
    return _as_seen(picture.astype(np.uint8))


def _cut(
    labels: NDArray[np.uint8],
    intensities: NDArray[np.generic],
    palette: NDArray[np.uint8],
    window: tuple[float, float],
) -> NDArray[np.uint8]:
    grey = np.repeat(to_bytes(intensities, window)[..., None], 3, axis=2).astype(np.float32)
    mixed = np.where((labels != 0)[..., None], (1 - OPACITY) * grey + OPACITY * palette[labels], grey)
    return _as_seen(mixed.astype(np.uint8))


def _as_seen(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn both axes: head or front on top, the patient's right or front on the left."""
    return picture[::-1, ::-1]


def _side_by_side(panels: Sequence[tuple[NDArray[np.uint8], tuple[float, float]]]) -> NDArray[np.uint8]:
    """Put panels with their (row, column) spacing in mm beside each other, all at one scale, pixels square."""
    sizes = [(p.shape[0] * row, p.shape[1] * column) for p, (row, column) in panels]
    pixel_mm = max(
        sum(width for _, width in sizes) / LONGEST_SIDE, max(height for height, _ in sizes) / GREATEST_HEIGHT
    )
    tallest = max(1, round(max(height for height, _ in sizes) / pixel_mm))
    parts = []
    for (picture, _), (height, width) in zip(panels, sizes, strict=True):
        scaled = _scaled(picture, max(1, round(height / pixel_mm)), max(1, round(width / pixel_mm)))
        above = (tallest - scaled.shape[0]) // 2
        parts.append(np.pad(scaled, ((above, tallest - scaled.shape[0] - above), (0, GAP), (0, 0))))
    whole: NDArray[np.uint8] = np.concatenate(parts, axis=1)
    return whole


def _scaled(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    rows, columns = picture.shape[:2]
    row = ((np.arange(height) + 0.5) * rows / height).astype(np.intp)
    column = ((np.arange(width) + 0.5) * columns / width).astype(np.intp)
    scaled: NDArray[np.uint8] = picture.take(row, axis=0).take(column, axis=1)
    return scaled
