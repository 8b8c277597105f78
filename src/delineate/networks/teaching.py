"""A small 3-D U-Net to read and to learn from; the tutorial ``docs/tutorials/unet3d.md`` trains it.

Legend of tensor shapes: B batch, C channels, Z Y X voxels.

References
----------
Cicek et al. 2016, arXiv 1606.06650.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class DoubleConv(nn.Module):
    """Twice: 3x3x3 convolution, batch norm, ReLU. (B, in_ch, Z, Y, X) -> (B, out_ch, Z, Y, X)."""

    def __init__(self, in_ch: int, out_ch: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            # batch norm shifts every channel itself, so a bias before it would have no effect
            nn.Conv3d(in_ch, out_ch, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm3d(out_ch),
            nn.ReLU(inplace=True),
            nn.Conv3d(out_ch, out_ch, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm3d(out_ch),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of ``x``; the size stays."""
        features: torch.Tensor = self.layers(x)
        return features


class UNet3D(nn.Module):
    """Down by max pooling, up by transposed convolutions, and across by skip connections.

    Parameters
    ----------
    in_ch
        Image channels.
    out_ch
        Classes, background included.
    features
        Features per resolution, full resolution first; the last is the bottom of the U. Each resolution has half
        the voxels per axis of the one before, so Z, Y and X must be multiples of ``2 ** (len(features) - 1)``.
    """

    def __init__(self, in_ch: int = 1, out_ch: int = 3, features: Sequence[int] = (32, 64, 128, 256)) -> None:
        super().__init__()
        self.down = nn.ModuleList()
        for width in features:
            self.down.append(DoubleConv(in_ch, width))
            in_ch = width
        self.pool = nn.MaxPool3d(kernel_size=2)
        self.up = nn.ModuleList()
        self.merge = nn.ModuleList()
        for width in reversed(features[:-1]):
            self.up.append(nn.ConvTranspose3d(in_ch, width, kernel_size=2, stride=2))
            self.merge.append(DoubleConv(2 * width, width))  # what comes up and what comes across
            in_ch = width
        self.classify = nn.Conv3d(in_ch, out_ch, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one logit per class and voxel (B, out_ch, Z, Y, X) for the image ``x`` (B, in_ch, Z, Y, X)."""
        skips = []
        for down in self.down[:-1]:
            skips.append(down(x))
            x = self.pool(skips[-1])
        x = self.down[-1](x)
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([up(x), skips.pop()], dim=1))
        logits: torch.Tensor = self.classify(x)
        return logits
