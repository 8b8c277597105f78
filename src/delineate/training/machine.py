"""What machine this is, as far as planning needs to know."""

from __future__ import annotations

import os
import time

import psutil
import torch
from torch import Tensor
from torch.nn import functional

from delineate.planning.machine import Machine
from delineate.planning.recipe import Precision
from delineate.training.precision import resolve_device

AUTO = "auto"
"""The best device there is: a CUDA GPU, else the processor."""


def find_machine(device: str = AUTO, *, memory_bytes: int | None = None) -> Machine:
    """Describe the device and the memory that training may use.

    Parameters
    ----------
    device
        ``auto``, or a name of torch: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    memory_bytes
        A limit set by the user; None: what is free now.

    Raises
    ------
    ResourceError
        If the device does not exist here.
    """
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == AUTO else device
    place = resolve_device(name)
    free = _free_bytes(place)
    return Machine(
        device=name,
        cores=usable_cores(),
        memory_bytes=free if memory_bytes is None else min(free, memory_bytes),
        bfloat16=computes_in_bfloat16(place),
    )


def usable_cores() -> int:
    """Return the number of cores that this process may use (an affinity mask or a container may hide some)."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


def computes_in_bfloat16(device: torch.device) -> bool:
    """Say whether the device has instructions for bfloat16; without them it would be emulated, and slow."""
    if device.type == "cuda":
        return bool(torch.cuda.get_device_capability(device) >= (8, 0))
    if device.type == "cpu":
        names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(bool(getattr(torch.cpu, name, bool)()) for name in names)
    return False


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def measure_convolution(device: str, precision: Precision, *, repeats: int = 5) -> float:
    """Return the speed of a 3-D convolution, forward, channels last, in GFLOP/s: 32 to 32 channels at 4 x 40 x 56 x 40.

    Best of ``repeats``; takes about a second on a laptop.
    """
    place = resolve_device(device)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    generator = torch.Generator().manual_seed(0)
    layout = torch.channels_last_3d
    images = torch.randn((4, 32, 40, 56, 40), generator=generator).to(place, dtype).contiguous(memory_format=layout)
    kernel = torch.randn((32, 32, 3, 3, 3), generator=generator).to(place, dtype).contiguous(memory_format=layout)
    operations = 2.0 * images.numel() * kernel[0].numel()
    seconds = min(_timed_convolution(images, kernel) for _ in range(repeats + 1))
    return operations / seconds / 1e9


def _timed_convolution(images: Tensor, kernel: Tensor) -> float:
    began = time.perf_counter()
    with torch.inference_mode():
        functional.conv3d(images, kernel, padding=1)
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - began
