"""Is the model as good everywhere? One metric of one structure by the groups of a column."""

from __future__ import annotations

from dataclasses import dataclass

from delineate.metrics.comparison import PairedTest
from delineate.metrics.statistics import Estimate, Interval

LEAST_CASES = 20
"""Cases below which a group is "insufficient": its mean is shown and nothing is concluded (clinical brief E4)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """One group of cases, compared with all the others."""

    name: str
    """Value of the column; ``not recorded`` gathers cases without one."""
    n_cases: int
    n_patients: int
    mean: Estimate
    gap: float
    """Mean of the group minus mean of the rest; NaN without a rest."""
    gap_interval: Interval
    """Bootstrap by patient, groups drawn independently."""
    test: PairedTest | None
    """Permutation of the group's membership among patients; None if there is no rest."""
    p_adjusted: float
    """Holm, over the groups of all columns of this structure and metric; NaN without a test."""
    sufficient: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Subgrouping:
    """One metric of one structure by one column."""

    column: str
    structure: str
    metric: str
    groups: tuple[Group, ...]
    """Largest first; ``not recorded`` last."""
    worst: str | None
    """Name of the sufficient group with the worst mean; None if fewer than two groups are sufficient."""
    least_cases: int
    seed: int
