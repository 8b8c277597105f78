"""How the numbers of metrics are written for people, and which of them say different things."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from delineate.metrics.cohort import CaseRows
from delineate.metrics.evaluation import directions
from delineate.metrics.evaluation.definitions import TEXTS
from delineate.metrics.statistics import Estimate, Interval
from delineate.metrics.table import METRICS
from delineate.reports.svg import number, quantity

SMALL_ML = 0.1
"""If no reference is larger, sizes read better in mm³."""


TELLING = (("dice",), ("hd95", "hd95_area_weighted", "hd95_pooled", "hd95_directed_mean"), ("nsd", "nsd_voxels"))
"""The first measured metric of each kind is drawn: others of its kind would show the same picture again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Units:
    """In which units an evaluation is told."""

    size: str
    per_ml: float
    """Units of size in one ml (of planes: in 1000 mm^2)."""
    calibrated: bool
    """Whether distances are mm; else they are pixels."""

    def scale(self, metric: str) -> Scale:
        """Return how the numbers of a metric are written."""
        unit = METRICS[metric].unit
        if metric == "relative_volume_error":
            return Scale(factor=100.0, unit="%", decimals=1, signed=True)
        if unit == "ml":
            return replace(self.sizes, signed=metric in directions.SIGNED)
        if unit == "mm":
            return Scale(unit="mm" if self.calibrated else "px", decimals=2)
        return Scale(unit="", decimals=3) if unit == "1" else Scale(unit=f"{unit} per case", decimals=2)

    @property
    def sizes(self) -> Scale:
        """How volumes in ml (areas of planes in mm^2 / 1000) are written."""
        return Scale(factor=self.per_ml, unit=self.size, decimals=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """How numbers of one kind are written."""

    unit: str
    """Empty for fractions."""
    factor: float = 1.0
    decimals: int | None = 3
    """None: about three significant digits."""
    signed: bool = False

    def text(self, value: float, *, signed: bool | None = None) -> str:
        """Return a value without its unit."""
        with_sign = self.signed if signed is None else signed
        if self.decimals is None:
            return quantity(value * self.factor, signed=with_sign)
        return number(value * self.factor, self.decimals, signed=with_sign)

    def interval(self, interval: Interval, *, signed: bool | None = None) -> str:
        """Return both ends; a dash if there is no interval."""
        if math.isnan(interval.low):
            return "–"
        return f"{self.text(interval.low, signed=signed)} to {self.text(interval.high, signed=signed)}"

    def estimate(self, estimate: Estimate, *, signed: bool | None = None) -> str:
        """Return the value with its interval in parentheses, if there is one."""
        value = self.text(estimate.value, signed=signed)
        if math.isnan(estimate.interval.low):
            return value
        return f"{value} ({self.interval(estimate.interval, signed=signed)})"

    def with_unit(self, text: str) -> str:
        """Return the text with the unit behind it."""
        return f"{text} {self.unit}" if self.unit else text


def units_of(cases: Sequence[CaseRows], *, planar: bool, calibrated: bool) -> Units:
    """Return the units in which these cases read best."""
    if not calibrated:
        return Units(size="px²" if planar else "voxels", per_ml=1000.0, calibrated=False)
    sizes = [row.reference_ml for case in cases for row in case.rows if row.reference_ml > 0]
    if planar or (sizes and max(sizes) < SMALL_ML):
        return Units(size="mm²" if planar else "mm³", per_ml=1000.0, calibrated=True)
    return Units(size="ml", per_ml=1.0, calibrated=True)


def label_of(metric: str) -> str:
    """Return the metric's name for readers."""
    return TEXTS[metric].label if metric in TEXTS else metric


def direction_of(metric: str) -> str:
    """Return in words what is better."""
    words = {"signed": "best is 0", "higher": "higher is better", "lower": "lower is better"}
    return words[directions.direction_of(metric)]


def worse(metric: str, values: Sequence[float]) -> int | None:
    """Return the index of the worst value, the first of equals; None if there is no number."""
    known = [i for i, value in enumerate(values) if not math.isnan(value)]
    return min(known, key=lambda i: directions.goodness(values[i], metric)) if known else None


def telling(metrics: Sequence[str], most: int = len(TELLING)) -> tuple[str, ...]:
    """Return at most so many metrics that say different things; the first ones if none of the usual is there."""
    chosen = [next((metric for metric in kind if metric in metrics), None) for kind in TELLING]
    known = [metric for metric in chosen if metric is not None]
    return tuple(known or metrics)[:most]
