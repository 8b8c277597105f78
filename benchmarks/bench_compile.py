"""``torch.compile`` on a processor: a training step and the prediction of tiles, against what Delineate does.

ours          torch's operations one by one, with the fused kernel for normalisation and activation (extra ``fast``)
plain         the same without that kernel
compiled      without that kernel, compiled by torch.compile (inductor, which fuses these operations itself)
compiled+     compiled around our kernel, which the compiler cannot look into: a graph in pieces

Turns alternate, so that other work on the cores meets all alike; of each the turn with the least processor time counts
(of all threads together), and the quickest by the clock. What compiling itself costs is told beside it: it is paid
again by every process, unless torch finds its stored code, and for every shape. Needs a C++ compiler.

    python benchmarks/bench_compile.py [--turns 5] [--what training] [--only narrow] [--precision float32] [--ways ...]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from bench_step import configuration, recipe
from delineate.inference import make_ensemble
from delineate.networks import build_network, norm_activation
from delineate.training.allocator import keep_memory
from delineate.training.machine import find_machine
from delineate.training.probe import _Trial

NETWORKS = {"narrow": ((16, 32, 64, 128), 2), "wide": ((32, 64, 128, 256), 9)}
"""Features, batch of training: what a budget of minutes plans for Hippocampus, and what nnU-Net plans."""
TILES = 8
"""One tile and its mirror images."""
WAYS = {"ours": (True, False), "plain": (False, False), "compiled": (False, True), "compiled+": (True, True)}
"""Way -> our kernel, compiled."""


@contextmanager
def kernel(used: bool):
    """Use the fused kernel, or torch's own operations."""
    before = norm_activation.HAVE_KERNELS
    norm_activation.HAVE_KERNELS = used and before
    try:
        yield
    finally:
        norm_activation.HAVE_KERNELS = before


def training(features, batch, precision, compiled) -> Callable[[], None]:
    """Return what does one training step."""
    base = configuration()
    planned = replace(base, architecture=replace(base.architecture, features=features))
    wanted = replace(recipe(precision), batch_size=batch)
    trial = _Trial.prepare(planned, wanted, 1, 3, torch.device("cpu"))
    trial = replace(trial, network=prepared(trial.network, compiled))
    return lambda: trial.run(0)


def prediction(features, batch, precision, compiled) -> Callable[[], None]:
    """Return what predicts one tile and its mirror images."""
    architecture = replace(configuration().architecture, features=features)
    network = build_network(architecture, in_channels=1, heads=3, seed=0).eval()
    network.deep_supervision = False
    ensemble = make_ensemble([network], precision=precision)
    ensemble = replace(ensemble, networks=tuple(prepared(one, compiled) for one in ensemble.networks))
    tiles = torch.randn(TILES, 1, 40, 56, 40, generator=torch.Generator().manual_seed(0))

    def run():
        with torch.inference_mode():
            ensemble(tiles)

    return run


TASKS = {"training": training, "prediction": prediction}


def prepared(network: nn.Module, compiled: bool) -> nn.Module:
    """Return the network, compiled if wanted."""
    return torch.compile(network, dynamic=False) if compiled else network


def seconds(run: Callable[[], None]) -> tuple[float, float]:
    """Return seconds of processor time and by the clock."""
    clock, processor = time.perf_counter(), time.process_time()
    run()
    return time.process_time() - processor, time.perf_counter() - clock


def compare(make, features, batch, precision, options) -> dict[str, tuple[float, float, float]]:
    """Return per way: least processor time, quickest by the clock, and the first call by the clock."""
    ways = {way: WAYS[way] for way in options.ways}
    runs, first, found = {}, {}, {way: [] for way in ways}
    for way, (fused, compiled) in ways.items():
        torch.compiler.reset()
        with kernel(fused):
            runs[way] = make(features, batch, precision, compiled)
            first[way] = seconds(runs[way])[1]
            runs[way]()
    for _ in range(options.turns):
        for way, (fused, _) in ways.items():
            with kernel(fused):
                found[way].append(seconds(runs[way]))
    return {way: (min(p for p, _ in all_), min(c for _, c in all_), first[way]) for way, all_ in found.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--what", choices=sorted(TASKS))
    parser.add_argument("--only", choices=sorted(NETWORKS))
    parser.add_argument("--precision", choices=("float32", "bfloat16"))
    parser.add_argument("--ways", nargs="+", choices=sorted(WAYS), default=list(WAYS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    keep_memory()
    both = ("bfloat16", "float32") if find_machine("cpu").bfloat16 else ("float32",)
    print(
        "| what | network | precision | way | processor, s | of the first | clock, s | first call, s |\n"
        + "|---" * 8
        + "|"
    )
    for what, make in TASKS.items():
        for name, (features, batch) in NETWORKS.items():
            for precision in both:
                wanted = (options.what, options.only, options.precision)
                if all(wish in (None, it) for wish, it in zip(wanted, (what, name, precision), strict=True)):
                    show(what, name, precision, compare(make, features, batch, precision, options))


def show(what, name, precision, found) -> None:
    """Print the rows of one comparison."""
    for way, (processor, clock, first) in found.items():
        share = processor / next(iter(found.values()))[0]
        print(
            f"| {what} | {name} | {precision} | {way} | {processor:.3f} | {share:.2f} | {clock:.3f} | {first:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
