"""The blocks that every network is made of: convolution, instance normalisation, leaky ReLU.

Legend of tensor shapes in this room: B batch, C channels, spatial = (Z, Y, X) or (Y, X).
The number of spatial axes is the length of ``kernel_size``. Attribute names (``conv``, ``norm``, ``convs``) are
nnU-Net's, so that parameters carry nnU-Net's names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from delineate.networks.norm_activation import instance_norm_leaky_relu

NORM_EPS = 1e-5
"""nnU-Net's ``norm_op_kwargs`` (plans.json); also the default of torch."""

LEAKY_SLOPE = 0.01
"""Negative slope of nnU-Net's LeakyReLU, torch's default."""

NO_ACTIVATION = 1.0
"""A leaky ReLU of slope 1 changes nothing."""

Size = tuple[int, ...]
Convolution = nn.Conv2d | nn.Conv3d
TransposedConvolution = nn.ConvTranspose2d | nn.ConvTranspose3d
InstanceNorm = nn.InstanceNorm2d | nn.InstanceNorm3d
AveragePool = nn.AvgPool2d | nn.AvgPool3d

_CONVOLUTIONS: Mapping[int, Callable[..., Convolution]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: Mapping[int, Callable[..., TransposedConvolution]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORMS: Mapping[int, Callable[..., InstanceNorm]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_POOLS: Mapping[int, Callable[..., AveragePool]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


def ones(dims: int) -> Size:
    """Return the stride or kernel that does nothing, ``(1, ...)`` of ``dims`` numbers."""
    return (1,) * dims


def convolution(
    in_channels: int, out_channels: int, kernel_size: Size, stride: Size | None = None, *, bias: bool = True
) -> Convolution:
    """Return a convolution that keeps the size (odd kernels) or divides it by ``stride``; zero padding."""
    make = _CONVOLUTIONS[len(kernel_size)]
    padding = tuple((k - 1) // 2 for k in kernel_size)
    return make(in_channels, out_channels, kernel_size, stride or ones(len(kernel_size)), padding, bias=bias)


def downsampling(in_channels: int, out_channels: int, stride: Size) -> Convolution:
    """Return the convolution whose kernel is its stride: every output voxel sees its own block of input voxels."""
    return _CONVOLUTIONS[len(stride)](in_channels, out_channels, stride, stride)


def upsampling(in_channels: int, out_channels: int, stride: Size) -> TransposedConvolution:
    """Return the transposed convolution that multiplies the size by ``stride``; its kernel is its stride."""
    return _TRANSPOSED[len(stride)](in_channels, out_channels, stride, stride)


def average_pool(stride: Size) -> AveragePool:
    """Return the mean over blocks of ``stride`` voxels."""
    return _POOLS[len(stride)](stride, stride)


def instance_norm(channels: int, dims: int) -> InstanceNorm:
    """Return an affine instance normalisation; blocks read its parameters and call the fused function."""
    return _NORMS[dims](channels, eps=NORM_EPS, affine=True)


def head(in_channels: int, heads: int, dims: int) -> Convolution:
    """Return the 1x1 convolution from features to one logit per head."""
    return convolution(in_channels, heads, ones(dims))


def normalized(x: torch.Tensor, norm: InstanceNorm, negative_slope: float) -> torch.Tensor:
    """Apply ``norm`` to ``x`` (B, C, *spatial), then a leaky ReLU of that slope; same shape."""
    return instance_norm_leaky_relu(x, norm.weight, norm.bias, norm.eps, negative_slope)


class ConvBlock(nn.Module):
    """Convolution, instance normalisation, leaky ReLU: (B, C_in, *spatial) -> (B, C_out, *spatial / stride)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size | None = None,
        *,
        bias: bool = True,
        negative_slope: float = LEAKY_SLOPE,
    ) -> None:
        super().__init__()
        self.conv = convolution(in_channels, out_channels, kernel_size, stride, bias=bias)
        self.norm = instance_norm(out_channels, len(kernel_size))
        self.negative_slope = negative_slope

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the activated features of ``x``."""
        return normalized(self.conv(x), self.norm, self.negative_slope)


class ConvStack(nn.Module):
    """``depth`` convolution blocks in a row; the first one may change the channels and the resolution."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size | None = None, *, depth: int
    ) -> None:
        super().__init__()
        first = ConvBlock(in_channels, out_channels, kernel_size, stride)
        others = [ConvBlock(out_channels, out_channels, kernel_size) for _ in range(depth - 1)]
        self.convs = nn.Sequential(first, *others)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, C_out, *spatial / stride) of ``x`` (B, C_in, *spatial)."""
        features: torch.Tensor = self.convs(x)
        return features
