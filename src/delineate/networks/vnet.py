"""The V-Net: residual stages, strided convolutions down, transposed convolutions up.

As in the paper, the input of a stage is added to the output of its convolutions, a decoder stage works on the
concatenation of what comes up and of the skip (so it has twice the features of its level), and the activation is a
PReLU. Instance normalisation, which the paper does not have, is on unless it is switched off.

References
----------
Milletari et al. 2016, arXiv 1606.04797.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from delineate.networks.blocks import (
    LEAKY_SLOPE,
    NO_ACTIVATION,
    Convolution,
    Size,
    TransposedConvolution,
    convolution,
    downsampling,
    head,
    instance_norm,
    normalized,
    upsampling,
)
from delineate.networks.segmentation_network import Decoder, EncoderDecoder, SegmentationNetwork, stage_outputs
from delineate.planning.plan import Architecture


@dataclass(frozen=True, kw_only=True, slots=True)
class VNetOptions:
    """What an architecture leaves open."""

    activation: Literal["prelu", "leaky_relu"] = "prelu"
    """The paper's PReLU has one slope per channel; the leaky ReLU has the fixed slope 0.01 and is faster."""
    normalize: bool = True
    """Instance normalisation after every convolution; the paper has none."""


class Unit(nn.Module):
    """A convolution of any kind, then normalisation and activation as the options say."""

    def __init__(
        self, conv: Convolution | TransposedConvolution, options: VNetOptions, *, activate: bool = True
    ) -> None:
        super().__init__()
        self.conv = conv
        dims = len(conv.kernel_size)
        self.norm = instance_norm(conv.out_channels, dims) if options.normalize else None
        leaky = activate and options.activation == "leaky_relu"
        self.negative_slope = LEAKY_SLOPE if leaky else NO_ACTIVATION
        # a leaky ReLU behind a normalisation is part of the fused call
        self.act = _activation(conv.out_channels, options) if activate and not (leaky and self.norm) else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, C_out, *spatial') of ``x`` (B, C_in, *spatial)."""
        features: torch.Tensor = self.conv(x)
        if self.norm is not None:
            features = normalized(features, self.norm, self.negative_slope)
        activated: torch.Tensor = self.act(features)
        return activated


class VNetStage(nn.Module):
    """``depth`` convolutions, the stage's input added to their output, activation."""

    def __init__(self, in_channels: int, channels: int, kernel_size: Size, *, depth: int, options: VNetOptions) -> None:
        super().__init__()
        self.channels = channels
        inputs = [in_channels] + [channels] * (depth - 1)
        self.convs = nn.Sequential(
            *(
                Unit(convolution(c_in, channels, kernel_size), options, activate=index < depth - 1)
                for index, c_in in enumerate(inputs)
            )
        )
        self.act = _activation(channels, options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, channels, *spatial) of ``x`` (B, C_in, *spatial)."""
        features: torch.Tensor = self.act(self.convs(x) + _tiled(x, self.channels))
        return features


def _tiled(x: torch.Tensor, channels: int) -> torch.Tensor:
    """Repeat the channels of ``x`` until there are ``channels``; the first stage widens the image so."""
    present = x.shape[1]
    if present == channels:
        return x
    times = -(-channels // present)
    return torch.cat([x] * times, 1)[:, :channels]


def _activation(channels: int, options: VNetOptions) -> nn.Module:
    return nn.PReLU(channels) if options.activation == "prelu" else nn.LeakyReLU(LEAKY_SLOPE)


class VNetEncoder(nn.Module):
    """One residual stage per resolution; a strided convolution leads into every stage but the first."""

    def __init__(self, architecture: Architecture, in_channels: int, options: VNetOptions) -> None:
        super().__init__()
        stages = []
        features, kernels, depths = architecture.features, architecture.kernel_sizes, architecture.encoder_blocks
        for index, channels in enumerate(features):
            enters = in_channels if index == 0 else channels
            stage = VNetStage(enters, channels, kernels[index], depth=depths[index], options=options)
            steps: list[nn.Module] = [stage]
            if index > 0:
                down = downsampling(features[index - 1], channels, architecture.strides[index])
                steps.insert(0, Unit(down, options))
            stages.append(nn.Sequential(*steps))
        self.stages = nn.Sequential(*stages)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the features (B, C, *spatial) of every stage, full resolution first."""
        return stage_outputs(self.stages, x)


def vnet_decoder(architecture: Architecture, heads: int, options: VNetOptions) -> Decoder:
    """Return the decoder whose stages work on twice the features of their level."""
    transpconvs, stages, seg_layers = [], [], []
    features = architecture.features
    below = features[-1]
    for depth, level in zip(architecture.decoder_convs, reversed(range(len(features) - 1)), strict=True):
        wide, kernel = 2 * features[level], architecture.kernel_sizes[level]
        transpconvs.append(Unit(upsampling(below, features[level], architecture.strides[level + 1]), options))
        stages.append(VNetStage(wide, wide, kernel, depth=depth, options=options))
        seg_layers.append(head(wide, heads, architecture.dims))
        below = wide
    return Decoder(transpconvs=transpconvs, stages=stages, seg_layers=seg_layers)


def vnet(
    architecture: Architecture, in_channels: int, heads: int, options: VNetOptions | None = None
) -> SegmentationNetwork:
    """Return the V-Net of that architecture, its weights not yet filled."""
    options = options or VNetOptions()
    encoder = VNetEncoder(architecture, in_channels, options)
    return EncoderDecoder(encoder, vnet_decoder(architecture, heads, options))
