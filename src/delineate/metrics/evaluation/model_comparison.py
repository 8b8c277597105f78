"""Is it better than another model? Paired over the same cases."""

from __future__ import annotations

from dataclasses import dataclass

from delineate.metrics.comparison import PairedTest
from delineate.metrics.ranking import RankStability
from delineate.metrics.statistics import Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedRow:
    """One metric of one structure for two models on the same cases."""

    structure: str
    metric: str
    first: Estimate
    second: Estimate
    difference: Estimate
    """First minus second."""
    permutation: PairedTest
    wilcoxon: PairedTest
    p_adjusted: float
    """Of the permutation test, Holm over all rows of the metric."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelComparison:
    """Two or more models on the same cases; rows compare the first with each other one."""

    names: tuple[str, ...]
    """Of the models, the evaluated one first."""
    rows: tuple[tuple[str, tuple[PairedRow, ...]], ...]
    """Per other model: its name and the rows."""
    ranks: tuple[tuple[str, RankStability], ...]
    """Metric and the ranking of the models by it (mean over structures of each case)."""
    sentences: tuple[str, ...]
    """What it means, one sentence per other model."""
    seed: int
