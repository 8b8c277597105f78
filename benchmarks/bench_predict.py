"""Prediction per case of MSD Hippocampus against nnU-Net's predictor: same network, weights, arrays and threads.

Both run in processes of their own with the same number of threads and the same settings of the allocator, in turns, and
of every case the faster of the rounds counts. Reading, preparing and restoring are not part of the time.

Needs DELINEATE_DATA (the folder that holds ``hippocampus``) and DELINEATE_ORACLE_PYTHON (an interpreter with nnunetv2).
Usage: ``python bench_predict.py [CASES] [MODEL]``; MODEL is a model package, its first fold is used. Without it the
network of nnU-Net's own plan gets random weights, and only the times mean something.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from delineate.formats.images import read_image, read_labels
from delineate.formats.model_package import read_package
from delineate.inference import Tiling, make_ensemble, predict_logits
from delineate.networks import build_network, load_weights, to_nnunet
from delineate.planning.plan import Architecture

CASES = 20
ROUNDS = 2
MIRROR_AXES = (0, 1, 2)
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""glibc keeps freed memory; without it both spend a good part of their time on getting it back."""
WAYS: dict[str, dict[str, Any]] = {
    "float32": {"precision": "float32"},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16, patch cut to image": {"precision": "bfloat16", "fit_patch_to_image": True},
}


def measure(cases: int = CASES, model: Path | None = None, rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """Return one row per way of predicting, with and without mirroring; none where data or interpreter are missing."""
    data, peer = os.environ.get("DELINEATE_DATA"), os.environ.get("DELINEATE_ORACLE_PYTHON")
    if not data or not peer:
        return []
    images = sorted((Path(data) / "hippocampus" / "imagesTr").glob("hippocampus*.nii.gz"))[:cases]
    with tempfile.TemporaryDirectory() as folder:
        question, asked = Path(folder) / "question.pt", _question(images, model)
        torch.save(asked, question)
        answers = [_ask(script, question) for _ in range(rounds) for script in _scripts(peer)]
    ours, theirs = _fastest(answers[0::2]), _fastest(answers[1::2])
    references = [read_labels(path.parents[1] / "labelsTr" / path.name).array for path in images]
    return [_row(way, mirrored, ours, theirs, references) for mirrored in (False, True) for way in WAYS]


def _question(images: list[Path], model: Path | None) -> dict[str, Any]:
    architecture, patch, weights, heads = _network(model)
    return {
        "threads": torch.get_num_threads(),
        "in_channels": 1,
        "heads": heads,
        "patch_size": patch,
        "mirror_axes": MIRROR_AXES,
        "weights": to_nnunet(weights),
        "own_weights": weights,
        "arrays": [torch.from_numpy(_normalised(read_image(path).array)) for path in images],
        "dims": architecture.dims,
        **{key: getattr(architecture, key) for key in ("features", "kernel_sizes", "strides")},
        **{key: getattr(architecture, key) for key in ("encoder_blocks", "decoder_convs")},
    }


def _network(model: Path | None) -> tuple[Architecture, tuple[int, ...], dict[str, torch.Tensor], int]:
    if model is not None:
        package = read_package(model)
        weights = dict(next(iter(package.weights.values())))
        configuration = package.configuration
        return configuration.architecture, configuration.patch_size, weights, package.scheme.head_count
    architecture = Architecture(
        kind="plain_unet",
        dims=3,
        features=(32, 64, 128, 256),
        kernel_sizes=((3, 3, 3),) * 4,
        strides=((1, 1, 1), *((2, 2, 2),) * 3),
        encoder_blocks=(2,) * 4,
        decoder_convs=(2,) * 3,
    )
    network = build_network(architecture, in_channels=1, heads=3, seed=0)
    return architecture, (40, 56, 40), network.state_dict(), 3


def _normalised(array: np.ndarray) -> np.ndarray:
    values = array.astype(np.float32)
    return (values - values.mean()) / max(float(values.std()), 1e-8)


def _scripts(peer: str) -> list[list[str]]:
    here = Path(__file__)
    return [[sys.executable, str(here), "--answer"], [peer, str(here.with_name("predict_peer.py"))]]


def _ask(command: list[str], question: Path) -> dict[Any, Any]:
    answer = question.with_name("answer.pt")
    environment = {**os.environ, **KEEP_MEMORY}
    subprocess.run([*command, str(question), str(answer)], check=True, capture_output=True, env=environment)
    loaded: dict[Any, Any] = torch.load(answer, weights_only=True)
    return loaded


def answer(question: Path, target: Path) -> None:
    """Predict all cases of a question in every way (the child process)."""
    asked = torch.load(question, weights_only=True)
    torch.set_num_threads(asked["threads"])
    architecture = Architecture(
        kind="plain_unet",
        **{key: asked[key] for key in ("dims", "features", "kernel_sizes", "strides")},
        **{key: asked[key] for key in ("encoder_blocks", "decoder_convs")},
    )
    network = build_network(architecture, in_channels=1, heads=asked["heads"], seed=0)
    load_weights(network, asked["own_weights"])
    arrays = [array.numpy() for array in asked["arrays"]]
    answers: dict[Any, Any] = {}
    for way, settings in WAYS.items():
        for mirrored in (False, True):
            axes = asked["mirror_axes"] if mirrored else ()
            fixed = {"patch_size": asked["patch_size"], "divisor": architecture.divisor, "mirror_axes": axes}
            tiling = Tiling(**fixed, **settings)
            ensemble = make_ensemble([network], precision=tiling.precision)
            predict_logits(ensemble, arrays[0], tiling)  # the first call compiles; not counted
            for index, array in enumerate(arrays):
                start = time.perf_counter()
                logits = predict_logits(ensemble, array, tiling)
                seconds = time.perf_counter() - start
                labels = torch.from_numpy(logits.argmax(0).astype(np.uint8))
                answers[way, mirrored, index] = {"seconds": seconds, "labels": labels}
    torch.save(answers, target)


def _fastest(answers: list[dict[Any, Any]]) -> dict[Any, Any]:
    return {key: min((a[key] for a in answers), key=lambda one: float(one["seconds"])) for key in answers[0]}


def _row(
    way: str, mirrored: bool, ours: dict[Any, Any], theirs: dict[Any, Any], references: list[np.ndarray]
) -> dict[str, Any]:
    indices = range(len(references))
    mine, other = ([ours[way, mirrored, i] for i in indices], [theirs[mirrored, i] for i in indices])
    our_seconds, their_seconds = (float(np.mean([one["seconds"] for one in side])) for side in (mine, other))
    pairs = [(a["labels"].numpy(), b["labels"].numpy()) for a, b in zip(mine, other, strict=True)]
    our_dice = [_dice(a, r) for (a, _), r in zip(pairs, references, strict=True)]
    their_dice = [_dice(b, r) for (_, b), r in zip(pairs, references, strict=True)]
    return {
        "operation": f"predict Hippocampus, {way}{', mirrored' if mirrored else ''}",
        "peer": "nnU-Net",
        "cases": len(references),
        "peer_seconds": their_seconds,
        "ours_seconds": our_seconds,
        "ratio": their_seconds / our_seconds,
        "agreement": float(np.mean([np.mean(a == b) for a, b in pairs])),
        "peer_dice": float(np.mean(their_dice)),
        "ours_dice": float(np.mean(our_dice)),
        "dice_difference": float(np.mean(our_dice) - np.mean(their_dice)),
        "note": f"{np.mean([np.mean(a == b) for a, b in pairs]):.3%} of voxels equal, Dice {np.mean(our_dice):.4f} "
        f"against {np.mean(their_dice):.4f}",
    }


def _dice(found: np.ndarray, reference: np.ndarray) -> float:
    """Return the mean Dice of the labels that the reference has."""
    scores = []
    for value in np.unique(reference[reference > 0]):
        a, b = found == value, reference == value
        scores.append(2 * np.sum(a & b) / (np.sum(a) + np.sum(b)))
    return float(np.mean(scores))


def main() -> None:
    """Print the table."""
    given = sys.argv[1:]
    if given[:1] == ["--answer"]:
        answer(Path(given[1]), Path(given[2]))
        return
    rows = measure(int(given[0]) if given else CASES, Path(given[1]) if len(given) > 1 else None)
    if not rows:
        print("prediction: set DELINEATE_DATA and DELINEATE_ORACLE_PYTHON to run this benchmark")
    for row in rows:
        print(
            f"{row['operation']:<63}{row['peer']} {row['peer_seconds']:.3f}, ours {row['ours_seconds']:.3f} s a case, "
            f"{row['ratio']:.1f} times faster; equal voxels {100 * row['agreement']:.3f} %, "
            f"Dice {row['peer_dice']:.4f} and {row['ours_dice']:.4f} ({row['dice_difference']:+.4f})"
        )


if __name__ == "__main__":
    main()
