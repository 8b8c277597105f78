"""nnU-Net's measure of memory: the number of values that all convolutions of a network put out for one patch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from delineate.planning.plan import Architecture
from delineate.planning.rules.mednext import mednext_layers


def feature_map_voxels(
    architecture: Architecture, patch_size: Sequence[int], heads: int, *, deep_supervision: bool = False
) -> int:
    """Return the sum over convolution outputs of (voxels times channels), one patch, batch 1.

    MedNeXt, which nnU-Net does not have, is counted in the same way, the heads of lower resolutions always.
    Transposed convolutions and the final segmentation head (``heads`` channels) count; the heads of lower resolutions
    only with ``deep_supervision``, which nnU-Net's planner leaves off.

    References
    ----------
    nnU-Net 2.8.1, ``compute_conv_feature_map_size`` of PlainConvUNet and ResidualEncoderUNet
    (dynamic_network_architectures d35f85c).
    """
    voxels = voxels_per_stage(architecture, patch_size)
    if architecture.kind == "mednext":
        return sum(n * out for (n, _, out, _), _ in mednext_layers(architecture, voxels, 1, heads))
    residual = architecture.kind == "residual_unet"
    encoder = _residual_encoder(architecture, voxels) if residual else _plain_encoder(architecture, voxels)
    return encoder + _decoder(architecture, voxels, heads, deep_supervision)


def voxels_per_stage(architecture: Architecture, patch_size: Sequence[int]) -> tuple[int, ...]:
    """Return the number of voxels of the feature maps at every stage, for a patch of that many voxels per axis."""
    size = tuple(patch_size)
    counts = []
    for stride in architecture.strides:
        size = tuple(n // s for n, s in zip(size, stride, strict=True))
        counts.append(math.prod(size))
    return tuple(counts)


def _plain_encoder(architecture: Architecture, voxels: Sequence[int]) -> int:
    stages = zip(architecture.encoder_blocks, architecture.features, voxels, strict=True)
    return sum(convs * features * n for convs, features, n in stages)


def _residual_encoder(architecture: Architecture, voxels: Sequence[int]) -> int:
    # a block is two convolutions; the first block of a stage that changes size or width has one more in its skip
    total = architecture.features[0] * voxels[0]  # stem
    incoming = architecture.features[0]
    stages = zip(architecture.encoder_blocks, architecture.features, voxels, architecture.strides, strict=True)
    for blocks, features, n, stride in stages:
        projected = features != incoming or any(s != 1 for s in stride)
        total += (2 * blocks + projected) * features * n
        incoming = features
    return total


def _decoder(architecture: Architecture, voxels: Sequence[int], heads: int, deep_supervision: bool) -> int:
    stages = zip(architecture.decoder_convs, architecture.features[:-1], voxels[:-1], strict=True)
    total = sum((convs + 1) * features * n for convs, features, n in stages)  # + 1: the transposed convolution
    supervised = voxels[:-1] if deep_supervision else voxels[: min(1, architecture.stages - 1)]
    return total + heads * sum(supervised)
