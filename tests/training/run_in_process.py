"""Train the toy network in a process of its own, so that a test can kill it.

Arguments: folder, seconds to wait in every step, prefetch.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from delineate.training import Runtime, TrainingCases, fit
from training.toys import toy_assignment, toy_cases, toy_network


def main(folder: Path, pause: float, prefetch: int) -> None:
    cases = toy_cases()

    def open_slowly(case_id: str):
        time.sleep(pause)
        return cases.open(case_id)

    slow = TrainingCases(training=cases.training, validation=cases.validation, open=open_slowly)
    runtime = Runtime(checkpoint_every_seconds=0.0, prefetch=prefetch, tensorboard=False, cache_bytes=0)
    assignment = toy_assignment(iterations=16, optimizer="adamw", learning_rate=1e-3, schedule="cosine")
    fitted = fit(toy_network(), slow, assignment, folder, runtime=runtime)
    torch.save(fitted.weights, folder / "weights.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
