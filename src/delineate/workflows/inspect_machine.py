"""What this machine can do: hardware, libraries and a few seconds of measurement."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from pathlib import Path

from delineate import __version__
from delineate.networks.norm_activation import HAVE_KERNELS
from delineate.planning.recipe import Precision
from delineate.training.machine import find_machine, measure_convolution

LIBRARIES = ("torch", "numpy", "scipy", "SimpleITK", "blosc2", "numba", "tensorboard")


def inspect_machine(device: str) -> dict[str, str]:
    """Return facts about the machine, in the order in which they should be read.

    Raises
    ------
    ResourceError
        If the device does not exist here.
    """
    machine = find_machine(device)
    facts = {
        "delineate": f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        "device": machine.device,
        "cores": str(machine.cores),
        "memory free": f"{machine.memory_bytes / 2**30:.1f} GiB",
        "disk free here": f"{shutil.disk_usage(Path.cwd()).free / 2**30:.1f} GiB",
        "bfloat16": "computed by the device" if machine.bfloat16 else "not computed by the device; float32 is used",
        "fused kernels": "yes" if HAVE_KERNELS else "no: install the extra `fast` (numba) for quicker training",
    }
    for name in LIBRARIES:
        facts[name] = _version(name)
    precisions: tuple[Precision, ...] = ("float32", "bfloat16") if machine.bfloat16 else ("float32",)
    for precision in precisions:
        facts[f"3-D convolution {precision}"] = f"{measure_convolution(machine.device, precision):.0f} GFLOP/s"
    return facts


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
