"""Instances: time of scores and shapes of 10 000 nuclei, of decoding, and of networks per megapixel.

    python benchmarks/bench_instances.py [--hovernet] [--seconds 20]

Times are processor time of this process, so that other work on the machine does not count; with one thread that is the
wall clock of an idle core. Networks run with ``--threads`` (1) and random weights; HoVer-Net in its mode ``fast``.
``measure``, which ``make bench`` calls, goes by the clock and compares with peers in the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from skimage.measure import regionprops_table

from delineate.formats.instance_package import read_instance_package
from delineate.inference.instance_maps import COLUMNS, ROWS
from delineate.masks.hover_decoding import decode_hover, hover_targets
from delineate.masks.instance_decoding import decode_instances
from delineate.masks.instance_shapes import measure_instances
from delineate.masks.instance_targets import instance_targets
from delineate.metrics import (
    aggregated_jaccard,
    aggregated_jaccard_plus,
    average_precision,
    detect,
    ensemble_dice,
    instance_overlap,
    panoptic_quality,
    panoptic_quality_by_type,
)
from delineate.networks.hovernet import SIZES, HoVerNet
from delineate.networks.instance_unet import InstanceUNet, fused
from delineate.planning.instance_network import WIDE
from delineate.training.allocator import KEPT_BYTES_PREDICTING, keep_memory
from delineate.training.machine import find_machine
from delineate.workflows.nuclei_model import SHIPPED, UNTYPED

SIDE, STEP, RADIUS = 4000, 40, 12
SHAPES = (
    "label",
    "area",
    "centroid",
    "perimeter",
    "axis_major_length",
    "axis_minor_length",
    "eccentricity",
    "solidity",
)
"""What both sides measure."""


def nuclei(shift: int = 0) -> np.ndarray:
    """10 000 discs on a lattice with jitter: (y, x) int32."""
    generator = np.random.default_rng(shift)
    y, x = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
    labels, number = np.zeros((SIDE, SIDE), dtype=np.int32), 0
    for row in range(STEP // 2, SIDE, STEP):
        for column in range(STEP // 2, SIDE, STEP):
            number += 1
            cy, cx = np.array([row, column]) + generator.integers(-3, 4, 2)
            window = labels[cy - RADIUS : cy + RADIUS + 1, cx - RADIUS : cx + RADIUS + 1]
            window[y**2 + x**2 <= generator.uniform(6, RADIUS) ** 2] = number
    return labels


def spent(work: Callable[[], object]) -> float:
    """Return the processor seconds of a call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def score_everything(found: np.ndarray, reference: np.ndarray) -> None:
    overlap = instance_overlap(found, reference)
    panoptic_quality(overlap)
    aggregated_jaccard(overlap)
    aggregated_jaccard_plus(overlap)
    average_precision([overlap])
    ensemble_dice(overlap)
    panoptic_quality_by_type(overlap, overlap.predicted_ids % 4 + 1, overlap.reference_ids % 4 + 1, 4)


def detect_all(count: int) -> None:
    generator = np.random.default_rng(0)
    points = generator.uniform(0, SIDE, (count, 2))
    detect(points + generator.normal(0, 2, points.shape), points, 12.0)


def ours_and_image(dtype: torch.dtype) -> tuple[InstanceUNet, torch.Tensor, float]:
    """Return the network of the shipped models, what it sees in one pass, and the megapixels it answers for."""
    keep_memory(KEPT_BYTES_PREDICTING)
    network = fused(InstanceUNet(types=4, widths=WIDE)).to(dtype).to(memory_format=torch.channels_last)
    seen = [side + 2 * network.reach for side in (ROWS, COLUMNS)]
    image = torch.rand(1, 3, *seen).to(dtype).contiguous(memory_format=torch.channels_last)
    return network, image, ROWS * COLUMNS / 1e6


@torch.inference_mode()
def per_megapixel(network: torch.nn.Module, image: torch.Tensor, answered: float, seconds: float) -> float:
    """Return processor seconds per megapixel that a pass answers for; best of the passes that fit the time."""
    network(image)
    times, began = [], time.process_time()
    while not times or time.process_time() - began < seconds:
        times.append(spent(lambda: network(image)))
    return min(times) / answered


def networks(seconds: float, hovernet: bool) -> dict[str, float]:
    found = {}
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        found[f"InstanceUNet {name}, s per Mpx"] = per_megapixel(*ours_and_image(dtype), seconds)
    if hovernet:
        seen, answered = SIZES["fast"]
        network = HoVerNet(types=5, mode="fast").eval()
        found["HoVer-Net fast float32, s per Mpx"] = per_megapixel(
            network, torch.rand(1, 3, seen, seen), answered**2 / 1e6, 1.0
        )
    return found


def by_the_clock(work: Callable[[], object], turns: int = 3) -> float:
    """Return the median seconds of a few calls after a first one."""
    work()
    times = []
    for _ in range(turns):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


@torch.inference_mode()
def network_row() -> dict[str, Any]:
    """Our network as it predicts on this machine, against HoVer-Net's fast mode, per megapixel that is answered for."""
    dtype = torch.bfloat16 if find_machine("cpu").bfloat16 else torch.float32
    ours, image, megapixels = ours_and_image(dtype)
    own = by_the_clock(lambda: ours(image)) / megapixels
    seen, answered = SIZES["fast"]
    hovernet, patch = HoVerNet(types=5, mode="fast").eval(), torch.rand(1, 3, seen, seen)
    peer = by_the_clock(lambda: hovernet(patch), turns=1) / (answered**2 / 1e6)
    return {
        "operation": f"nuclei: network per megapixel, {str(dtype).removeprefix('torch.')}",
        "peer": "HoVer-Net fast (its graph here), float32",
        "peer_seconds": peer,
        "ours_seconds": own,
        "ratio": peer / own,
        "note": f"{1 / own:.1f} Mpx/s; its weights are 7 times as many",
    }


def measure() -> list[dict[str, Any]]:
    """Return rows of the network, the decoding and the shapes, each against a peer in the same run."""
    reference = nuclei(0)
    small = reference[:1024, :1024]
    maps, offsets = instance_targets(small).stacked(), hover_targets(small)
    decoding = read_instance_package(SHIPPED / UNTYPED).decoding
    decode = by_the_clock(lambda: decode_instances(maps, decoding)) / (small.size / 1e6)
    theirs = by_the_clock(lambda: decode_hover(maps[0], offsets[0], offsets[1])) / (small.size / 1e6)
    shapes = by_the_clock(lambda: measure_instances(small))
    peer = by_the_clock(lambda: regionprops_table(small, properties=SHAPES))  # type: ignore[no-untyped-call]
    return [
        network_row(),
        {
            "operation": "nuclei: decoding per megapixel",
            "peer": "HoVer-Net's published decoding",
            "peer_seconds": theirs,
            "ours_seconds": decode,
            "ratio": theirs / decode,
        },
        {
            "operation": f"nuclei: shapes of {len(np.unique(small)) - 1} in a megapixel",
            "peer": "skimage.measure.regionprops_table",
            "peer_seconds": peer,
            "ours_seconds": shapes,
            "ratio": peer / shapes,
        },
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hovernet", action="store_true", help="also one patch of HoVer-Net")
    parser.add_argument("--seconds", type=float, default=10.0, help="processor time per network")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    reference, found = nuclei(0), nuclei(1)
    small = reference[:1024, :1024]
    maps, decoding = instance_targets(small).stacked(), read_instance_package(SHIPPED / UNTYPED).decoding
    result = {
        "nuclei": int(reference.max()),
        "scores of 4000 x 4000, s": spent(lambda: score_everything(found, reference)),
        "detection by centres, s": spent(lambda: detect_all(int(reference.max()))),
        "shapes of 4000 x 4000, s": spent(lambda: measure_instances(reference)),
        "decoding, s per Mpx": spent(lambda: decode_instances(maps, decoding)) / (small.size / 1e6),
        **networks(options.seconds, options.hovernet),
    }
    print(json.dumps({name: round(value, 3) for name, value in result.items()}, indent=1))


if __name__ == "__main__":
    main()
