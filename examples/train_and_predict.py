"""The Python interface, from a folder of scans to a mask: runs on phantoms in about two minutes on a laptop.

    python examples/train_and_predict.py [FOLDER [BUDGET]]

Without a folder a small data set of phantom torsos is written first.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import delineate
from delineate.workflows.write_phantoms import write_phantoms


def main(folder: Path | None = None, budget: str = "60s") -> float:
    """Train on a folder, segment its first test image and return the pseudo-Dice of training."""
    with tempfile.TemporaryDirectory() as work:
        if folder is None:
            folder = Path(work) / "phantoms"
            write_phantoms(folder, cases=10, held_out=2, scale=1.5, seed=0)
        dataset = delineate.open_dataset(folder)
        run = delineate.plan(dataset, out=Path(work) / "run", budget=budget)
        for reason in run.decision.recipe.reasons:
            print(reason)
        model = delineate.train(run)
        result = model.predict(dataset.testing[0].images[0])
        print(f"mask of shape {result.labels.array.shape} in {result.provenance.seconds:.1f} s")
        return float(model.package.facts["pseudo_dice"]["0"])


if __name__ == "__main__":
    arguments = sys.argv[1:]
    dice = main(Path(arguments[0]) if arguments else None, arguments[1] if len(arguments) > 1 else "60s")
    print(f"Dice on validation patches {dice:.3f}")
