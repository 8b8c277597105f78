"""Dice over wall time on MSD Hippocampus, fold 0: `delineate run` against nnU-Net, stock and tuned by hand.

Ours counts everything, from the first look at the files to the report; nnU-Net only its training steps. Needs
DELINEATE_DATA and, for the peer, DELINEATE_ORACLE_PYTHON. Takes the sum of all budgets, so it is not part of
`make bench` unless asked for: `python benchmarks/bench_quality.py --ours 5 20 --stock 20 --tuned 20` (minutes).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from delineate.formats.datasets import open_dataset
from delineate.formats.nnunet.splits_json import splits_to_json
from delineate.workflows.run_dataset import RunSettings, run_dataset
from delineate.workflows.split_rule import splits_of
from peer import PEER_ALLOCATOR

POINTS = (1 / 8, 1 / 4, 1 / 2, 3 / 4)
"""Shares of the budget at which the peer is scored on its way."""


def ours(minutes: float, out: Path) -> dict[str, Any]:
    """Run the whole job for a budget and return what it reached."""
    settings = RunSettings(budget_seconds=60 * minutes, folds=("0",), workers=os.cpu_count() or 1)
    outcome = run_dataset(_dataset(), out, settings)
    dice = [s.dice.mean for s in outcome.validation.structures]
    return {
        "who": "Delineate",
        "minutes": outcome.seconds / 60,
        "anterior": dice[0],
        "posterior": dice[1],
        "mean": outcome.validation.foreground_dice,
    }


def peer(mode: str, minutes: float, work: Path) -> list[dict[str, Any]]:
    """Train nnU-Net for as long and return its points."""
    dataset = open_dataset(_dataset())
    task = {
        "dataset": str(_dataset()),
        "work": str(work),
        "mode": mode,
        "seconds": 60 * minutes,
        "threads": torch.get_num_threads(),
        "points": [60 * minutes * share for share in POINTS],
        "splits": splits_to_json(splits_of(dataset)),
    }
    path = work / "task.json"
    path.write_text(json.dumps(task))
    script = Path(__file__).with_name("quality_peer.py")
    command = [os.environ["DELINEATE_ORACLE_PYTHON"], str(script), str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **PEER_ALLOCATOR})
    points = [json.loads(line.removeprefix("POINT ")) for line in done.stdout.splitlines() if line.startswith("POINT ")]
    return [{"who": f"nnU-Net {mode}", "minutes": point.pop("seconds") / 60, **point} for point in points]


def main() -> None:
    """Run what is asked for and print one line per point."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("ours", "stock", "tuned"):
        parser.add_argument(f"--{name}", nargs="*", type=float, default=[], metavar="MINUTES")
    options = parser.parse_args()
    print("| who | minutes | steps | anterior | posterior | mean |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for minutes in options.ours:
            _show(ours(minutes, Path(folder) / f"ours-{minutes:g}"))
        for mode in ("stock", "tuned"):
            for minutes in getattr(options, mode):
                for point in peer(mode, minutes, Path(folder)):
                    _show(point)


def _dataset() -> Path:
    data = os.environ.get("DELINEATE_DATA")
    if not data:
        sys.exit("set DELINEATE_DATA to the folder that holds `hippocampus`")
    return Path(data) / "hippocampus"


def _show(row: dict[str, Any]) -> None:
    who = row["who"] + (", mirrored" if row.get("mirrored") else "")
    dice = " | ".join(f"{row[name]:.4f}" for name in ("anterior", "posterior", "mean"))
    print(f"| {who} | {row['minutes']:.1f} | {row.get('steps', '')} | {dice} |", flush=True)


if __name__ == "__main__":
    main()
