"""What every network of the engine looks like from outside; most are an encoder and a decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn


class Decoder(nn.Module):
    """Up from the bottleneck: transposed convolution, concatenation with the skip, convolutions, logits.

    Stages are numbered in the order of work, coarsest first. Every stage owns a layer of logits, so that weights
    trained with and without deep supervision are interchangeable.

    Parameters
    ----------
    transpconvs
        One module per stage that brings the features from below to the stage's resolution.
    stages
        One module per stage that works on the concatenation of what came up and the skip.
    seg_layers
        One module per stage from features to logits.
    """

    def __init__(
        self, *, transpconvs: Sequence[nn.Module], stages: Sequence[nn.Module], seg_layers: Sequence[nn.Module]
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.transpconvs = nn.ModuleList(transpconvs)
        self.seg_layers = nn.ModuleList(seg_layers)

    def forward(self, skips: Sequence[torch.Tensor], *, every_stage: bool) -> list[torch.Tensor]:
        """Return the logits (B, heads, *spatial) of every stage, coarsest first, or a list of only the finest."""
        x, logits = skips[-1], []
        for index, (up, stage) in enumerate(zip(self.transpconvs, self.stages, strict=True)):
            x = stage(torch.cat((up(x), skips[-2 - index]), 1))
            if every_stage or index == len(self.stages) - 1:
                logits.append(self.seg_layers[index](x))
        return logits


class SegmentationNetwork(nn.Module, ABC):
    """Image patches in, one logit per head and voxel out.

    Attributes
    ----------
    deep_supervision
        Off (at first): the network returns logits (B, heads, *patch). On: it returns a list of logits, full
        resolution first, down to the coarsest stage that has logits. The weights are the same either way.
    """

    def __init__(self) -> None:
        super().__init__()
        self.deep_supervision = False

    @abstractmethod
    def stage_logits(self, x: torch.Tensor, *, every_stage: bool) -> list[torch.Tensor]:
        """Return the logits (B, heads, *spatial) of every stage, coarsest first, or a list of only the finest."""

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Return the logits of ``x`` (B, C, *patch); see ``deep_supervision``."""
        logits = self.stage_logits(x, every_stage=self.deep_supervision)
        return logits[::-1] if self.deep_supervision else logits[-1]


class EncoderDecoder(SegmentationNetwork):
    """A network of two parts; logits come from every stage but the bottleneck.

    Parameters
    ----------
    encoder
        (B, C, *patch) -> features of every stage, full resolution first.
    decoder
        Features of every stage -> logits of every decoder stage, coarsest first, or only of the finest.
    """

    def __init__(self, encoder: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def stage_logits(self, x: torch.Tensor, *, every_stage: bool) -> list[torch.Tensor]:
        """Return the logits (B, heads, *spatial) of every decoder stage, coarsest first, or of only the finest."""
        logits: list[torch.Tensor] = self.decoder(self.encoder(x), every_stage=every_stage)
        return logits


def stage_outputs(stages: nn.Sequential, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the output of every stage (B, C, *spatial) when ``x`` (B, C, *spatial) runs through all of them."""
    outputs = []
    for stage in stages:
        x = stage(x)
        outputs.append(x)
    return outputs
