"""The residual-encoder U-Net of nnU-Net: residual blocks down, the plain U-Net's decoder up.

References
----------
He et al. 2019, arXiv 1812.01187 (ResNet-D: pooling and 1x1 convolution on the shortcut);
Isensee et al. 2024, arXiv 2404.09556.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from delineate.networks.blocks import (
    LEAKY_SLOPE,
    NO_ACTIVATION,
    ConvBlock,
    ConvStack,
    Size,
    average_pool,
    ones,
)
from delineate.networks.segmentation_network import EncoderDecoder, SegmentationNetwork, stage_outputs
from delineate.networks.unet import unet_decoder
from delineate.planning.plan import Architecture


class ResidualBlock(nn.Module):
    """Two convolution blocks and a shortcut: (B, C_in, *spatial) -> (B, C_out, *spatial / stride)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size | None = None) -> None:
        super().__init__()
        self.conv1 = ConvBlock(in_channels, out_channels, kernel_size, stride)
        self.conv2 = ConvBlock(out_channels, out_channels, kernel_size, negative_slope=NO_ACTIVATION)
        self.skip = _shortcut(in_channels, out_channels, stride or ones(len(kernel_size)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the activated sum of the features of ``x`` and its shortcut."""
        features: torch.Tensor = self.conv2(self.conv1(x))
        shortcut: torch.Tensor = self.skip(x)
        return F.leaky_relu(features + shortcut, LEAKY_SLOPE, inplace=True)

    def zero_residual(self) -> None:
        """Let the block start as its shortcut: scale and shift of the last normalisation become 0."""
        nn.init.zeros_(self.conv2.norm.weight)
        nn.init.zeros_(self.conv2.norm.bias)


def _shortcut(in_channels: int, out_channels: int, stride: Size) -> nn.Sequential:
    steps: list[nn.Module] = []
    if any(s != 1 for s in stride):
        steps.append(average_pool(stride))
    if in_channels != out_channels:
        kernel = ones(len(stride))
        steps.append(ConvBlock(in_channels, out_channels, kernel, bias=False, negative_slope=NO_ACTIVATION))
    return nn.Sequential(*steps)


class ResidualStage(nn.Module):
    """``depth`` residual blocks; the first one may change the channels and the resolution."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size, *, depth: int) -> None:
        super().__init__()
        first = ResidualBlock(in_channels, out_channels, kernel_size, stride)
        others = [ResidualBlock(out_channels, out_channels, kernel_size) for _ in range(depth - 1)]
        self.blocks = nn.Sequential(first, *others)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, C_out, *spatial / stride) of ``x`` (B, C_in, *spatial)."""
        features: torch.Tensor = self.blocks(x)
        return features


class ResidualEncoder(nn.Module):
    """A stem of one convolution block, then one residual stage per resolution."""

    def __init__(self, architecture: Architecture, in_channels: int) -> None:
        super().__init__()
        features, kernels = architecture.features, architecture.kernel_sizes
        self.stem = ConvStack(in_channels, features[0], kernels[0], depth=1)
        channels_in = (features[0], *features)
        per_stage = zip(channels_in, features, kernels, architecture.strides, architecture.encoder_blocks, strict=False)
        self.stages = nn.Sequential(
            *(ResidualStage(c_in, c_out, kernel, stride, depth=n) for c_in, c_out, kernel, stride, n in per_stage)
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the features (B, C, *spatial) of every stage, full resolution first."""
        return stage_outputs(self.stages, self.stem(x))


def residual_unet(architecture: Architecture, in_channels: int, heads: int) -> SegmentationNetwork:
    """Return the residual-encoder U-Net of that architecture, its weights not yet filled."""
    return EncoderDecoder(ResidualEncoder(architecture, in_channels), unet_decoder(architecture, heads))
