"""Axes: from values to places in a picture, with ticks at round numbers. Knows no subject."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from delineate.reports.svg import Node, element, label

LOG_RATIO = 50.0
"""Largest ratio of positive values that a linear axis still shows well."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A range of values, linear or logarithmic."""

    low: float
    high: float
    text: str = ""
    log: bool = False

    def fraction(self, value: float) -> float:
        """Return where a value lies, 0 at the low end and 1 at the high end; values outside go to the ends."""
        low, high, at = (
            (math.log10(v) if v > 0 else -math.inf for v in (self.low, self.high, value))
            if self.log
            else (
                self.low,
                self.high,
                value,
            )
        )
        return min(1.0, max(0.0, (at - low) / (high - low)))

    def ticks(self, count: int = 5) -> tuple[tuple[float, str], ...]:
        """Return about ``count`` round values within the axis, and how to write them."""
        return _log_ticks(self.low, self.high) if self.log else _linear_ticks(self.low, self.high, count)


def axis_for(values: Iterable[float], text: str = "", *, log: bool | None = None, from_zero: bool = False) -> Axis:
    """Return an axis with a little room around the finite values; ``log=None`` decides by their ratio."""
    finite = [float(v) for v in values if math.isfinite(v)]
    positive = [v for v in finite if v > 0]
    if log is None:
        log = bool(positive) and max(positive) / min(positive) > LOG_RATIO and min(finite) >= 0
    if log and positive:
        return Axis(low=min(positive) / 1.3, high=max(positive) * 1.3, text=text, log=True)
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if from_zero:
        low = min(low, 0.0)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return Axis(low=low if from_zero and low == 0 else low - room, high=high + room, text=text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """A rectangle of a picture with an axis along each side, in picture units."""

    x: Axis
    y: Axis
    left: float
    top: float
    width: float
    height: float

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return the picture point of a pair of values."""
        return self.left + self.x.fraction(x) * self.width, self.top + (1 - self.y.fraction(y)) * self.height

    def draw(self) -> Node:
        """Return grid lines, tick texts and axis names."""
        group = element("g")
        for value, text in self.x.ticks(max(3, int(self.width / 75))):
            group.extend(self._vertical(self.place(value, self.y.low)[0], text))
        square = self.x == self.y  # one quantity on both sides gets the same ticks
        for value, text in self.y.ticks(max(3, int(self.width / 75)) if square else max(2, int(self.height / 45))):
            group.extend(self._horizontal(self.place(self.x.low, value)[1], text))
        group.append(
            label(self.x.text, self.left + self.width, self.top + self.height + 34, anchor="end", class_="axis")
        )
        group.append(label(self.y.text, self.left, self.top - 10, class_="axis"))
        return group

    def _vertical(self, at: float, text: str) -> tuple[Node, Node]:
        bottom = self.top + self.height
        return (
            element("line", x1=at, x2=at, y1=self.top, y2=bottom, class_="grid"),
            label(text, at, bottom + 16, anchor="middle", class_="tick"),
        )

    def _horizontal(self, at: float, text: str) -> tuple[Node, Node]:
        return (
            element("line", x1=self.left, x2=self.left + self.width, y1=at, y2=at, class_="grid"),
            label(text, self.left - 7, at + 4, anchor="end", class_="tick"),
        )


def _linear_ticks(low: float, high: float, count: int) -> tuple[tuple[float, str], ...]:
    step = _round_step((high - low) / count)
    decimals = max(0, -math.floor(math.log10(step)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = [i * step for i in range(first, last + 1)]
    if max(abs(low), abs(high)) >= 1e5 or decimals > 5:
        return tuple((v, f"{v:.3g}".replace("-", "−")) for v in values)
    return tuple((v, f"{v + 0.0:.{decimals}f}".replace("-", "−")) for v in values)


def _round_step(rough: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9))


def _log_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if math.log10(high / low) < 2.2 else (1,)
    values = [f * 10.0**d for d in decades for f in factors]
    return tuple((v, f"{v:g}".replace("-", "−")) for v in values if low <= v <= high)
