"""MedNeXt: a U-shaped network of ConvNeXt blocks, with the parameter names of the published code.

A block is a depthwise convolution, a normalisation of every channel, a 1x1 convolution to ``expansion`` times the
width, GELU, and a 1x1 convolution back, added to its input. Going down, the depthwise convolution has the stride; going
up, it is a transposed one; beside both runs a 1x1 convolution of the same stride. Skips are added, not concatenated.

The publication has five stages, cubic kernels of 3 or 5 and strides of 2; here depth, kernels and strides are the
plan's. With the published numbers the parameters are the published ones, name for name and shape for shape, but for
``dummy_tensor``, which is no weight (:func:`from_published`). The published group normalisation has one group per
channel, which makes it an instance normalisation.

References
----------
Roy et al. 2023, arXiv 2303.09975.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn import functional as F

from delineate.networks.blocks import NO_ACTIVATION, Convolution, Size, TransposedConvolution, instance_norm, normalized
from delineate.networks.segmentation_network import SegmentationNetwork
from delineate.planning.plan import Architecture

DUMMY = "dummy_tensor"
"""A parameter without a use in the published code, which its checkpoints hold."""

_CONVOLUTIONS: Mapping[int, Callable[..., Convolution]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: Mapping[int, Callable[..., TransposedConvolution]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class MedNeXtBlock(nn.Module):
    """The residual function of every block, and the block that keeps size and width.

    Parameters
    ----------
    depthwise
        Convolution of each channel with itself; of any stride.
    out_channels
        Channels after the compression.
    ratio
        Channels between the 1x1 convolutions relative to those before.
    """

    def __init__(self, depthwise: Convolution | TransposedConvolution, out_channels: int, *, ratio: int) -> None:
        super().__init__()
        channels, dims = depthwise.out_channels, len(depthwise.kernel_size)
        pointwise = _CONVOLUTIONS[dims]
        self.conv1 = depthwise
        self.norm = instance_norm(channels, dims)
        self.conv2 = pointwise(channels, ratio * channels, 1)
        self.conv3 = pointwise(ratio * channels, out_channels, 1)

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the block adds: (B, C_in, *spatial) -> (B, C_out, *spatial')."""
        features = normalized(self.conv1(x), self.norm, NO_ACTIVATION)
        compressed: torch.Tensor = self.conv3(F.gelu(self.conv2(features)))
        return compressed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of ``x`` (B, C, *spatial), same shape."""
        return x + self.residual(x)


class DownBlock(MedNeXtBlock):
    """A block that divides the size by ``stride``."""

    def __init__(self, in_channels: int, out_channels: int, kernel: Size, stride: Size, *, ratio: int) -> None:
        super().__init__(_depthwise(in_channels, kernel, stride), out_channels, ratio=ratio)
        self.res_conv = _CONVOLUTIONS[len(stride)](in_channels, out_channels, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, C_out, *spatial / stride) of ``x`` (B, C_in, *spatial)."""
        features: torch.Tensor = self.res_conv(x) + self.residual(x)
        return features


class UpBlock(MedNeXtBlock):
    """A block that multiplies the size by ``stride``.

    Both transposed convolutions end one step short of that; zeros are put in front.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: Size, stride: Size, *, ratio: int) -> None:
        super().__init__(_transposed_depthwise(in_channels, kernel, stride), out_channels, ratio=ratio)
        self.res_conv = _TRANSPOSED[len(stride)](in_channels, out_channels, 1, stride)
        self.front = [n for step in reversed(stride) for n in (step - 1, 0)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, C_out, *spatial * stride) of ``x`` (B, C_in, *spatial)."""
        return F.pad(self.res_conv(x) + self.residual(x), self.front)


class OutBlock(nn.Module):
    """Features to one logit per head; a transposed convolution of one voxel, as published."""

    def __init__(self, in_channels: int, heads: int, dims: int) -> None:
        super().__init__()
        self.conv_out = _TRANSPOSED[dims](in_channels, heads, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, heads, *spatial) of ``x`` (B, C, *spatial)."""
        logits: torch.Tensor = self.conv_out(x)
        return logits


class MedNeXt(SegmentationNetwork):
    """The network; every stage owns a layer of logits, the bottleneck too."""

    def __init__(self, architecture: Architecture, in_channels: int, heads: int) -> None:
        super().__init__()
        features, dims, deepest = architecture.features, architecture.dims, architecture.stages - 1
        kernels, strides, ratios = architecture.kernel_sizes, architecture.strides, architecture.expansion_ratios
        self.deepest = deepest
        self.stem = _CONVOLUTIONS[dims](in_channels, features[0], 1)
        for level in range(deepest):
            below = level + 1
            self.add_module(f"enc_block_{level}", _blocks(architecture, level, architecture.encoder_blocks[level]))
            down = DownBlock(features[level], features[below], kernels[below], strides[below], ratio=ratios[below])
            self.add_module(f"down_{level}", down)
        self.bottleneck = _blocks(architecture, deepest, architecture.encoder_blocks[deepest])
        for level, count in zip(reversed(range(deepest)), architecture.decoder_convs, strict=True):
            below = level + 1
            up = UpBlock(features[below], features[level], kernels[below], strides[below], ratio=ratios[level])
            self.add_module(f"up_{level}", up)
            self.add_module(f"dec_block_{level}", _blocks(architecture, level, count))
        for level in range(architecture.stages):
            self.add_module(f"out_{level}", OutBlock(features[level], heads, dims))

    def stage_logits(self, x: torch.Tensor, *, every_stage: bool) -> list[torch.Tensor]:
        """Return the logits (B, heads, *spatial) of every stage, bottleneck first, or a list of only the finest."""
        x, skips = self.stem(x), []
        for level in range(self.deepest):
            skips.append(self._run(f"enc_block_{level}", x))
            x = self._run(f"down_{level}", skips[-1])
        x = self.bottleneck(x)
        logits = [self._run(f"out_{self.deepest}", x)] if every_stage else []
        for level in reversed(range(self.deepest)):
            x = self._run(f"dec_block_{level}", skips[level] + self._run(f"up_{level}", x))
            if every_stage or level == 0:
                logits.append(self._run(f"out_{level}", x))
        return logits

    def _run(self, name: str, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.get_submodule(name)(x)
        return features


def mednext(architecture: Architecture, in_channels: int, heads: int) -> MedNeXt:
    """Return the MedNeXt of that architecture, its weights not yet filled."""
    return MedNeXt(architecture, in_channels, heads)


def from_published(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of a published checkpoint under our names: all but the tensor without a use.

    A checkpoint of a network without deep supervision lacks ``out_1`` and deeper; they stay missing.
    """
    return {name: tensor for name, tensor in state_dict.items() if name != DUMMY}


def to_published(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state dict that the published class loads strictly, with deep supervision; tensors are not copied."""
    return {**state_dict, DUMMY: torch.ones(1)}


def _blocks(architecture: Architecture, level: int, count: int) -> nn.Sequential:
    channels, kernel, ratio = (
        architecture.features[level],
        architecture.kernel_sizes[level],
        architecture.expansion_ratios[level],
    )
    still = (1,) * architecture.dims
    return nn.Sequential(
        *(MedNeXtBlock(_depthwise(channels, kernel, still), channels, ratio=ratio) for _ in range(count))
    )


def _depthwise(channels: int, kernel: Size, stride: Size) -> Convolution:
    padding = tuple(k // 2 for k in kernel)
    return _CONVOLUTIONS[len(kernel)](channels, channels, kernel, stride, padding, groups=channels)


def _transposed_depthwise(channels: int, kernel: Size, stride: Size) -> TransposedConvolution:
    padding = tuple(k // 2 for k in kernel)
    return _TRANSPOSED[len(kernel)](channels, channels, kernel, stride, padding, groups=channels)
