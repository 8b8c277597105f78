"""A small U-Net for instances on processors: it works on half the resolution and answers on the whole.

Two by two pixels become channels on the way in and come out of channels again, so the costly layers see a quarter of
the pixels. Normalisation is by batch statistics, fixed in prediction: what the network says of a pixel depends on the
pixels around it and not on the rest of the tile.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from delineate.errors import PlanError
from delineate.networks.answered_part import CONVOLUTIONS, FOLD, Part, cut, levels_of, within
from delineate.networks.initialization import initialize

MAPS = 3
"""Foreground, interior, distance: what instances are decoded from."""


class InstanceUNet(nn.Module):
    """Images in, maps of instances (and of their types) out.

    Parameters
    ----------
    in_channels
        Of the image; 3 for colour.
    types
        Kinds of instances, 0 if they have no types; each gets a map, and the background one.
    widths
        Channels per stage, full (that is half) resolution first; sizes must be multiples of :attr:`stride`.
    seed
        Of the first weights.
    """

    def __init__(
        self, *, in_channels: int = 3, types: int = 0, widths: Sequence[int] = (24, 48, 96, 160), seed: int = 0
    ) -> None:
        super().__init__()
        self.in_channels, self.types, self.widths = in_channels, types, tuple(widths)
        self.maps = MAPS + (types + 1 if types else 0)
        self.fixed_statistics = False
        """Whether training, too, normalises by the statistics that the network has; small batches have noisy ones."""
        self.encoder = nn.ModuleList()
        channels = in_channels * FOLD**2
        for width in widths:
            self.encoder.append(_stage(channels, width))
            channels = width
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for width in reversed(widths[:-1]):
            self.up.append(nn.ConvTranspose2d(channels, width, 2, stride=2))
            self.decoder.append(_stage(2 * width, width))
            channels = width
        self.head = nn.Conv2d(channels, self.maps * FOLD**2, 1)
        initialize(self, torch.Generator().manual_seed(seed))

    def train(self, mode: bool = True) -> InstanceUNet:
        """Switch to training, or to prediction; see :class:`torch.nn.Module`."""
        super().train(mode)
        if self.fixed_statistics:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    @property
    def stride(self) -> int:
        """Height and width of an image must be multiples of this many pixels."""
        return FOLD << (len(self.widths) - 1)

    @property
    def reach(self) -> int:
        """Pixels on every side of a pixel, at most, on which its maps depend; a multiple of the stride.

        Two convolutions of 3 x 3 per stage reach two pixels of the stage's size, on the way down and up again; pooling
        and unfolding add up to one stride.
        """
        sizes = [FOLD << stage for stage in range(len(self.widths))]
        within = sum(2 * size for size in sizes) + sum(2 * size for size in sizes[:-1])
        return -(-(within + self.stride) // self.stride) * self.stride

    def forward(self, image: torch.Tensor, part: Part | None = None) -> torch.Tensor:
        """Return logits (B, maps, y, x) of images (B, C, y, x), or of a part of them.

        Parameters
        ----------
        image
            Height and width must be multiples of the stride.
        part
            Rows and columns to answer for; all if not given. The answer is the same, but on the way up every stage
            sees only what the part depends on, which saves a third of the time where a block is answered for with its
            surroundings.

        Raises
        ------
        PlanError
            If height or width is no multiple of the stride.
        """
        if image.shape[-2] % self.stride or image.shape[-1] % self.stride:
            raise PlanError(f"Height and width must be multiples of {self.stride}; got {tuple(image.shape[-2:])}.")
        levels = levels_of(part, (image.shape[-2], image.shape[-1]), len(self.decoder)) if part else ()
        x, skips = nn.functional.pixel_unshuffle(image, FOLD), []
        for index, stage in enumerate(self.encoder):
            x = stage(x if index == 0 else nn.functional.max_pool2d(x, 2))
            skips.append(cut(x, levels[index].seen) if levels and index < len(levels) else x)
        x = skips.pop()
        if levels:
            x = cut(x, levels[-1].below)
        for index, (up, stage) in enumerate(zip(self.up, self.decoder, strict=True)):
            x = stage(torch.cat([up(x), skips.pop()], 1))  # what is not needed any more is let go of
            if levels:
                x = cut(x, levels[-1 - index].answered)
        logits = nn.functional.pixel_shuffle(self.head(x), FOLD)
        if part is None:
            return logits
        return cut(logits, within(part, levels[0].pixels) if levels else part)


def fused(network: InstanceUNet) -> InstanceUNet:
    """Return a twin for prediction whose normalisations are part of the convolutions before them."""
    twin = copy.deepcopy(network).eval()
    for stages in (twin.encoder, twin.decoder):
        for place, stage in enumerate(stages):
            layers = list(stage.children())
            for index, (layer, after) in enumerate(itertools.pairwise(layers)):
                if isinstance(layer, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
                    layers[index], layers[index + 1] = fuse_conv_bn_eval(layer, after), nn.Identity()
            stages[place] = nn.Sequential(*layers)
    return twin


def _stage(channels: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for incoming in (channels, *[width] * (CONVOLUTIONS - 1)):
        layers += [nn.Conv2d(incoming, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
