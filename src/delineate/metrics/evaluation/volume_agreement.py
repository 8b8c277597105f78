"""Do volumes agree? Bias and limits of agreement (Bland, Altman)."""

from __future__ import annotations

from dataclasses import dataclass

from delineate.metrics.statistics import Estimate, Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeAgreement:
    """Predicted against reference volume of one structure; cases in which neither map has it are left out."""

    structure: str
    case_ids: tuple[str, ...]
    predicted_ml: tuple[float, ...]
    reference_ml: tuple[float, ...]
    bias_ml: Estimate
    """Mean of predicted minus reference."""
    limits_ml: tuple[float, float]
    """Bias minus and plus 1.96 standard deviations of the differences; NaN for fewer than two cases."""
    limits_intervals: tuple[Interval, Interval]
    """Of the lower and the upper limit, bootstrap by patient."""
    concordance: float
    """Lin's concordance correlation; NaN for fewer than two cases."""
    seed: int
