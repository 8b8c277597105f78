"""Every benchmark can be started: what it takes from the package is still there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PEERS = "_peer"
"""Ending of the scripts that other programs' interpreters run."""
IMPORT_ALL = """
import importlib, sys, traceback
failed = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception:
        traceback.print_exc()
        failed.append(name)
sys.exit(len(failed))
"""


def test_every_script_is_imported() -> None:
    names = sorted(file.stem for file in BENCHMARKS.glob("*.py") if not file.stem.endswith(PEERS))
    assert {"run_all", "bench_quality", "parity_table"} <= set(names)
    command = [sys.executable, "-c", IMPORT_ALL, *names]
    paths = os.pathsep.join([str(BENCHMARKS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
