"""Distributions over cases: one row per structure, one dot per case, quartiles and the mean with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from delineate.metrics.statistics import Spread
from delineate.reports.axes import Axis
from delineate.reports.svg import Node, element, hover, label, number, picture, shortened

WIDTH = 960.0
ROW = 46.0
TOP = 26.0
LEFT = 196.0
RIGHT = 186.0
GOLDEN = 0.6180339887498949
"""Steps of the golden ratio spread the dots of a row evenly and always in the same way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One structure: its values by case, and their spread."""

    name: str
    case_ids: tuple[str, ...]
    values: tuple[float, ...]
    spread: Spread


def strip_chart(rows: Sequence[Row], axis: Axis, *, caption: str, decimals: int = 3) -> Markup:
    """Draw the rows under one axis.

    Parameters
    ----------
    rows
        From top to bottom.
    axis
        Range and name of the quantity.
    caption
        What the picture shows, for those who cannot see it.
    decimals
        Of the numbers in the texts.
    """
    height = TOP + ROW * len(rows) + 44
    parts = [_scale(axis, TOP, ROW * len(rows))]
    parts += [_row(row, axis, TOP + ROW * i, decimals) for i, row in enumerate(rows)]
    return picture(WIDTH, height, *parts, label=caption)


def _at(axis: Axis, value: float) -> float:
    return LEFT + axis.fraction(value) * (WIDTH - LEFT - RIGHT)


def _scale(axis: Axis, top: float, height: float) -> Node:
    group = element("g")
    for value, text in axis.ticks(8):
        x = _at(axis, value)
        group.append(element("line", x1=x, x2=x, y1=top, y2=top + height, class_="grid" if value else "grid zero"))
        group.append(label(text, x, top + height + 16, anchor="middle", class_="tick"))
    group.append(label(axis.text, WIDTH - RIGHT, top + height + 36, anchor="end", class_="axis"))
    group.append(label("mean (95 % interval)", WIDTH, top - 10, anchor="end", class_="axis"))
    return group


def _row(row: Row, axis: Axis, top: float, decimals: int) -> Node:
    middle = top + ROW / 2
    name = label(shortened(row.name, 21), LEFT - 14, middle + 4, anchor="end", class_="name")
    name.append(hover(row.name))
    group = element("g", name)
    group.append(label(_mean_text(row.spread, decimals), WIDTH, middle + 4, anchor="end", class_="value"))
    if row.spread.n_used:
        group.append(_box(row.spread, axis, middle))
        group.append(_dots(row, axis, middle, decimals))
        group.append(_mean(row.spread, axis, middle))
    else:
        group.append(label("in no case", LEFT + 8, middle + 4, class_="tick"))
    return group


def _mean_text(spread: Spread, decimals: int) -> str:
    if not spread.n_used:
        return "–"
    mean = number(spread.mean, decimals)
    if math.isnan(spread.interval.low):
        return mean
    return f"{mean} ({number(spread.interval.low, decimals)} to {number(spread.interval.high, decimals)})"


def _box(spread: Spread, axis: Axis, middle: float) -> Node:
    left, right = _at(axis, spread.first_quartile), _at(axis, spread.third_quartile)
    median = _at(axis, spread.median)
    return element(
        "g",
        element("rect", x=left, y=middle - 12, width=max(1.0, right - left), height=24, class_="box"),
        element("line", x1=median, x2=median, y1=middle - 12, y2=middle + 12, class_="median"),
    )


def _dots(row: Row, axis: Axis, middle: float, decimals: int) -> Node:
    group = element("g")
    radius = 3.2 if len(row.values) <= 150 else 2.2
    for i, (case_id, value) in enumerate(zip(row.case_ids, row.values, strict=True)):
        if not math.isnan(value):
            y = middle + ((i * GOLDEN) % 1.0 - 0.5) * 20
            text = hover(f"{case_id}: {number(value, decimals)}")
            group.append(element("circle", text, cx=_at(axis, value), cy=y, r=radius, class_="dot"))
    return group


def _mean(spread: Spread, axis: Axis, middle: float) -> Node:
    x, y = _at(axis, spread.mean), middle + 17
    group = element("g")
    if not math.isnan(spread.interval.low):
        low, high = _at(axis, spread.interval.low), _at(axis, spread.interval.high)
        group.append(element("line", x1=low, x2=high, y1=y, y2=y, class_="interval"))
    group.append(element("path", d=f"M{x - 4.5:.2f} {y:.2f}l4.5 -4.5 4.5 4.5 -4.5 4.5z", class_="mean"))
    return group
