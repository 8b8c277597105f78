"""One optimiser step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from delineate.planning.recipe import Recipe
from delineate.training.precision import Logits, forward

Criterion = Callable[[Logits, Tensor], Tensor]
"""Logits (or a list of them) and labels (B, *patch) to a scalar loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepOutcome:
    """What one step did."""

    loss: float
    gradient_norm: float
    """Before clipping."""
    applied: bool
    """False if loss or gradients were not finite; the weights are then as they were."""


def train_step(
    network: nn.Module, optimizer: Optimizer, criterion: Criterion, images: Tensor, labels: Tensor, recipe: Recipe
) -> StepOutcome:
    """Move the weights once.

    Parameters
    ----------
    network, optimizer
        Changed in place.
    criterion
        The loss.
    images
        (B, C, *patch) float32, on the device and in the layout of the network.
    labels
        (B, *patch) integer.
    recipe
        Precision and gradient clipping.
    """
    optimizer.zero_grad(set_to_none=True)
    loss = criterion(forward(network, images, recipe.precision), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.gradient_clip)
    # both numbers at once: a GPU is waited for once per step
    value, length = torch.stack([loss.detach().float(), norm.float()]).tolist()
    applied = math.isfinite(value) and math.isfinite(length)
    if applied:
        optimizer.step()
    return StepOutcome(loss=value, gradient_norm=length, applied=applied)
