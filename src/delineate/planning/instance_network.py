"""How large a network of instances a machine trains, and on how many crops of which size at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from delineate.planning.machine import Machine

SMALL: tuple[int, ...] = (24, 48, 96, 160)
"""Channels per stage that a processor trains within an hour."""
WIDE: tuple[int, ...] = (32, 96, 160, 256, 224)
"""Six times as many weights, and twice the time to predict; it needs more steps than a processor does in an hour."""
PATCH, GPU_PATCH = (192, 192), (256, 256)
BATCH, GPU_BATCH = 8, 96
BYTES_PER_CROP = 64 << 20
"""Memory of a GPU that a crop takes in bfloat16: two trainings with 96 each took 12 GB. Twice as much in float32."""
MEMORY_SHARE = 0.6
"""Of the free memory of a GPU; the pictures lie there too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceNetwork:
    """What is trained at once."""

    widths: tuple[int, ...]
    """Channels per stage, highest resolution first."""
    patch_size: tuple[int, int]
    batch_size: int
    reason: str


def choose_instance_network(machine: Machine | None, started: Sequence[int] | None = None) -> InstanceNetwork:
    """Choose the network and its crops.

    Parameters
    ----------
    machine
        Where it is trained; None: a processor.
    started
        Channels per stage of the model to start from; None: the training starts from random weights.
    """
    widths, patch, batch, why = SMALL, PATCH, BATCH, "a processor's"
    if machine is not None and machine.is_gpu:
        widths, patch, batch, why = WIDE, GPU_PATCH, _gpu_batch(machine), "a GPU trains a wide one"
    if started:
        widths, why = tuple(started), "that of the model to start from"
    return InstanceNetwork(
        widths=widths,
        patch_size=patch,
        batch_size=batch,
        reason=(
            f"The network has {', '.join(map(str, widths))} channels ({why}); a step sees {batch} crops of "
            f"{patch[0]} x {patch[1]} pixels."
        ),
    )


def _gpu_batch(machine: Machine) -> int:
    """Return as many crops as fit the memory, at least those of a processor."""
    per_crop = BYTES_PER_CROP if machine.bfloat16 else 2 * BYTES_PER_CROP
    return max(BATCH, min(GPU_BATCH, int(MEMORY_SHARE * machine.memory_bytes / per_crop) // BATCH * BATCH))
