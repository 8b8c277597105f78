"""A small U-Net for instances on processors: it works on half the resolution and answers on the whole.

Two by two pixels become channels on the way in and come out of channels again, so the costly layers see a quarter of
the pixels. Normalisation is by batch statistics, fixed in prediction: what the network says of a pixel depends on the
pixels around it and not on the rest of the tile.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from delineate.errors import PlanError
from delineate.networks.initialization import initialize

MAPS = 3
"""Foreground, interior, distance: what instances are decoded from."""
FOLD = 2
"""Pixels per side that become channels."""
CONVOLUTIONS = 2
"""Of 3 x 3 in a stage: each sees a pixel further."""

Part = tuple[slice, slice]
"""Rows and columns; both ends are given."""


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
        levels = _levels(part, (image.shape[-2], image.shape[-1]), len(self.decoder)) if part else ()
        x, skips = nn.functional.pixel_unshuffle(image, FOLD), []
        for index, stage in enumerate(self.encoder):
            x = stage(x if index == 0 else nn.functional.max_pool2d(x, 2))
            skips.append(_cut(x, levels[index].seen) if levels and index < len(levels) else x)
        x = skips.pop()
        if levels:
            x = _cut(x, levels[-1].below)
        for index, (up, stage) in enumerate(zip(self.up, self.decoder, strict=True)):
            x = stage(torch.cat([up(x), skips.pop()], 1))  # what is not needed any more is let go of
            if levels:
                x = _cut(x, levels[-1 - index].answered)
        logits = nn.functional.pixel_shuffle(self.head(x), FOLD)
        if part is None:
            return logits
        return _cut(logits, _within(part, levels[0].pixels) if levels else part)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Level:
    """What a stage on the way up has to see for a part of the image; all but ``pixels`` in the stage's own pixels."""

    seen: Part
    """Of the whole stage; even, so that it is made of whole pixels of the stage below."""
    answered: Part
    """Of what is seen: where zeros beyond its border do not count."""
    below: Part
    """Of the whole stage below: what becomes what is seen."""
    pixels: Part
    """Of the image: what is answered for."""


def _levels(part: Part, size: tuple[int, int], count: int) -> tuple[_Level, ...]:
    """Return what the stages on the way up have to see, finest first, of an image of a size, for a part of it."""
    levels, scale = [], FOLD
    answered = _outward(part, FOLD)
    for _ in range(count):
        height, width = size[0] // scale, size[1] // scale
        wide = (_grown(answered[0], CONVOLUTIONS, height), _grown(answered[1], CONVOLUTIONS, width))
        below = _outward(wide, 2)
        seen = _times(below, 2)
        levels.append(_Level(seen=seen, answered=_within(answered, seen), below=below, pixels=_times(answered, scale)))
        answered, scale = below, scale * 2
    return tuple(levels)


def _cut(tensor: torch.Tensor, part: Part) -> torch.Tensor:
    """Return a part of (B, C, y, x) that does not hold on to the whole; in the same layout."""
    if part[0] == slice(0, tensor.shape[2]) and part[1] == slice(0, tensor.shape[3]):
        return tensor
    last = tensor.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return tensor[:, :, part[0], part[1]].contiguous(memory_format=layout)


def _outward(part: Part, size: int) -> Part:
    """Return the squares of so many pixels that a part touches."""
    return slice(part[0].start // size, -(-part[0].stop // size)), slice(
        part[1].start // size, -(-part[1].stop // size)
    )


def _times(part: Part, size: int) -> Part:
    return slice(part[0].start * size, part[0].stop * size), slice(part[1].start * size, part[1].stop * size)


def _grown(along: slice, by: int, length: int) -> slice:
    return slice(max(0, along.start - by), min(length, along.stop + by))


def _within(part: Part, whole: Part) -> Part:
    """Return where a part lies in a larger one."""
    down, across = whole[0].start, whole[1].start
    return slice(part[0].start - down, part[0].stop - down), slice(part[1].start - across, part[1].stop - across)


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
