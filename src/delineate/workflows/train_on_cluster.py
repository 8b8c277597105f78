"""Folds x configurations of one or several runs on the workers of a cluster: each fold of each is one task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from delineate.errors import SomeCasesFailed
from delineate.execution import Cancellation, Cluster, Outcome, Progress, Watched, map_items
from delineate.training import Extension
from delineate.training.machine import AUTO
from delineate.workflows.plan_dataset import named_folds
from delineate.workflows.resume_run import open_run
from delineate.workflows.train_model import TrainedModel, train_fold, train_model
from delineate.workflows.training_run import TrainingRun


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldTask:
    """One fold of one run; plain data."""

    root: Path
    configuration: str | None
    fold: str
    device: str
    extension: Extension | None

    @property
    def words(self) -> str:
        """Configuration, if it was asked for by name, and fold."""
        return f"fold {self.fold}" if self.configuration is None else f"{self.configuration}, fold {self.fold}"


def train_on_cluster(
    roots: Sequence[Path],
    folds: Sequence[str],
    cluster: Cluster,
    *,
    configurations: Sequence[str | None] = (None,),
    extension: Extension | None = None,
    device: str = AUTO,
    progress: Progress,
    cancellation: Cancellation,
) -> dict[Path, TrainedModel]:
    """Prepare the cases of planned runs, train all their folds on the workers, and write the model packages.

    Every fold keeps checkpoints in its own folder, so the fold of a lost worker goes on from the last one. All folds of
    all configurations are trained side by side, but for the second stage of a cascade: it waits for the first if that
    is among the configurations.

    Parameters
    ----------
    roots
        Folders of planned runs; they and their datasets must be reachable for the workers.
    folds
        Names of folds, the same for every run.
    cluster
        The workers.
    configurations
        Names of configurations that were planned; None: the one that the planner chose.
    extension
        More training for finished folds.
    device
        What each worker trains on.
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Returns
    -------
    dict
        What training left behind, by the folder in which the configuration's own files stand: the run's, or a
        sub-folder with the configuration's name.

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
    opened = [open_run(root.resolve(), configuration=name, device=device) for root in roots for name in configurations]
    for run in opened:
        run.prepare(cluster=cluster, **watched)
    trained: dict[Path, TrainedModel] = {}
    for runs in _waves({run.folder.own: run for run in opened}):
        tasks = [
            FoldTask(
                root=run.folder.root,
                configuration=run.folder.configuration,
                fold=fold,
                device=device,
                extension=extension,
            )
            for run in runs.values()
            for fold in named_folds(run.planned, folds)
        ]
        _require_trained(
            map_items(partial(train_one, cluster.cancellation), tasks, what="train", backend=cluster, **watched)
        )
        # all are finished: only the package
        trained |= {own: train_model(run, folds=named_folds(run.planned, folds)) for own, run in runs.items()}
    return trained


def train_one(cancellation: Cancellation, task: FoldTask) -> None:
    """Train one fold in a worker; its checkpoints are the result.

    Raises
    ------
    DelineateError
        Whatever training raises.
    """
    run = open_run(task.root, configuration=task.configuration, device=task.device)
    train_fold(run, task.fold, extension=task.extension, cancellation=cancellation)


def _waves(runs: Mapping[Path, TrainingRun]) -> tuple[dict[Path, TrainingRun], ...]:
    """Divide runs by their own folders into those that can be trained at once and the second stages that wait."""
    waiting = {
        own
        for own, run in runs.items()
        if (before := run.decision.configuration.previous_stage) is not None and run.folder.root / before in runs
    }
    first = {own: run for own, run in runs.items() if own not in waiting}
    second = {own: run for own, run in runs.items() if own in waiting}
    return (first, second) if second else (first,)


def _require_trained(outcomes: Sequence[Outcome[FoldTask, None]]) -> None:
    failed = [(outcome.item, outcome.error) for outcome in outcomes if outcome.error is not None]
    if failed:
        raise SomeCasesFailed(
            f"{len(failed)} of {len(outcomes)} folds could not be trained.",
            [f"{task.root.name}, {task.words}: {error}" for task, error in failed],
        )
