"""Does it reach what is published or was declared beforehand?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from delineate.metrics.statistics import Interval

Verdict = Literal["pass", "fail", "undecided"]
"""``pass``: the mean and the whole interval are on the good side; ``undecided``: only the mean is; else ``fail``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold:
    """A value that a metric of a structure must reach."""

    task: str
    """For the reader: ``liver, CT``."""
    structure: str
    metric: str
    value: float
    source: str
    """Where it is from; ``declared by the user`` for the user's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ThresholdVerdict:
    """A threshold and what was found."""

    threshold: Threshold
    mean: float
    interval: Interval
    n_used: int
    verdict: Verdict
