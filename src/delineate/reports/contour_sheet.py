"""A sheet of planes with contours on them, as a PNG: a look at what an object marks. Knows no files.

Planes are drawn as they are stored, rows down and columns to the right, with square pixels and the patient's directions
at their borders, so that a flip is seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from delineate.reports.pixels import png, to_bytes

PANEL = 480
"""Pixels of a panel's longer side."""
COLUMNS = 3
GAP = 6
TEXT = 15
"""Pixels of a line of text."""
LINE = 2
"""Pixels of a contour's width."""
LONGEST_SIDE = 4096
WHITE, BLACK = (235, 235, 235), (0, 0, 0)

Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SheetPlane:
    """One plane, or a part of it."""

    intensities: NDArray[Any]
    """(row, column)."""
    spacing_mm: tuple[float, float]
    """Distance of rows, of columns."""
    corner: tuple[int, int]
    """Row and column of the first voxel that is shown, in the indices of the contours."""
    contours: Sequence[tuple[Colour, NDArray[np.float64]]]
    """Colour, and closed lines (n, 2) of (row, column) indices; the centre of voxel (0, 0) is (0, 0)."""
    caption: str
    letters: tuple[str, str, str, str]
    """Patient's directions at the top, bottom, left and right border."""


def contour_sheet(
    planes: Sequence[SheetPlane], legend: Sequence[tuple[str, Colour]], window: tuple[float, float], note: str
) -> bytes:
    """Draw planes with their contours.

    Parameters
    ----------
    planes
        At least one.
    legend
        Names and colours.
    window
        Intensities shown as black and white.
    note
        A line above the planes.

    Returns
    -------
    bytes
        A PNG.
    """
    panels = [_panel(plane, window) for plane in planes]
    width = min(COLUMNS, len(panels)) * (PANEL + GAP)
    rows = math.ceil(len(panels) / COLUMNS)
    names = _lines_of(legend, width)
    height = 2 * TEXT + rows * (PANEL + GAP) + (len(names) + 1) * TEXT
    sheet = Pillow.new("RGB", (width, height))
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, TEXT // 3), note, fill=WHITE, font=_font())
    for number, panel in enumerate(panels):
        row, column = divmod(number, COLUMNS)
        sheet.paste(panel, (column * (PANEL + GAP), 2 * TEXT + row * (PANEL + GAP)))
    for number, line in enumerate(names):
        for left, name, colour in line:
            pen.text((left, height - (len(names) - number) * TEXT - TEXT // 2), name, fill=colour, font=_font())
    return png(np.asarray(sheet), LONGEST_SIDE)


def _panel(plane: SheetPlane, window: tuple[float, float]) -> Pillow.Image:
    rows, columns = plane.intensities.shape
    high, wide = rows * plane.spacing_mm[0], columns * plane.spacing_mm[1]
    scale = PANEL / max(high, wide)
    size = (max(1, round(wide * scale)), max(1, round(high * scale)))
    grey = Pillow.fromarray(to_bytes(plane.intensities, window)).resize(size, Pillow.Resampling.NEAREST)
    panel = Pillow.new("RGB", (PANEL, PANEL))
    panel.paste(grey.convert("RGB"), (0, 0))
    pen = ImageDraw.Draw(panel)
    per_voxel = np.array([size[1] / rows, size[0] / columns])
    for colour, contour in plane.contours:
        places = (contour - np.array(plane.corner) + 0.5) * per_voxel
        closed = [(float(x), float(y)) for y, x in (*places, places[0])]
        pen.line(closed, fill=colour, width=LINE, joint="curve")
    top, bottom, left, right = plane.letters
    middle_x, middle_y = size[0] // 2, size[1] // 2
    for letter, place in (
        (top, (middle_x, 2)),
        (bottom, (middle_x, size[1] - TEXT - 2)),
        (left, (4, middle_y)),
        (right, (size[0] - TEXT, middle_y)),
    ):
        pen.text(place, letter, fill=WHITE, font=_font(), stroke_width=1, stroke_fill=BLACK)
    pen.text((4, 2), plane.caption, fill=WHITE, font=_font(), stroke_width=1, stroke_fill=BLACK)
    return panel


def _lines_of(legend: Sequence[tuple[str, Colour]], width: int) -> list[list[tuple[int, str, Colour]]]:
    """Return the legend as lines of (left border, name, colour) that fit into a width."""
    lines: list[list[tuple[int, str, Colour]]] = [[]]
    left = GAP
    for name, colour in legend:
        needed = round(_font().getlength(name)) + TEXT
        if left + needed > width and lines[-1]:
            lines.append([])
            left = GAP
        lines[-1].append((left, name, colour))
        left += needed
    return lines


def _font() -> Any:
    return ImageFont.load_default(TEXT - 2)
