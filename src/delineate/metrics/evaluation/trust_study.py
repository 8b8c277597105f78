"""Does the model know when it is wrong? Scores that need no reference, judged on cases whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delineate.metrics.calibration import Reliability
from delineate.metrics.statistics import Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class ShiftDetection:
    """How well a score tells shifted from ordinary cases."""

    shift: str
    """In words: ``another site``, ``noise, 20 % of the range``, ``flipped left-right``."""
    score: str
    """Name of the score; larger means less trustworthy."""
    auroc: float
    interval: Interval
    n_ordinary: int
    n_shifted: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureDetection:
    """How well a score orders cases by how wrong the model is."""

    score: str
    population: str
    """``ordinary``, ``shifted`` or ``all``."""
    aurc: float
    """Area under the risk-coverage curve; risk is 1 - Dice."""
    aurc_ideal: float
    """Of the score that knows the truth."""
    aurc_random: float
    """Of a score that knows nothing: the mean risk."""
    failure_auroc: float
    """Of telling cases below ``failure_below``; NaN if all or none are."""
    failure_below: float
    """Dice."""
    coverage: NDArray[np.float64]
    """(n,) share of cases kept, the most trusted first."""
    risk: NDArray[np.float64]
    """(n,) mean risk of the kept cases."""
    spearman: float
    """Rank correlation of the score with the risk."""
    n_cases: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TrustStudy:
    """Detection of shifts and failures, and calibration before and after temperature scaling."""

    shifts: tuple[ShiftDetection, ...]
    failures: tuple[FailureDetection, ...]
    temperature: float | None
    reliability_before: Reliability | None
    reliability_after: Reliability | None
    seed: int
