"""A CT with 118 classes from image to label map against nnU-Net: seconds and peak memory of whole processes.

Both get the same image, plan, random weights and number of threads, without mirroring, and run in processes of their
own. nnU-Net runs twice, as it is and with the allocator told to keep its memory (quicker, but larger); its better time
and its better peak count. It computes in float32 on a CPU, ours in what `auto` chooses there; with random weights
neighbouring logits are nearly equal, so the share of equal voxels is a lower bound of what trained weights give.

Needs DELINEATE_ORACLE_PYTHON (an interpreter with nnunetv2). Usage: ``python bench_many_classes.py [--small]``; small
is a check that everything runs, in less than a minute. ``--ours`` leaves the peer out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from delineate.case import Image, LabelScheme
from delineate.formats.model_package import ModelPackage
from delineate.formats.nnunet.dataset_json import dataset_json
from delineate.formats.nnunet.plans_json import plan_from_json, plan_to_json
from delineate.geometry.grid import Grid
from delineate.networks import build_network, to_nnunet
from delineate.planning.plan import Architecture, Configuration, IntensityStatistics, Plan
from delineate.planning.recipe import Recipe
from delineate.training.machine import find_machine
from delineate.workflows.model import assemble
from peak_memory import peak_kilobytes
from peer import PEER_ALLOCATOR

HEADS = 118
SPACING = (1.5, 1.5, 1.5)
SIZES: dict[bool, dict[str, Any]] = {
    False: {"shape": (200, 256, 256), "patch": (128, 128, 128), "features": (32, 64, 128, 256, 320, 320)},
    True: {"shape": (40, 50, 60), "patch": (32, 32, 32), "features": (32, 64, 128)},
}


def measure(*, small: bool = False, with_peer: bool = True) -> list[dict[str, Any]]:
    """Return one row, or none where the peer's interpreter is missing."""
    peer = os.environ.get("DELINEATE_ORACLE_PYTHON")
    if with_peer and not peer:
        return []
    here = Path(__file__)
    with tempfile.TemporaryDirectory() as folder:
        question = Path(folder) / "question.pt"
        torch.save(_question(**SIZES[small]), question)
        ours = _ask([sys.executable, str(here), "--answer"], question, "ours.pt", {})
        command = [str(peer), str(here.with_name("many_classes_peer.py"))]
        runs = [_ask(command, question, "peer.pt", extra) for extra in ({}, PEER_ALLOCATOR) if with_peer] or [ours]
        theirs = {name: min(run[name] for run in runs) for name in ours}
        equal = torch.load(question.with_name("ours.pt")) == torch.load(
            question.with_name("peer.pt" if with_peer else "ours.pt")
        )
    mine, other = (side["peak_kilobytes"] * 1024 / 1e9 for side in (ours, theirs))
    return [
        {
            "operation": f"CT {'x'.join(map(str, SIZES[small]['shape']))}, {HEADS} classes, image to labels",
            "peer": "nnU-Net" if with_peer else "none",
            "peer_seconds": theirs["seconds"],
            "ours_seconds": ours["seconds"],
            "ratio": theirs["seconds"] / ours["seconds"],
            "max_difference": 1 - float(equal.float().mean()),
            "note": f"peak {mine:.2f} GB against {other:.2f} GB, {other / mine:.1f} times less",
        }
    ]


def _question(shape: tuple[int, ...], patch: tuple[int, ...], features: tuple[int, ...]) -> dict[str, Any]:
    plan, scheme = _plan(patch, features), _scheme()
    network = build_network(plan.configurations[0].architecture, in_channels=1, heads=HEADS, seed=0)
    described = dataset_json(channel_names=("CT",), scheme=scheme, training_cases=1, file_ending=".nii.gz")
    noise = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
    return {
        "threads": torch.get_num_threads(),
        "heads": HEADS,
        "plans": plan_to_json(plan),
        "dataset": described,
        "weights": to_nnunet(network.state_dict()),
        "own_weights": network.state_dict(),
        "image": torch.from_numpy(noise * 200 + 50),
        "spacing": SPACING,
    }


def _scheme() -> LabelScheme:
    return LabelScheme.simple(*(f"structure {number}" for number in range(1, HEADS)))


def _plan(patch: tuple[int, ...], features: tuple[int, ...]) -> Plan:
    stages = len(features)
    architecture = Architecture(
        kind="plain_unet",
        dims=3,
        features=features,
        kernel_sizes=((3, 3, 3),) * stages,
        strides=((1, 1, 1), *((2, 2, 2),) * (stages - 1)),
        encoder_blocks=(2,) * stages,
        decoder_convs=(2,) * (stages - 1),
    )
    configuration = Configuration(
        name="3d_fullres",
        data_identifier="nnUNetPlans_3d_fullres",
        spacing_mm=SPACING,
        patch_size=patch,
        batch_size=2,
        median_shape=(200.0, 256.0, 256.0),
        normalization=("ct",),
        use_mask_for_norm=(False,),
        architecture=architecture,
        batch_dice=False,
    )
    statistics = IntensityStatistics(
        mean=60.0, median=58.0, std=140.0, min=-900.0, max=900.0, percentile_99_5=800.0, percentile_00_5=-700.0
    )
    return Plan(
        dataset_name="Dataset001_Many",
        plans_name="nnUNetPlans",
        planner_name="ExperimentPlanner",
        image_reader="SimpleITKIO",
        transpose_forward=(0, 1, 2),
        transpose_backward=(0, 1, 2),
        original_median_spacing_mm=SPACING,
        original_median_shape=(200.0, 256.0, 256.0),
        intensities=(statistics,),
        configurations=(configuration,),
    )


def _ask(command: list[str], question: Path, answer: str, extra: dict[str, str]) -> dict[str, Any]:
    environment = {**os.environ, **extra}
    full = [*command, str(question), str(question.with_name(answer))]
    done = subprocess.run(full, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def answer(question: Path, target: Path) -> None:
    """Segment the image of a question (the child process)."""
    asked = torch.load(question, weights_only=True)
    torch.set_num_threads(asked["threads"])
    plan = plan_from_json(asked["plans"])
    _compile_kernels()
    model = assemble(_package(plan, asked.pop("own_weights")), find_machine("cpu"), mirroring=False)
    del asked["weights"]
    image = Image(array=asked["image"].numpy(), grid=Grid.regular(asked["image"].shape[1:], asked["spacing"]))
    began = time.perf_counter()
    found = model.predict(image).labels.array
    seconds = time.perf_counter() - began
    peak = peak_kilobytes()
    torch.save(torch.from_numpy(found.astype(np.int16)), target)
    print(json.dumps({"seconds": seconds, "peak_kilobytes": peak}))


def _package(plan: Plan, weights: dict[str, torch.Tensor]) -> ModelPackage:
    configuration = plan.configurations[0]
    return ModelPackage(
        name="many",
        software="benchmark",
        plan=plan,
        configuration=configuration,
        recipe=Recipe(iterations=1, batch_size=2, patch_size=configuration.patch_size),
        scheme=_scheme(),
        channel_names=("CT",),
        file_ending=".nii.gz",
        weights={"0": weights},
    )


def _compile_kernels() -> None:
    """Run everything once at the smallest size: kernels are compiled once per machine, which is not counted."""
    plan = _plan((16, 16, 16), (8, 16))
    network = build_network(plan.configurations[0].architecture, in_channels=1, heads=HEADS, seed=0)
    model = assemble(_package(plan, network.state_dict()), find_machine("cpu"), mirroring=False)
    model.predict(np.zeros((1, 20, 20, 20), np.float32), spacing_mm=SPACING)


def main() -> None:
    """Print the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a check that everything runs")
    parser.add_argument("--ours", action="store_true", help="without the peer")
    parser.add_argument("--answer", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer:
        answer(*options.answer)
        return
    rows = measure(small=options.small, with_peer=not options.ours)
    if not rows:
        print("many classes: set DELINEATE_ORACLE_PYTHON to run this benchmark")
    for row in rows:
        print(
            f"{row['operation']}: {row['peer']} {row['peer_seconds']:.1f} s, ours {row['ours_seconds']:.1f} s, "
            f"{row['ratio']:.1f} times faster, {row['note']}, {100 * row['max_difference']:.3f} % of voxels differ"
        )


if __name__ == "__main__":
    main()
