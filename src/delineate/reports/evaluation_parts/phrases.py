"""Small phrases that several parts use: counts, p values, lists of names, axes of fractions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from delineate.reports.axes import Axis, axis_for
from delineate.reports.metric_words import Scale
from delineate.reports.svg import number

SIGNIFICANT = 0.05
"""Adjusted p below which a difference is called one."""

MAX_NAMED = 5
"""Names in a sentence."""


def count(n: int, noun: str) -> str:
    """Return the number with its noun."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def named(names: Sequence[str], comma: str = ", ") -> str:
    """Return the first names and how many more there are."""
    more = len(names) - MAX_NAMED
    return comma.join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def p_text(p: float) -> str:
    """Return a p value for people."""
    return "< 0.001" if p < 0.001 else number(p, 3)


def is_significant(p: float) -> bool:
    """Return whether an adjusted p value is below the level; False for NaN."""
    return p < SIGNIFICANT


def share_text(share: float) -> str:
    """Return a share in percent; nothing for none."""
    if share == 0:
        return ""
    return "< 1 %" if share < 0.01 else f"{100 * share:.0f} %"


def limited(shown: int, total: int, which: str) -> str:
    """Return a note that not everything is drawn; empty if it is."""
    return "" if shown >= total else f"Drawn are {shown} of {total} structures, {which}; the table has all."


def axis_of(values: Iterable[float], scale: Scale, text: str, *, log: bool | None = False) -> Axis:
    """Return an axis in the scale's unit; fractions end at 1."""
    finite = [v for v in values if math.isfinite(v)]
    if not scale.unit and finite and 0 <= min(finite) and max(finite) <= 1:
        room = 0.04 * (max(finite) - min(finite)) or 0.02
        return Axis(low=max(0.0, min(finite) - room), high=min(1.0, max(finite) + room), text=text)
    name = f"{text}, {scale.unit}" if scale.unit else text
    return axis_for((v * scale.factor for v in finite), name, log=log)
