"""What one training step costs on this machine: measured by doing a few with random data."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from delineate.networks import build_network
from delineate.planning.machine import StepCost
from delineate.planning.plan import Configuration
from delineate.planning.recipe import Recipe
from delineate.training.allocator import keep_memory, release_memory, shortage_explained
from delineate.training.augment import AugmentationPolicy, augment, policy_for
from delineate.training.batches import step_generator
from delineate.training.losses import SegmentationLoss
from delineate.training.optimizer import build_optimizer
from delineate.training.precision import fastest_convolutions, place_images, place_network, resolve_device
from delineate.training.step import train_step
from delineate.training.validation import set_deep_supervision

MEASURED_STEPS = 3
"""Steps after the warm-up; the quickest is the cost, so that what else the machine does decides nothing."""
SAMPLING_SECONDS = 0.002
"""Interval at which the memory of the process is looked at."""


def measure_step(
    configuration: Configuration,
    recipe: Recipe,
    *,
    in_channels: int,
    heads: int,
    device: str,
    max_seconds: float = 30.0,
) -> StepCost:
    """Measure the time and memory of one training step, augmentation included.

    The network is built and trained on noise for one warm-up step and up to three more; reading patches from the disk
    and validation are not part of it. Sets the allocator of the process as training does
    (:func:`delineate.training.allocator.keep_memory`).

    Parameters
    ----------
    configuration
        Gives the architecture.
    recipe
        Gives patch, batch, precision, optimiser and augmentation.
    in_channels, heads
        Input and output channels of the network.
    device
        ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    max_seconds
        No further step is begun after this time; if the warm-up alone takes longer, its time is the answer, which is
        then pessimistic.

    Returns
    -------
    StepCost
        Seconds per step and the largest number of bytes in use above those before the network was built; on a CPU
        resident memory, on a GPU what torch allocated.

    Raises
    ------
    ResourceError
        If the step does not fit into memory.
    """
    keep_memory()
    place = resolve_device(device)
    advice = f"Patch {'x'.join(map(str, recipe.patch_size))} in batches of {recipe.batch_size} is too much; use less."
    with shortage_explained(advice), fastest_convolutions(place), _peak_memory(place) as peak:
        trial = _Trial.prepare(configuration, recipe, in_channels, heads, place)
        seconds = _timed_steps(trial, place, max_seconds)
        del trial
    return StepCost(seconds=seconds, peak_bytes=peak.bytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Trial:
    """All that a step needs."""

    network: nn.Module
    optimizer: Optimizer
    criterion: SegmentationLoss
    recipe: Recipe
    policy: AugmentationPolicy
    images: Tensor
    labels: Tensor

    @staticmethod
    def prepare(
        configuration: Configuration, recipe: Recipe, in_channels: int, heads: int, device: torch.device
    ) -> _Trial:
        network = build_network(configuration.architecture, in_channels=in_channels, heads=heads, seed=recipe.seed)
        place_network(network, recipe, device)
        network.train()
        set_deep_supervision(network, enabled=recipe.deep_supervision)
        policy = policy_for(recipe.augmentation, recipe.patch_size, configuration.dims, recipe.mirror_axes)
        size, generator = policy.input_size(recipe.patch_size), step_generator(recipe.seed, 0)
        return _Trial(
            network=network,
            optimizer=build_optimizer(network, recipe),
            criterion=SegmentationLoss(regions=((1,),) if heads == 1 else None, batch_dice=configuration.batch_dice),
            recipe=recipe,
            policy=policy,
            images=torch.randn((recipe.batch_size, in_channels, *size), generator=generator).to(device),
            labels=torch.randint(0, heads, (recipe.batch_size, *size), generator=generator).short().to(device),
        )

    def run(self, index: int) -> None:
        generator = step_generator(self.recipe.seed, index)
        with torch.no_grad():
            images, labels = augment(self.images, self.labels, self.policy, generator, self.recipe.patch_size)
        placed = place_images(images, self.recipe, self.images.device)
        train_step(self.network, self.optimizer, self.criterion, placed, labels, self.recipe)


def _timed_steps(trial: _Trial, device: torch.device, max_seconds: float) -> float:
    began = time.perf_counter()
    times = [_timed(trial, 0, device)]
    while len(times) <= MEASURED_STEPS and time.perf_counter() - began < max_seconds:
        times.append(_timed(trial, len(times), device))
    return min(times[1:] or times)


def _timed(trial: _Trial, index: int, device: torch.device) -> float:
    began = time.perf_counter()
    trial.run(index)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


@dataclass
class _Peak:
    bytes: int = 0


@contextmanager
def _peak_memory(device: torch.device) -> Iterator[_Peak]:
    """Yield what will hold the largest memory in use inside the block, above that before it."""
    if device.type == "cuda":
        yield from _peak_on_gpu(device)
    else:
        yield from _peak_on_cpu()


def _peak_on_gpu(device: torch.device) -> Iterator[_Peak]:
    peak, before = _Peak(), torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        yield peak
    finally:
        peak.bytes = torch.cuda.max_memory_allocated(device) - before


def _peak_on_cpu() -> Iterator[_Peak]:
    release_memory()
    process, peak, stop = psutil.Process(), _Peak(), threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not stop.wait(SAMPLING_SECONDS):
            peak.bytes = max(peak.bytes, process.memory_info().rss - before)

    watcher = threading.Thread(target=watch, name="memory watch", daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()
        peak.bytes = max(peak.bytes, process.memory_info().rss - before)
        release_memory()
