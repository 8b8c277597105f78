"""What a site costs that the training never saw.

The same cases are predicted by a model that knew their site and by one that did not.
"""

from __future__ import annotations

from dataclasses import dataclass

from delineate.metrics.statistics import Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteShift:
    """The drop of one metric of one structure from known to unseen sites."""

    structure: str
    metric: str
    known: Estimate
    """Cases predicted by models that were trained on other cases of the same site."""
    unseen: Estimate
    """Cases predicted by models that were not trained on their site."""
    drop_points: Estimate
    """100 times (known minus unseen), paired by case where both are there; in percentage points for fractions, in the
    metric's unit for others (not times 100). Positive: worse on unseen sites (signs of distances are turned)."""
    by_site: tuple[tuple[str, int, float, float], ...]
    """Site, cases, mean known, mean unseen."""
