"""Recipes: nnU-Net's own schedule, and a fast one that fits a number of iterations."""

from __future__ import annotations

from dataclasses import replace

from delineate.planning.machine import Machine
from delineate.planning.plan import Configuration
from delineate.planning.recipe import Precision, Recipe

STANDARD_ITERATIONS = 250_000
"""1000 epochs of 250 iterations (nnU-Net)."""
EMA_HORIZON = 0.1
"""The average of the weights looks back over this share of the training."""
MAX_EMA_DECAY = 0.999
WARMUP_SHARE = 0.05
MAX_WARMUP = 500
LOG_LINES = 40
"""A budgeted training is divided into about this many epochs, each with a validation and a log line."""
EPOCH_ITERATIONS = (10, 250)
"""Fewest and most iterations between two validations."""
VALIDATION_SHARE = 0.06
"""Validation batches per training batch; a validation batch costs about a third of a training step."""
VALIDATION_BATCHES = (2, 50)
VALIDATION_COST = 0.35
"""Time of a validation batch (no gradients) relative to a training step."""


def standard_recipe(configuration: Configuration, machine: Machine) -> Recipe:
    """Return nnU-Net's schedule: 250 000 iterations of SGD with momentum, polynomial decay, full augmentation.

    float32 on a processor, bfloat16 on a GPU that has it. All patch axes are mirrored.

    References
    ----------
    nnU-Net 2.8.1, ``nnUNetTrainer``.
    """
    precision: Precision = "bfloat16" if machine.is_gpu and machine.bfloat16 else "float32"
    return Recipe(
        iterations=STANDARD_ITERATIONS,
        batch_size=configuration.batch_size,
        patch_size=configuration.patch_size,
        precision=precision,
        channels_last=precision == "bfloat16",
        mirror_axes=tuple(range(configuration.dims)),
    )


def fast_recipe(recipe: Recipe, iterations: int, seconds: float) -> Recipe:
    """Return a candidate's recipe fitted to the number of iterations that ``seconds`` of training allow."""
    per_epoch = min(max(iterations // LOG_LINES, EPOCH_ITERATIONS[0]), EPOCH_ITERATIONS[1])
    batches = min(max(round(VALIDATION_SHARE * per_epoch), VALIDATION_BATCHES[0]), VALIDATION_BATCHES[1])
    return replace(
        recipe,
        iterations=iterations,
        iterations_per_epoch=per_epoch,
        validation_batches=batches,
        warmup_iterations=min(round(WARMUP_SHARE * iterations), MAX_WARMUP),
        ema_decay=ema_decay(iterations),
        budget_seconds=seconds,
    )


def ema_decay(iterations: int) -> float:
    """Return the decay of the weights' moving average that looks back over a tenth of the iterations, at most 0.999."""
    return min(MAX_EMA_DECAY, max(0.0, 1 - 1 / max(1.0, EMA_HORIZON * iterations)))


def iterations_within(seconds: float, seconds_per_step: float) -> int:
    """Return how many training steps fit into ``seconds``, the validations between them included."""
    return int(seconds / (seconds_per_step * (1 + VALIDATION_SHARE * VALIDATION_COST)))


def seconds_for(iterations: int, seconds_per_step: float) -> float:
    """Return the seconds that so many steps take, the validations between them included."""
    return iterations * seconds_per_step * (1 + VALIDATION_SHARE * VALIDATION_COST)
