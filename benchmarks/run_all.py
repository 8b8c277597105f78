"""The table of ratios against the peers: ``make bench``.

Needs DELINEATE_DATA (real data) and DELINEATE_ORACLE_PYTHON (an interpreter with nnunetv2 2.8.1) for the rows that
compare with nnU-Net, and DELINEATE_METRICS_ORACLE_PYTHON (one with surface-distance and monai) for those of the
metrics; what is missing is said and left out, and so are the rows of a GPU where there is none. Dice over wall time is
a benchmark of its own, because it takes as long as its budgets:
``python benchmarks/bench_quality.py --ours 5 20 --stock 20 --tuned 20``.
"""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path

import torch

import bench_gpu_step
import bench_instances
import bench_many_classes
import bench_metrics
import bench_predict
import bench_preprocess
import bench_preprocess_command
import bench_resample
import bench_restore
import bench_step
from peer import show


def main() -> None:
    """Run every benchmark in turn, alone on the machine, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model trained on Hippocampus; else prediction has random weights")
    model = parser.parse_args().model
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name in ("DELINEATE_DATA", "DELINEATE_ORACLE_PYTHON", "DELINEATE_METRICS_ORACLE_PYTHON"):
        if not os.environ.get(name):
            print(f"{name} is not set: rows that need it are left out")
    rows = []
    for benchmark in (
        bench_resample,
        bench_restore,
        bench_step,
        bench_gpu_step,
        bench_preprocess,
        bench_preprocess_command,
        bench_predict,
        bench_many_classes,
        bench_metrics,
        bench_instances,
    ):
        print(f"running {benchmark.__name__} ...", flush=True)
        rows.extend(benchmark.measure(model=model) if benchmark is bench_predict else benchmark.measure())
    show(rows)


if __name__ == "__main__":
    main()
