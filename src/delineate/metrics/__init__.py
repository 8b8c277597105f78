"""Numbers about two label arrays, and statistics over cases. No files, no plots, no torch."""

from delineate.metrics.overlap import Overlap, confusion, dice, iou, overlap_of, precision, recall
from delineate.metrics.plausibility import Expectations, Implausibility, implausibilities
from delineate.metrics.postprocessing_choice import PostprocessingChoice, choose_postprocessing
from delineate.metrics.scores import CaseScores, StructureScores, evaluate_case
from delineate.metrics.statistics import Interval, Spread, bootstrap_mean, spread
from delineate.metrics.structure_statistics import StructureStatistics, structure_statistics
from delineate.metrics.summary import StructureSummary, Summary, summarise
from delineate.metrics.volume import (
    absolute_volume_error,
    relative_volume_error,
    signed_volume_error,
    volume_ml,
    volume_mm3,
)

__all__ = [
    "CaseScores",
    "Expectations",
    "Implausibility",
    "Interval",
    "Overlap",
    "PostprocessingChoice",
    "Spread",
    "StructureScores",
    "StructureStatistics",
    "StructureSummary",
    "Summary",
    "absolute_volume_error",
    "bootstrap_mean",
    "choose_postprocessing",
    "confusion",
    "dice",
    "evaluate_case",
    "implausibilities",
    "iou",
    "overlap_of",
    "precision",
    "recall",
    "relative_volume_error",
    "signed_volume_error",
    "spread",
    "structure_statistics",
    "summarise",
    "volume_ml",
    "volume_mm3",
]
