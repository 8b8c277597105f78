"""Seconds of one tile in torch and on OpenVINO, in float32, bfloat16 and int8; networks with random weights.

python benchmarks/bench_int8.py
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial

import torch

from delineate.inference import make_ensemble
from delineate.inference.openvino_backend import OpenVinoBackend
from delineate.inference.quantised import observed_ranges, quantised
from delineate.networks import build_network
from delineate.planning.plan import Architecture

CASES = {
    "16 to 128 channels, 40x56x40, 8 mirrored": ((16, 32, 64, 128), (40, 56, 40), 8),
    "nnU-Net's Hippocampus network, 40x56x40": ((32, 64, 128, 256), (40, 56, 40), 1),
    "nnU-Net's default network, 128x128x128": ((32, 64, 128, 256, 320, 320), (128, 128, 128), 1),
}
REPEATS = 7


def network(features):
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
    made = build_network(architecture, in_channels=1, heads=3, seed=0).eval()
    made.deep_supervision = False
    return made


def seconds(run: Callable[[], object]) -> float:
    """Return the median time after two runs to warm up."""
    times = []
    for _ in range(REPEATS + 2):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times[2:])


def main():
    warnings.simplefilter("ignore")
    for name, (features, patch, batch) in CASES.items():
        net = network(features)
        tile = torch.randn(batch, 1, *patch, generator=torch.Generator().manual_seed(0))
        integer = quantised(net, observed_ranges(net, [tile]))
        print(name)
        for precision in ("float32", "bfloat16"):
            ensemble = make_ensemble([net], precision=precision)
            with torch.inference_mode():
                print(f"  torch {precision:<20} {seconds(partial(ensemble, tile)):.4f}")
        for bfloat16 in (False, True):
            rest = "bfloat16" if bfloat16 else "float32"
            for what, one in ((rest, net), (f"int8, rest {rest}", integer)):
                backend = OpenVinoBackend(bfloat16=bfloat16)
                print(f"  openvino {what:<20} {seconds(partial(backend, one, tile)):.4f}", flush=True)


if __name__ == "__main__":
    main()
