"""The recipe: how a network of a configuration is trained.

A recipe is a value that the planner decides (``standard`` is nnU-Net's own schedule, a budget gives a fast one) and the
training engine carries out; it holds every choice that changes the weights, and the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["float32", "bfloat16"]
Optimizer = Literal["sgd", "adamw"]
LearningRateSchedule = Literal["poly", "cosine", "one_cycle"]
Augmentation = Literal["none", "light", "nnunet"]
CaseOrder = Literal["with_replacement", "shuffled"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How to train; see the field texts for the meaning and nnU-Net's value."""

    iterations: int
    """Optimiser steps in all (nnU-Net: 250 000); with a time budget a forecast, and the time decides."""
    iterations_per_epoch: int = 250
    """Steps between two validations and log lines (nnU-Net: 250)."""
    validation_batches: int = 50
    """Random patches batches for the online pseudo-Dice (nnU-Net: 50)."""
    batch_size: int
    patch_size: tuple[int, ...]
    optimizer: Optimizer = "sgd"
    learning_rate: float = 1e-2
    momentum: float = 0.99
    weight_decay: float = 3e-5
    schedule: LearningRateSchedule = "poly"
    warmup_iterations: int = 0
    gradient_clip: float = 12.0
    """Largest norm of the gradient; nnU-Net: 12."""
    ema_decay: float | None = None
    """Decay of the exponential moving average of the weights; None: no average (nnU-Net)."""
    precision: Precision = "float32"
    channels_last: bool = False
    deep_supervision: bool = True
    foreground_fraction: float = 0.33
    """Share of the batch that is centred on foreground (nnU-Net: 0.33)."""
    case_order: CaseOrder = "with_replacement"
    """How cases are drawn: independently (nnU-Net), or every case once per shuffled round (steadier in short runs)."""
    augmentation: Augmentation = "nnunet"
    mirror_axes: tuple[int, ...] = ()
    """Patch axes that may be flipped in training and in prediction; spatial axes counted from 0."""
    budget_seconds: float | None = None
    """Wall-clock seconds that training may take, validation included; the schedule shrinks to fit. None: no limit."""
    seed: int = 0
    reasons: tuple[str, ...] = ()
    """Why each choice was made, one readable sentence each."""
