"""Everything that one evaluation found: numbers and words, no arrays of voxels, no files, no pictures."""

from __future__ import annotations

from dataclasses import dataclass

from delineate.metrics.cohort import CaseRows, CohortRow
from delineate.metrics.evaluation.model_comparison import ModelComparison
from delineate.metrics.evaluation.rater_study import RaterStudy
from delineate.metrics.evaluation.site_shift import SiteShift
from delineate.metrics.evaluation.subgroups import Subgrouping
from delineate.metrics.evaluation.thresholds import ThresholdVerdict
from delineate.metrics.evaluation.trust_study import TrustStudy
from delineate.metrics.evaluation.volume_agreement import VolumeAgreement


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedPrediction:
    """A case that has a reference and no usable prediction; it counts with the worst values, never is left out."""

    case_id: str
    reason: str
    """In words for the reader: the file, what was expected, what was found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Everything that one evaluation found.

    Parts that were not asked for are empty or None. The same value becomes ``results.json``, the tables and the report.
    """

    name: str
    """Of the data set or the folder."""
    cases: tuple[CaseRows, ...]
    """Every case with a reference, failed ones with the worst values included."""
    table: tuple[CohortRow, ...]
    """Per structure over all cases."""
    metrics: tuple[str, ...]
    """Names from :data:`~delineate.metrics.table.METRICS`, in the order of the tables."""
    failed: tuple[FailedPrediction, ...] = ()
    without_reference: tuple[str, ...] = ()
    """Case ids of predictions that no reference belongs to."""
    resampled: tuple[str, ...] = ()
    """Case ids whose prediction lay on another grid and was resampled on request (nearest voxel)."""
    volumes: tuple[VolumeAgreement, ...] = ()
    thresholds: tuple[ThresholdVerdict, ...] = ()
    subgroups: tuple[Subgrouping, ...] = ()
    shifts: tuple[SiteShift, ...] = ()
    comparison: ModelComparison | None = None
    raters: RaterStudy | None = None
    trust: TrustStudy | None = None
    notices: tuple[str, ...] = ()
    """What the reader must know: rare classes, spacing that was given by hand, cases outside the table."""
    planar: bool = False
    """Whether the images are planes, whose "volumes" are areas."""
    calibrated: bool = True
    """Whether the files (or the user) say how large a pixel is; else distances are pixels and areas square pixels."""
    seed: int = 0
    """Of every bootstrap and permutation."""
