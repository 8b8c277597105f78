"""A training step on a GPU: ours against the same network, loss and optimiser driven as nnU-Net drives them.

nnU-Net trains under float16 autocast with a gradient scaler, channels first, with cuDNN's search for the quickest
convolution. Its package is not needed: what differs is how the step is driven. It needs a GPU.

    python benchmarks/bench_gpu_step.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from bench_step import configuration
from delineate.networks import build_network
from delineate.planning.plan import Configuration
from delineate.planning.recipe import Recipe
from delineate.training.losses import SegmentationLoss
from delineate.training.optimizer import build_optimizer
from delineate.training.precision import fastest_convolutions, place_images, place_network
from delineate.training.step import train_step
from peer import show

STEPS, WARM_UP = 30, 6


def configurations() -> dict[str, tuple[Configuration, int, tuple[int, ...]]]:
    """Return nnU-Net's networks with batch and patch: that of Hippocampus, and the usual one for a large scan."""
    small = configuration()
    features = (32, 64, 128, 256, 320, 320)
    large = replace(
        small,
        patch_size=(128, 128, 128),
        architecture=replace(
            small.architecture,
            features=features,
            kernel_sizes=((3, 3, 3),) * 6,
            strides=((1, 1, 1),) + ((2, 2, 2),) * 5,
            encoder_blocks=(2,) * 6,
            decoder_convs=(2,) * 5,
        ),
    )
    return {"Hippocampus": (small, 9, (40, 56, 40)), "128 x 128 x 128": (large, 2, (128, 128, 128))}


def measure() -> list[dict[str, Any]]:
    """Return a row per network; none without a GPU."""
    if not torch.cuda.is_available():
        return []
    return [_row(name, *setting) for name, setting in configurations().items()]


def _row(name: str, network: Configuration, batch: int, patch: tuple[int, ...]) -> dict[str, Any]:
    device = torch.device("cuda")
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((batch, 1, *patch), generator=generator).to(device)
    labels = torch.randint(0, 3, (batch, *patch), generator=generator).short().to(device)
    criterion = SegmentationLoss(batch_dice=False)
    with fastest_convolutions(device):
        steps = {"ours": _ours(network, batch, patch, images, labels, criterion)}
        steps["theirs"] = _theirs(network, batch, patch, images, labels, criterion)
        times = _in_turn(steps)
    return {
        "operation": f"training step, {name}, batch {batch}, {torch.cuda.get_device_name()}",
        "peer": "float16 autocast with gradient scaler, channels first",
        "peer_seconds": times["theirs"],
        "ours_seconds": times["ours"],
        "ratio": times["theirs"] / times["ours"],
        "note": f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB with both",
    }


def _recipe(batch: int, patch: tuple[int, ...], *, ours: bool) -> Recipe:
    return Recipe(
        iterations=1000,
        batch_size=batch,
        patch_size=patch,
        precision="bfloat16" if ours else "float32",
        channels_last=ours,
        augmentation="none",
    )


def _ours(network: Configuration, batch: int, patch: tuple[int, ...], images, labels, criterion) -> Callable[[], None]:
    recipe = _recipe(batch, patch, ours=True)
    module = build_network(network.architecture, in_channels=1, heads=3, seed=0).train()
    place_network(module, recipe, images.device)
    optimizer = build_optimizer(module, recipe)
    return lambda: (
        train_step(module, optimizer, criterion, place_images(images, recipe, images.device), labels, recipe) and None
    )


def _theirs(network: Configuration, batch: int, patch: tuple[int, ...], images, labels, criterion):
    module = build_network(network.architecture, in_channels=1, heads=3, seed=0).train().to(images.device)
    optimizer = torch.optim.SGD(module.parameters(), 1e-2, momentum=0.99, weight_decay=3e-5, nesterov=True)
    scaler = torch.amp.GradScaler("cuda")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda"):
            loss = criterion(module(images), labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(module.parameters(), 12)
        scaler.step(optimizer)
        scaler.update()
        loss.detach().cpu()

    return step


def _in_turn(steps: dict[str, Callable[[], None]]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(WARM_UP + STEPS):
        for name, step in steps.items():
            torch.cuda.synchronize()
            began = time.perf_counter()
            step()
            torch.cuda.synchronize()
            if index >= WARM_UP:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    rows = measure()
    show(rows) if rows else print("no CUDA device")
