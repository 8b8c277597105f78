"""Forest plots: one row per estimate, its interval as a bar, its numbers beside it. Knows no subject."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from delineate.reports.axes import Axis
from delineate.reports.svg import Node, element, hover, label, picture, shortened

WIDTH = 960.0
LEFT = 236.0
ROW = 25.0
HEADING = 31.0
TOP = 30.0
BELOW = 46.0
NAME_LENGTH = 28
"""Letters of a name that fit to the left of the plot."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """One row: an estimate with its interval, in the axis' unit; NaN is not drawn."""

    name: str
    value: float
    low: float
    high: float
    texts: tuple[str, ...]
    """One per column."""
    hollow: bool = False
    """Too few cases to conclude anything from."""
    second: float | None = None
    """Another value of the same row, drawn as a diamond and joined with a line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Rows with a heading above them, and a value to compare them with."""

    heading: str
    marks: tuple[Mark, ...]
    guide: float | None = None
    """Drawn as a dashed line through the rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextColumn:
    """A column of numbers beside the plot."""

    title: str
    width: float


def forest(blocks: Sequence[Block], axis: Axis, columns: Sequence[TextColumn], *, caption: str) -> Markup:
    """Draw blocks of estimates under one axis.

    Parameters
    ----------
    blocks
        From top to bottom; an empty heading takes no room.
    axis
        Range and name of the quantity.
    columns
        To the right of the plot, from left to right.
    caption
        What the picture shows, for those who cannot see it.
    """
    right = WIDTH - sum(column.width for column in columns) - (16 if columns else 0)
    body = sum((HEADING if block.heading else 0) + ROW * len(block.marks) for block in blocks)
    plot = _Plot(axis=axis, right=right, columns=tuple(columns))
    parts = [plot.scale(body), plot.heads()]
    top = TOP
    for block in blocks:
        parts.append(plot.block(block, top))
        top += (HEADING if block.heading else 0) + ROW * len(block.marks)
    return picture(WIDTH, TOP + body + BELOW, *parts, label=caption)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plot:
    axis: Axis
    right: float
    columns: tuple[TextColumn, ...]

    def at(self, value: float) -> float:
        return LEFT + self.axis.fraction(value) * (self.right - LEFT)

    def scale(self, height: float) -> Node:
        group = element("g")
        for value, text in self.axis.ticks(max(4, int((self.right - LEFT) / 40))):
            x = self.at(value)
            zero = " zero" if value == 0 and self.axis.low < 0 else ""
            group.append(element("line", x1=x, x2=x, y1=TOP, y2=TOP + height, class_=f"grid{zero}"))
            group.append(label(text, x, TOP + height + 16, anchor="middle", class_="tick"))
        group.append(label(self.axis.text, self.right, TOP + height + 36, anchor="end", class_="axis"))
        return group

    def heads(self) -> Node:
        return element("g", *self._texts([c.title for c in self.columns], TOP - 10, "axis"))

    def block(self, block: Block, top: float) -> Node:
        group = element("g")
        if block.heading:
            name = label(shortened(block.heading, NAME_LENGTH), 0, top + 21, class_="name")
            name.append(hover(block.heading))
            group.append(name)
            top += HEADING
        if block.guide is not None and not math.isnan(block.guide):
            x, bottom = self.at(block.guide), top + ROW * len(block.marks)
            group.append(element("line", x1=x, x2=x, y1=top, y2=bottom, class_="agreement"))
        group.extend(self._row(mark, top + ROW * (i + 0.5)) for i, mark in enumerate(block.marks))
        return group

    def _row(self, mark: Mark, middle: float) -> Node:
        name = label(shortened(mark.name, NAME_LENGTH), 12, middle + 4, class_="value")
        name.append(hover(mark.name))
        faint = " insufficient" if mark.hollow else ""
        group = element("g", name, class_=f"estimate{faint}")
        if not math.isnan(mark.low):
            low, high = self.at(mark.low), self.at(mark.high)
            group.append(element("line", x1=low, x2=high, y1=middle, y2=middle, class_="whisker"))
        if mark.second is not None and not math.isnan(mark.second) and not math.isnan(mark.value):
            group.extend(self._joined(mark.value, mark.second, middle))
        if not math.isnan(mark.value):
            group.append(element("circle", cx=self.at(mark.value), cy=middle, r=4.5, class_="point"))
        group.extend(self._texts(mark.texts, middle + 4, "value"))
        return group

    def _joined(self, first: float, second: float, middle: float) -> tuple[Node, Node]:
        x = self.at(second)
        return (
            element("line", x1=self.at(first), x2=x, y1=middle, y2=middle, class_="joined"),
            element("path", d=f"M{x - 5:.2f} {middle:.2f}l5 -5 5 5 -5 5z", class_="other-point"),
        )

    def _texts(self, texts: Sequence[str], y: float, style: str) -> list[Node]:
        ends = [WIDTH - sum(c.width for c in self.columns[i + 1 :]) for i in range(len(self.columns))]
        return [label(text, x, y, anchor="end", class_=style) for text, x in zip(texts, ends, strict=True)]
