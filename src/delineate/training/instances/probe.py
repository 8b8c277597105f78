"""What a training step on instances costs on this machine: crops, network and loss, measured."""

from __future__ import annotations

import time

import torch

from delineate.networks.instance_unet import InstanceUNet
from delineate.training.allocator import shortage_explained
from delineate.training.instances.task import InstanceAssignment, instance_task
from delineate.training.optimizer import build_optimizer
from delineate.training.precision import fastest_convolutions, place_network, resolve_device
from delineate.training.session import Runtime
from delineate.training.step import train_step

MEASURED_STEPS = 4


def measure_instance_step(assignment: InstanceAssignment, device: str) -> float:
    """Return the seconds of one training step, the quickest of a few after the first.

    Raises
    ------
    ResourceError
        If the memory does not suffice.
    """
    place, recipe = resolve_device(device), assignment.recipe
    advice = f"A batch of {recipe.batch_size} crops is too much for {device}; free some memory."
    with shortage_explained(advice), fastest_convolutions(place):
        task = instance_task(assignment, Runtime(device=device))
        network = InstanceUNet(types=len(assignment.types), widths=assignment.widths, seed=recipe.seed)
        place_network(network, recipe, place)
        optimizer = build_optimizer(network.train(), recipe)
        times = []
        for step in range(MEASURED_STEPS + 1):
            began = time.perf_counter()
            batch = task.batch(step)
            train_step(network, optimizer, task.criterion, batch.images, batch.labels, recipe)
            if place.type == "cuda":
                torch.cuda.synchronize(place)
            times.append(time.perf_counter() - began)
    return min(times[1:])
