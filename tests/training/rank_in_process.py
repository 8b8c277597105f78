"""One rank of toy trainings, so that a test can start several and kill one.

Arguments: folder, rank, world size, port, and as JSON a list of options, one for each training, the name of its folder
among them. Writes what it found to ``{name}_rank_{r}.pt``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from delineate.case.labels import LabelScheme, Structure
from delineate.errors import DelineateError
from delineate.execution import Cancellation
from delineate.training import Assignment, Runtime, fit, loop
from delineate.training.distributed import Place, join
from delineate.training.ranks import Ranks
from training.toys import toy_cases, toy_configuration, toy_network, toy_recipe

REGIONS = LabelScheme(
    structures=(Structure(name="both", values=(1, 2)), Structure(name="one", values=(2,))),
    region_order=(1, 2),
    ignore=3,
)


class CancelledAt(Cancellation):
    """Asks for a stop when it is looked at for the n-th time."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    @property
    def requested(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def assignment_for(options: dict) -> Assignment:
    recipe = toy_recipe(
        augmentation="nnunet", batch_size=options.get("batch_size", 3), iterations=options.get("iterations", 6)
    )
    recipe = replace(recipe, budget_seconds=options.get("budget"), iterations_per_epoch=3, validation_batches=3)
    configuration = toy_configuration(batch_dice=options.get("batch_dice", False))
    scheme = REGIONS if options.get("regions") else LabelScheme.simple("anterior", "posterior")
    return Assignment(configuration=configuration, recipe=recipe, scheme=scheme)


def train(folder: Path, options: dict, ranks: Ranks) -> dict:
    """Train and return the loss of every step and the weights, the averaged ones too."""
    losses: list[float] = []
    plain = loop.train_step

    def noted(*arguments):
        outcome = plain(*arguments)
        losses.append(outcome.loss)
        if (ranks.index, len(losses)) == (options.get("killed_rank"), options.get("killed_step")):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(options.get("pause", 0.0) * (1 + ranks.index))  # ranks of different speed
        return outcome

    loop.train_step = noted
    network = toy_network(heads=2 if options.get("regions") else 3, dropout=0.0)
    cancellation = CancelledAt(options["cancel_at"]) if ranks.index == options.get("cancelling_rank") else None
    try:
        fitted = fit(
            network,
            toy_cases(classes=(1, 2, 3) if options.get("regions") else (1, 2)),
            assignment_for(options),
            folder,
            runtime=Runtime(tensorboard=False, checkpoint_every_seconds=0.0, ranks=ranks),
            cancellation=cancellation,
        )
    finally:
        loop.train_step = plain
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    records = [{k: r[k] for k in ("step", "loss", "dice")} for r in fitted.records]
    return {"losses": losses, "weights": weights, "average": fitted.weights, "records": records, "steps": fitted.steps}


def main(folder: Path, rank: int, size: int, port: int, trainings: list[dict]) -> int:
    torch.set_num_threads(1)
    place = Place(rank=rank, world_size=size, local_rank=rank, local_size=size, address="127.0.0.1", port=port)
    try:
        with join(place, "cpu") as ranks:
            for options in trainings:
                found = train(folder / options["name"], options, ranks)
                torch.save(found, folder / f"{options['name']}_rank_{rank}.pt")
    except DelineateError as error:
        torch.save({"error": f"{type(error).__name__}: {error}"}, folder / f"{options['name']}_rank_{rank}.pt")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *(int(word) for word in sys.argv[2:5]), json.loads(sys.argv[5])))
