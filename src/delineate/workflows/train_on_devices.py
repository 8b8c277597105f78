"""One fold on several devices: the processes are started, meet, and train the same fold on shares of one batch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from delineate.execution import Watched
from delineate.training import Extension
from delineate.training.distributed import Place, join, launch
from delineate.training.machine import AUTO
from delineate.workflows.plan_dataset import named_folds
from delineate.workflows.resume_run import open_run
from delineate.workflows.train_model import TrainedModel, train_model

__all__ = ["Place", "start_processes", "train_in_place"]


def start_processes(words: Sequence[str], devices: int) -> int:
    """Run the command line ``words`` in one process per device of this machine and return the exit code.

    Raises
    ------
    ResourceError
        If a process was killed.
    Interrupted
        If the user stopped the training.
    """
    return launch([sys.executable, "-m", "delineate.cli.main", *words], devices)


def train_in_place(
    root: Path,
    place: Place,
    *,
    folds: Sequence[str],
    configuration: str | None = None,
    extension: Extension | None = None,
    device: str = AUTO,
    workers: int = 1,
    **watched: Unpack[Watched],
) -> TrainedModel:
    """Train folds of a planned run as one of several processes; the first one prepares cases and writes files.

    Parameters
    ----------
    root
        Folder of the run; all processes must see the same one.
    place
        Which process this is.
    folds
        Names of folds.
    configuration
        Name of the configuration that was planned; None: the one that the planner chose.
    extension
        More training for finished folds.
    device
        ``auto`` and ``cuda`` give each process of a machine a GPU of its own.
    workers
        Threads for preparing cases.
    **watched
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    DelineateError
        Whatever preparing or training raises.
    """
    run = open_run(root, configuration=configuration, device=place.device(device))
    with join(place, run.machine.device) as ranks:
        if ranks.writes:
            run.prepare(workers=workers, **watched)
        ranks.wait()
        return train_model(run, folds=named_folds(run.planned, folds), extension=extension, ranks=ranks, **watched)
