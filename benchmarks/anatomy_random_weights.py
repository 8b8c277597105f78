"""The whole of ``delineate anatomy`` on a scan, with the five sub-models of ``total`` at their true size.

    python benchmarks/anatomy_random_weights.py SCAN [--patch 128] [--features 32 64 128 256 320 320] [OPTIONS]

Writes five trained models of nnU-Net with random weights (24, 26, 18, 23 and 26 structures, plans of the older form)
into a temporary folder, runs the command in a process of its own, and prints its time and peak memory. Options that
are not its own go to the command.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "workflows"))
from anatomy_models import Shape, write_variant

from delineate.planning.anatomy import task_named

POLL_SECONDS = 0.1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--variant", default="normal", choices=("normal", "fast", "fastest"))
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--features", type=int, nargs="+", default=[32, 64, 128, 256, 320, 320])
    options, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / "results", Path(folder) / "out"
        shape = Shape(patch=options.patch, features=tuple(options.features))
        write_variant(root, task_named("total").variant(options.variant), shape)
        size = sum(f.stat().st_size for f in root.rglob("*.pth"))
        print(f"models    {len(list(root.iterdir()))}, {size / 2**20:.0f} MiB of weights")
        flags = [] if options.variant == "normal" else [f"--{options.variant}"]
        command = [sys.executable, "-m", "delineate.cli.main", "anatomy", str(options.scan), "-o", str(out)]
        seconds, peak, code = watched([*command, "--weights", str(root), *flags, *rest])
    print(f"command   {seconds:.1f} s, peak {peak / 2**30:.2f} GiB, exit code {code}")
    return code


def watched(command: list[str]) -> tuple[float, int, int]:
    """Run a command; return seconds, largest resident memory of the process, and its exit code."""
    began, peak = time.perf_counter(), 0
    with subprocess.Popen(command) as process:
        observed = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, observed.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(POLL_SECONDS)
        code = process.wait()
    return time.perf_counter() - began, peak, code


if __name__ == "__main__":
    sys.exit(main())
