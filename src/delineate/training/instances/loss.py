"""What a wrong map of instances costs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from delineate.training.precision import Logits

SMOOTHING = 1.0
"""Pixels added to numerator and denominator of the soft Dice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceLoss:
    """Cross-entropy and Dice of foreground and interior, squared error of the distance, cross-entropy of the types."""

    types: int = 0
    """Kinds of instances; 0: none are learnt."""
    distance_weight: float = 2.0
    type_weight: float = 0.5

    def __call__(self, logits: Logits, targets: Tensor) -> Tensor:
        """Return the loss.

        Parameters
        ----------
        logits
            (B, maps, y, x).
        targets
            (B, 4, y, x): foreground, interior, distance, type; a negative type is unknown and costs nothing.
        """
        answer = logits if isinstance(logits, Tensor) else logits[0]
        answer = answer.float()
        loss = answer.new_zeros(())
        for channel in (0, 1):
            loss = loss + _binary(answer[:, channel], targets[:, channel])
        distance = torch.sigmoid(answer[:, 2]) - targets[:, 2]
        loss = loss + self.distance_weight * distance.square().mean()
        if self.types:
            loss = loss + self.type_weight * _types(answer[:, 3:], targets[:, 3].long())
        return loss


def _binary(logits: Tensor, target: Tensor) -> Tensor:
    entropy = functional.binary_cross_entropy_with_logits(logits, target)
    probability = torch.sigmoid(logits)
    common = 2 * (probability * target).sum() + SMOOTHING
    return entropy + 1 - common / (probability.sum() + target.sum() + SMOOTHING)


def _types(logits: Tensor, types: Tensor) -> Tensor:
    known = types >= 0
    if not bool(known.any()):
        return logits.sum() * 0
    entropy = functional.cross_entropy(logits, types.clamp(min=0), reduction="none")
    return (entropy * known).sum() / known.sum()
