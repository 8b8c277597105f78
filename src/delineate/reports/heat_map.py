"""Heat maps: a small matrix of numbers with its rows and columns named. Knows no subject."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from delineate.reports.svg import Node, element, hover, label, picture, shortened

LEFT = 170.0
HEIGHT = 36.0
WIDTH = 84.0
LEAST_WIDTH = 54.0
TOP = 26.0
DARK = 0.6
"""Opacity beyond which text is written in the colour of the paper."""
ROOM = 790.0
"""For all cells together; more columns make narrower cells."""


def heat_map(
    values: NDArray[np.float64],
    texts: Sequence[Sequence[str]],
    names: tuple[Sequence[str], Sequence[str]],
    limits: tuple[float, float],
    *,
    caption: str,
) -> Markup:
    """Draw a matrix, darker for larger values.

    Parameters
    ----------
    values
        (row, column) numbers; NaN stays empty.
    texts
        What is written into each cell.
    names
        Of the rows and of the columns.
    limits
        Values that are drawn palest and darkest.
    caption
        What the picture shows, for those who cannot see it.
    """
    rows, columns = names
    width = min(WIDTH, max(LEAST_WIDTH, ROOM / max(1, len(columns))))
    letters = int(width / 7.5)
    parts: list[Node] = []
    for j, name in enumerate(columns):
        parts.append(_name(name, LEFT + (j + 0.5) * width, TOP - 9, "middle", letters, "tick"))
    for i, name in enumerate(rows):
        middle = TOP + (i + 0.5) * HEIGHT
        parts.append(_name(name, LEFT - 12, middle + 4, "end", 20, "value"))
        for j in range(len(columns)):
            share = _share(float(values[i, j]), limits)
            parts.append(_cell(LEFT + j * width, TOP + i * HEIGHT, width, share, texts[i][j]))
    return picture(LEFT + width * len(columns) + 4, TOP + HEIGHT * len(rows) + 6, *parts, label=caption)


def _name(name: str, x: float, y: float, anchor: str, letters: int, style: str) -> Node:
    node = label(shortened(name, letters), x, y, anchor=anchor, class_=style)
    node.append(hover(name))
    return node


def _share(value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    if math.isnan(value):
        return math.nan
    return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.5


def _cell(x: float, y: float, width: float, share: float, text: str) -> Node:
    opacity = 0.0 if math.isnan(share) else 0.06 + 0.84 * share
    style = "value on-dark" if opacity > DARK else "value"
    return element(
        "g",
        element("rect", x=x + 1, y=y + 1, width=width - 2, height=HEIGHT - 2, class_="heat", fill_opacity=opacity),
        label(text, x + width / 2, y + HEIGHT / 2 + 4, anchor="middle", class_=style),
    )
