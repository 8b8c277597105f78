"""What a wrong map of instances costs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

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
    kind_weights: tuple[float, ...] = ()
    """What a pixel of the background and of each type counts; empty: all the same."""
    touching_weight: float = 4.0
    """What a pixel where instances touch counts more, in interior and distance: these few pixels keep them apart (the
    idea is that of O. Ronneberger et al., U-Net, 2015)."""

    def __call__(self, logits: Logits, targets: Tensor) -> Tensor:
        """Return the loss.

        Parameters
        ----------
        logits
            (B, maps, y, x).
        targets
            (B, 5, y, x): foreground, interior, distance, type, and whether instances touch there; a negative type is
            unknown and costs nothing.
        """
        answer = logits if isinstance(logits, Tensor) else logits[0]
        answer = answer.float()
        weights = 1 + self.touching_weight * targets[:, 4]
        weights = weights / weights.mean()
        loss = _binary(answer[:, 0], targets[:, 0], torch.ones_like(weights))
        loss = loss + _binary(answer[:, 1], targets[:, 1], weights)
        distance = torch.sigmoid(answer[:, 2]) - targets[:, 2]
        loss = loss + self.distance_weight * (distance.square() * weights).mean()
        if self.types:
            loss = loss + self.type_weight * _types(answer[:, 3:], targets[:, 3].long(), self.kind_weights)
        return loss


def _binary(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    entropy = functional.binary_cross_entropy_with_logits(logits, target, weights)
    probability = torch.sigmoid(logits)
    common = 2 * (probability * target).sum() + SMOOTHING
    return entropy + 1 - common / (probability.sum() + target.sum() + SMOOTHING)


def _types(logits: Tensor, types: Tensor, kind_weights: tuple[float, ...]) -> Tensor:
    """Return the mean over pixels whose type is told, by their weights; 0 if there is none."""
    weights = _on(kind_weights or (1.0,) * logits.shape[1], logits.device)
    counted = (types >= 0) * weights[types.clamp(min=0)]
    entropy = functional.cross_entropy(logits, types.clamp(min=0), reduction="none")
    return (entropy * counted).sum() / counted.sum().clamp(min=1.0)


@cache
def _on(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device)
