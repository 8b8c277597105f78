"""How large a network of instances a machine trains, and on how many crops of which size at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from delineate.planning.machine import Machine

SMALL = (24, 48, 96, 160)
"""Channels per stage that a processor trains within an hour."""
WIDE = (32, 96, 160, 256, 224)
"""Six times as many weights, and twice the time to predict; it needs more steps than a processor does in an hour."""
PATCH, GPU_PATCH = (192, 192), (256, 256)
BATCH, GPU_BATCH = 8, 96


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
    gpu = machine is not None and machine.is_gpu
    patch, batch = (GPU_PATCH, GPU_BATCH) if gpu else (PATCH, BATCH)
    widths = tuple(started or (WIDE if gpu else SMALL))
    why = "that of the model to start from" if started else "a GPU trains a wide one" if gpu else "a processor's"
    return InstanceNetwork(
        widths=widths,
        patch_size=patch,
        batch_size=batch,
        reason=(
            f"The network has {', '.join(map(str, widths))} channels ({why}); a step sees {batch} crops of "
            f"{patch[0]} x {patch[1]} pixels."
        ),
    )
