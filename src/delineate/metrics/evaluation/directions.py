"""Which way a metric is better, and by how much one number is better than another."""

from __future__ import annotations

from typing import Literal

from delineate.errors import UsageError
from delineate.metrics.table import METRICS

Direction = Literal["higher", "lower", "signed"]
"""``signed``: an error with a sign, of which more is neither better nor worse: 0 is best."""

SIGNED = ("volume_error", "relative_volume_error")


def direction_of(metric: str) -> Direction:
    """Return which way a metric of :data:`~delineate.metrics.table.METRICS` is better.

    Raises
    ------
    UsageError
        If there is no such metric.
    """
    if metric not in METRICS:
        raise UsageError(f"Unknown metric {metric}; known are {', '.join(METRICS)}.")
    if metric in SIGNED:
        return "signed"
    return "higher" if METRICS[metric].best == 1 else "lower"


def goodness(value: float, metric: str) -> float:
    """Return a number that is larger for better values: the value, its negative, or minus its size."""
    direction = direction_of(metric)
    if direction == "signed":
        return -abs(value)
    return value if direction == "higher" else -value
