"""Random changes of patches, seeded, on the training device: policy (values), draws (decisions), tensor operations."""

from delineate.training.augment.pipeline import augment
from delineate.training.augment.policy import NONE, AugmentationPolicy, policy_for
from delineate.training.augment.spatial import blank_outside, outside_to_background

__all__ = ["NONE", "AugmentationPolicy", "augment", "blank_outside", "outside_to_background", "policy_for"]
