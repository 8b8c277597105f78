"""The whole table of a pair of label maps of 20 organs, against surface-distance and MONAI; and instances of a slide.

The pair is synthetic and seeded: 20 lobed bodies in 512 x 512 x 200 voxels that touch each other, from a kidney to a
lung in size; the prediction is moved and ruffled. Each peer
gets the metrics in its own definition and ours computes the same ones in the same run, so values are compared, not only
times. With ``--peer-organs`` below 20 a peer computes the first organs only and its time is multiplied; the note says
so. Needs DELINEATE_METRICS_ORACLE_PYTHON (an interpreter with surface-distance, monai and torch).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.metrics import evaluate_structures
from delineate.metrics.contingency import instance_overlap
from delineate.metrics.panoptic import (
    aggregated_jaccard,
    aggregated_jaccard_plus,
    average_precision,
    panoptic_quality,
)
from peer import show

SHAPE = (200, 512, 512)
SPACING_MM = (2.5, 0.9, 0.9)
TOLERANCE_MM = 2.0
ORGANS = 20
PEERS = {
    "surface-distance": ("dice", "hd95_area_weighted", "assd_area_weighted", "nsd"),
    "monai": ("dice", "hd95", "assd", "nsd_voxels"),
}
NUCLEI = 10_000


def measure(*, peer_organs: int = ORGANS, scale: float = 1.0) -> list[dict[str, Any]]:
    """Return one row per peer, one of our default table, and one for instances."""
    shape = tuple(max(32, int(n * scale)) for n in SHAPE)
    reference, prediction = label_pair(np.random.default_rng(0), shape)
    rows = [_peer_row(peer, metrics, prediction, reference, peer_organs) for peer, metrics in PEERS.items()]
    seconds, _ = timed(lambda: table(prediction, reference, ("dice", "hd95", "assd", "nsd")))
    rows.append({"operation": f"Dice, HD95, ASSD, NSD, {ORGANS} organs, {shape}", "ours_seconds": seconds})
    return [*rows, nuclei_row(int(4000 * scale), int(NUCLEI * scale**2))]


def table(prediction: NDArray[Any], reference: NDArray[Any], metrics: tuple[str, ...]) -> Any:
    """Return our table of all organs."""
    structures = [(f"organ {k}", (k,)) for k in range(1, ORGANS + 1)]
    return evaluate_structures(
        prediction, reference, structures, spacing_mm=SPACING_MM, metrics=metrics, tolerance_mm=TOLERANCE_MM
    )


def timed(call: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """Return the shortest time of some repeats, and the last result."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - began)
    return min(times), result


def label_pair(generator: np.random.Generator, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return reference and prediction: lobed ellipsoids on a loose lattice, and the same moved and ruffled."""
    reference, prediction = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    size = np.array(shape)
    for organ in range(1, ORGANS + 1):
        place = np.array([organ % 2, organ % 5, organ // 5 % 4])
        centre = (np.array([0.3, 0.15, 0.2]) + place * np.array([0.4, 0.17, 0.2])) * size
        radius = size * np.array([0.2, 0.085, 0.1]) * generator.uniform(0.6, 1.6)
        lobes = generator.uniform(0.05, 0.2, 3)
        _draw(reference, organ, centre, radius, lobes)
        # two to four voxels off, as a trained model is: mean Dice 0.95, ASSD 1.6 mm
        moved = centre + generator.normal(0, 0.003, 3) * size
        _draw(prediction, organ, moved, radius * 1.01, lobes + generator.normal(0, 0.02, 3))
    return reference, prediction


def _draw(
    labels: NDArray[np.uint8], value: int, centre: NDArray[Any], radius: NDArray[Any], lobes: NDArray[Any]
) -> None:
    low = np.maximum((centre - 1.5 * radius).astype(int), 0)
    high = np.minimum((centre + 1.5 * radius).astype(int) + 2, labels.shape)
    z, y, x = (
        (np.arange(a, b).reshape([-1 if i == k else 1 for i in range(3)]) - c) / r
        for k, (a, b, c, r) in enumerate(zip(low, high, centre, radius, strict=True))
    )
    angle = np.arctan2(y, x)
    edge = 1 + lobes[0] * np.sin(2 * angle) + lobes[1] * np.cos(3 * angle + z) + lobes[2] * np.sin(5 * z)
    inside = np.sqrt(z**2 + y**2 + x**2) <= edge
    window = labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    window[inside & (window == 0)] = value


def _peer_row(
    peer: str, metrics: tuple[str, ...], prediction: NDArray[Any], reference: NDArray[Any], organs: int
) -> dict[str, Any]:
    ours, rows = timed(lambda: table(prediction, reference, metrics))
    row: dict[str, Any] = {"operation": f"{', '.join(metrics)}, {ORGANS} organs, {reference.shape}", "peer": peer}
    theirs = _ask_peer(peer, prediction, reference, organs)
    if theirs is None:
        return {**row, "ours_seconds": ours, "note": "DELINEATE_METRICS_ORACLE_PYTHON is not set"}
    seconds = theirs["seconds"] * ORGANS / organs
    differences = [abs(rows[i].values[m] - found[m]) for i, found in enumerate(theirs["rows"]) for m in metrics]
    return {
        **row,
        "peer_seconds": seconds,
        "ours_seconds": ours,
        "ratio": seconds / ours,
        "max_difference": float(max(differences)),
        "note": f"peer extrapolated from {organs} organs" if organs < ORGANS else "",
    }


def _ask_peer(peer: str, prediction: NDArray[Any], reference: NDArray[Any], organs: int) -> dict[str, Any] | None:
    python = os.environ.get("DELINEATE_METRICS_ORACLE_PYTHON")
    if not python:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "masks.npz"
        np.savez(path, prediction=prediction, reference=reference, spacing=SPACING_MM, tolerance=TOLERANCE_MM)
        script = Path(__file__).with_name("metrics_peer.py")
        command = [python, str(script), str(path), peer, str(organs)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def nuclei_row(side: int, count: int) -> dict[str, Any]:
    """Return the time of all instance scores of one image of many nuclei."""
    generator = np.random.default_rng(0)
    step = int(side / np.sqrt(count))
    grid = np.stack(np.meshgrid(*[np.arange(step // 2, side - step // 2, step)] * 2), -1).reshape(-1, 2)
    seeds = np.zeros((side, side), np.bool_)
    seeds[tuple((grid + generator.integers(-step // 8, step // 8 + 1, grid.shape)).T)] = True
    disc = ndimage.distance_transform_edt(~seeds) <= 0.3 * step
    reference = ndimage.label(disc)[0].astype(np.int32)
    prediction = np.roll(reference, 2, axis=1)
    prediction[prediction % 11 == 0] = 0

    def scores() -> tuple[Any, ...]:
        overlap = instance_overlap(prediction, reference)
        return (
            panoptic_quality(overlap).quality,
            aggregated_jaccard(overlap),
            aggregated_jaccard_plus(overlap),
            average_precision([overlap]).mean(),
        )

    seconds, _ = timed(scores)
    return {
        "operation": f"PQ, AJI, AJI+, AP at 10 IoU, {reference.max()} nuclei, {side} x {side}",
        "ours_seconds": seconds,
        "note": "goal: below 2 s",
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-organs", type=int, default=ORGANS, help="organs that the peers compute")
    parser.add_argument("--scale", type=float, default=1.0, help="of every side of the images, for a quick look")
    asked = parser.parse_args()
    show(measure(peer_organs=asked.peer_organs, scale=asked.scale))
