"""Does the model differ from people more than they differ among themselves?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delineate.metrics.agreement import NonInferiority
from delineate.metrics.statistics import Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class RaterSkill:
    """One rater over all cases that this rater drew."""

    name: str
    n_cases: int
    against_consensus: Estimate
    """Score against the consensus of the others."""
    sensitivity: float
    """STAPLE's, mean over cases."""
    specificity: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureRaters:
    """One structure: how people agree, and how the model compares with them."""

    structure: str
    metric: str
    """Name from :data:`~delineate.metrics.table.METRICS`."""
    pairwise: NDArray[np.float64]
    """(rater, rater) mean over cases of one against the other; NaN where two never drew the same case."""
    between_people: Estimate
    """Mean over cases of the mean over pairs."""
    raters: tuple[RaterSkill, ...]
    model_against_majority: Estimate
    model_against_staple: Estimate
    model_against_left_out: Estimate
    """Model against the consensus of all but one rater, mean over raters."""
    verdict: NonInferiority


@dataclass(frozen=True, kw_only=True, slots=True)
class RaterStudy:
    """Several masks per case."""

    rater_names: tuple[str, ...]
    structures: tuple[StructureRaters, ...]
    margin: float
    consensus: str
    """How the consensus for the verdict is made: ``majority`` or ``staple``."""
    left_out_cases: tuple[tuple[str, str], ...]
    """Case id and why (fewer than three raters, ...)."""
    seed: int
