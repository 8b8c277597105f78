"""The plain U-Net of nnU-Net: stacks of convolutions down, transposed convolutions and stacks up.

References
----------
Ronneberger et al. 2015, arXiv 1505.04597; Isensee et al. 2021, doi 10.1038/s41592-020-01008-z.
"""

from __future__ import annotations

import torch
from torch import nn

from delineate.networks.blocks import ConvStack, head, upsampling
from delineate.networks.segmentation_network import Decoder, EncoderDecoder, SegmentationNetwork, stage_outputs
from delineate.planning.plan import Architecture


class PlainEncoder(nn.Module):
    """One stack of convolutions per stage; its first convolution carries the stage's stride."""

    def __init__(self, architecture: Architecture, in_channels: int) -> None:
        super().__init__()
        stages = []
        channels_in = (in_channels, *architecture.features)
        for index, channels in enumerate(architecture.features):
            kernel, stride = architecture.kernel_sizes[index], architecture.strides[index]
            depth = architecture.encoder_blocks[index]
            # the container of one is part of nnU-Net's parameter names
            stages.append(nn.Sequential(ConvStack(channels_in[index], channels, kernel, stride, depth=depth)))
        self.stages = nn.Sequential(*stages)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the features (B, C, *spatial) of every stage, full resolution first."""
        return stage_outputs(self.stages, x)


def unet_decoder(architecture: Architecture, heads: int) -> Decoder:
    """Return the decoder that both of nnU-Net's U-Nets have."""
    transpconvs, stages, seg_layers = [], [], []
    features = architecture.features
    for depth, level in zip(architecture.decoder_convs, reversed(range(len(features) - 1)), strict=True):
        channels = features[level]
        transpconvs.append(upsampling(features[level + 1], channels, architecture.strides[level + 1]))
        stages.append(ConvStack(2 * channels, channels, architecture.kernel_sizes[level], depth=depth))
        seg_layers.append(head(channels, heads, architecture.dims))
    return Decoder(transpconvs=transpconvs, stages=stages, seg_layers=seg_layers)


def plain_unet(architecture: Architecture, in_channels: int, heads: int) -> SegmentationNetwork:
    """Return the plain U-Net of that architecture, its weights not yet filled."""
    return EncoderDecoder(PlainEncoder(architecture, in_channels), unet_decoder(architecture, heads))
