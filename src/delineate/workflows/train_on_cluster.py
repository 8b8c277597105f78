"""Folds of one or several runs on the workers of a cluster: each fold of each run is one task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from delineate.errors import SomeCasesFailed
from delineate.execution import Cancellation, Cluster, Progress, Watched, map_items
from delineate.training import Extension
from delineate.training.machine import AUTO
from delineate.workflows.plan_dataset import named_folds
from delineate.workflows.resume_run import open_run
from delineate.workflows.train_model import TrainedModel, train_fold, train_model


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldTask:
    """One fold of one run; plain data."""

    root: Path
    configuration: str | None
    fold: str
    device: str
    extension: Extension | None


def train_on_cluster(
    roots: Sequence[Path],
    folds: Sequence[str],
    cluster: Cluster,
    *,
    configuration: str | None = None,
    extension: Extension | None = None,
    device: str = AUTO,
    progress: Progress,
    cancellation: Cancellation,
) -> dict[Path, TrainedModel]:
    """Prepare the cases of planned runs, train all their folds on the workers, and write the model packages.

    Every fold keeps checkpoints in its own folder, so the fold of a lost worker goes on from the last one. Runs of
    different configurations of one dataset are trained side by side.

    Parameters
    ----------
    roots
        Folders of planned runs; they and their datasets must be reachable for the workers.
    folds
        Names of folds, the same for every run.
    cluster
        The workers.
    configuration
        Name of the configuration that was planned; None: the one that the planner chose.
    extension
        More training for finished folds.
    device
        What each worker trains on.
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Returns
    -------
    dict
        What training left behind, by run.

    Raises
    ------
    SomeCasesFailed
        If folds could not be trained; names each with its reason, the others are trained.
    DelineateError
        Whatever preparing raises.
    Interrupted
        If a stop was requested; running folds have saved their state.
    """
    watched = Watched(progress=progress, cancellation=cancellation)
    runs = {root.resolve(): open_run(root.resolve(), configuration=configuration, device=device) for root in roots}
    for run in runs.values():
        run.prepare(cluster=cluster, **watched)
    tasks = [
        FoldTask(root=root, configuration=configuration, fold=fold, device=device, extension=extension)
        for root, run in runs.items()
        for fold in named_folds(run.planned, folds)
    ]
    outcomes = map_items(partial(train_one, cluster.cancellation), tasks, what="train", backend=cluster, **watched)
    failures = [f"{o.item.root.name}, fold {o.item.fold}: {o.error}" for o in outcomes if o.error is not None]
    if failures:
        raise SomeCasesFailed(f"{len(failures)} of {len(tasks)} folds could not be trained.", failures)
    # all are finished: only the package
    return {root: train_model(run, folds=named_folds(run.planned, folds)) for root, run in runs.items()}


def train_one(cancellation: Cancellation, task: FoldTask) -> None:
    """Train one fold in a worker; its checkpoints are the result.

    Raises
    ------
    DelineateError
        Whatever training raises.
    """
    run = open_run(task.root, configuration=task.configuration, device=task.device)
    train_fold(run, task.fold, extension=task.extension, cancellation=cancellation)
