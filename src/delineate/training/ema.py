"""The exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

WARM_UP_OFFSET = 10
"""Early decay is (1 + t) / (10 + t), so that the random first weights are forgotten quickly (TensorFlow's EMA)."""


class WeightAverage:
    """A second network whose weights follow those of the first slowly; it is the one that is validated and kept."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards the weights after optimiser step number ``step`` (from 1)."""
        decay = min(self.decay, (1 + step) / (WARM_UP_OFFSET + step))
        mine, theirs = _floating(self.network), _floating(network)
        torch._foreach_lerp_(mine, theirs, 1.0 - decay)
        own, other = list(self.network.buffers()), list(network.buffers())
        if own:
            torch._foreach_copy_(own, other)


def _floating(network: nn.Module) -> list[Tensor]:
    return [parameter.detach() for parameter in network.parameters()]
