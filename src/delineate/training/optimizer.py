"""Optimisers for a network, as the recipe asks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from delineate.planning.recipe import Recipe


def build_optimizer(network: nn.Module, recipe: Recipe) -> Optimizer:
    """Return the optimiser over all weights of ``network``.

    SGD is nnU-Net's: Nesterov momentum, weight decay on everything. AdamW leaves normalisation weights and biases
    (all parameters with one axis) without weight decay. The fused kernels of torch are used where the device has them.
    """
    if recipe.optimizer == "sgd":
        return _fused_if_possible(
            SGD,
            network.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
            weight_decay=recipe.weight_decay,
        )
    return _fused_if_possible(AdamW, _decayed_groups(network, recipe.weight_decay), lr=recipe.learning_rate)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Use ``rate`` for all parameters from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def _decayed_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    parameters = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _fused_if_possible(kind: type[Optimizer], parameters: Iterable[Any], **settings: Any) -> Optimizer:
    parameters = list(parameters)
    try:
        return kind(parameters, fused=True, **settings)  # type: ignore[call-arg]
    except (RuntimeError, TypeError):  # this device or torch version has no fused kernel
        return kind(parameters, **settings)
