"""When not to trust a segmentation, judged without a reference. Numbers only; no networks, no files.

observation         what is measured of a case: behaviour of the networks, image, label map
uncertainty         what the probabilities say, slab by slab
structure_norms     size, pieces and place of structures
image_statistics    header, intensities, noise, sharpness
normal_reference    the distance from a cloud of ordinary points
quality_model       scores -> expected Dice
temperature         stated probabilities that come true
reference           what is ordinary for a model: made from cases that it was not trained on
assessment          a case against the reference: verdict and reasons
"""

from delineate.metrics.trust.assessment import (
    Assessment,
    TrustScore,
    Verdict,
    assess_case,
    expected_dice,
    outlier_of,
)
from delineate.metrics.trust.image_statistics import ImageStatistics, image_statistics
from delineate.metrics.trust.observation import Agreement, Behaviour, Observation
from delineate.metrics.trust.reference import HonestCase, Population, TrustReference, fit_reference, scores_of
from delineate.metrics.trust.structure_norms import StructureShape, measure_shapes
from delineate.metrics.trust.temperature import VoxelSample, choose_voxels
from delineate.metrics.trust.uncertainty import Uncertainty, UncertaintySums

__all__ = [
    "Agreement",
    "Assessment",
    "Behaviour",
    "HonestCase",
    "ImageStatistics",
    "Observation",
    "Population",
    "StructureShape",
    "TrustReference",
    "TrustScore",
    "Uncertainty",
    "UncertaintySums",
    "Verdict",
    "VoxelSample",
    "assess_case",
    "choose_voxels",
    "expected_dice",
    "fit_reference",
    "image_statistics",
    "measure_shapes",
    "outlier_of",
    "scores_of",
]
