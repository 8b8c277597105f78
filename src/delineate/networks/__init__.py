"""Torch modules: tensors in, tensors out. No cases, no files, no patients; foreign weights in one adapter each."""

from delineate.networks.build import (
    build_network,
    check_architecture,
    check_patch,
    check_weights,
    describe,
    load_weights,
    parameter_count,
)
from delineate.networks.initialization import initialize
from delineate.networks.nnunet_weights import from_nnunet, to_nnunet
from delineate.networks.segmentation_network import SegmentationNetwork
from delineate.networks.teaching import UNet3D

__all__ = [
    "SegmentationNetwork",
    "UNet3D",
    "build_network",
    "check_architecture",
    "check_patch",
    "check_weights",
    "describe",
    "from_nnunet",
    "initialize",
    "load_weights",
    "parameter_count",
    "to_nnunet",
]
