"""A training step of one network, patch and batch: ours against nnU-Net's network, loss and optimiser on the CPU.

The network is the one nnU-Net plans for MSD Hippocampus. Neither side augments or reads data. The peer gets the same
threads and the same allocator settings (glibc gives no memory back), and runs in float32, as nnU-Net does on a CPU.
Needs DELINEATE_ORACLE_PYTHON (an interpreter with nnunetv2).
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

from delineate.planning.plan import Architecture, Configuration
from delineate.planning.recipe import Precision, Recipe
from delineate.planning.rules.cost import step_operations
from delineate.training.machine import find_machine, measure_convolution
from delineate.training.probe import measure_step
from peer import PEER_ALLOCATOR, show

PATCH = (40, 56, 40)
BATCH = 9
FEATURES = (32, 64, 128, 256)
PEER_STEPS = 3


def measure() -> list[dict[str, Any]]:
    """Return rows for bfloat16 (where the processor computes in it) and float32."""
    peer = _peer_seconds()
    precisions: tuple[Precision, ...] = ("bfloat16", "float32") if find_machine("cpu").bfloat16 else ("float32",)
    return [_row(precision, peer) for precision in precisions]


def _row(precision: Precision, peer: float | None) -> dict[str, Any]:
    cost = measure_step(configuration(), recipe(precision), in_channels=1, heads=3, device="cpu", max_seconds=60)
    operations = BATCH * step_operations(configuration().architecture, PATCH, 1, 3)
    speed, ceiling = operations / cost.seconds, measure_convolution("cpu", precision) * 1e9
    return {
        "operation": f"training step, Hippocampus 3d_fullres network, batch {BATCH}, {precision}",
        "peer": "nnU-Net 2.8.1, float32",
        "peer_seconds": peer,
        "ours_seconds": cost.seconds,
        "ratio": peer / cost.seconds if peer else None,
        "note": f"{speed / 1e9:.0f} GFLOP/s, {speed / ceiling:.0%} of a single convolution's",
    }


def configuration() -> Configuration:
    """Return nnU-Net's 3d_fullres configuration for MSD Hippocampus (260 cases)."""
    stages = len(FEATURES)
    return Configuration(
        name="3d_fullres",
        data_identifier="nnUNetPlans_3d_fullres",
        spacing_mm=(1.0, 1.0, 1.0),
        patch_size=PATCH,
        batch_size=BATCH,
        median_shape=(36.0, 50.0, 35.0),
        normalization=("zscore",),
        use_mask_for_norm=(False,),
        architecture=Architecture(
            kind="plain_unet",
            dims=3,
            features=FEATURES,
            kernel_sizes=((3, 3, 3),) * stages,
            strides=((1, 1, 1),) + ((2, 2, 2),) * (stages - 1),
            encoder_blocks=(2,) * stages,
            decoder_convs=(2,) * (stages - 1),
        ),
        batch_dice=False,
    )


def recipe(precision: Precision) -> Recipe:
    """Return nnU-Net's optimiser in our number format, without augmentation."""
    return Recipe(
        iterations=1000,
        batch_size=BATCH,
        patch_size=PATCH,
        precision=precision,
        channels_last=True,
        augmentation="none",
    )


def _peer_seconds() -> float | None:
    python = os.environ.get("DELINEATE_ORACLE_PYTHON")
    if not python:
        return None
    network = configuration().architecture
    task = {
        "features": list(network.features),
        "kernels": [list(k) for k in network.kernel_sizes],
        "strides": [list(s) for s in network.strides],
        "convs": list(network.encoder_blocks),
        "patch": list(PATCH),
        "batch": BATCH,
        "steps": PEER_STEPS + 1,
        "threads": torch.get_num_threads(),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.json"
        path.write_text(json.dumps(task))
        script = Path(__file__).with_name("step_peer.py")
        done = subprocess.run(
            [python, str(script), str(path)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **PEER_ALLOCATOR},
        )
    return float(json.loads(done.stdout.strip().splitlines()[-1])["seconds"])


if __name__ == "__main__":
    show(measure())
