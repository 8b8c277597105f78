"""Random changes of patches, seeded, on the training device: policy (values), draws (decisions), tensor operations."""

from delineate.training.augment.pipeline import augment, augment_together
from delineate.training.augment.policy import NONE, AugmentationPolicy, policy_for
from delineate.training.augment.previous_stage import disturb, one_hot
from delineate.training.augment.spatial import blank_outside, outside_to_background

__all__ = [
    "NONE",
    "AugmentationPolicy",
    "augment",
    "augment_together",
    "blank_outside",
    "disturb",
    "one_hot",
    "outside_to_background",
    "policy_for",
]
