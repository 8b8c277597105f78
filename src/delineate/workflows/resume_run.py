"""The single steps of a run, each on the folder that the steps before it left behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from delineate.execution import Cancellation, Progress, Silent
from delineate.formats.model_package import read_package
from delineate.training import Extension
from delineate.training.machine import AUTO, find_machine
from delineate.workflows.conclude_run import Conclusion, conclude_run
from delineate.workflows.decide_training import decide_training
from delineate.workflows.fine_tune import read_starting_point, start_from
from delineate.workflows.plan_dataset import named_folds, plan_dataset
from delineate.workflows.prepare_dataset import dataset_of_run
from delineate.workflows.run_folder import RunFolder
from delineate.workflows.train_model import TrainedModel, train_model
from delineate.workflows.training_run import TrainingRun

__all__ = ["Extension", "open_run", "report_run", "train_run"]


def open_run(root: Path, *, configuration: str | None = None, device: str = AUTO) -> TrainingRun:
    """Read a run's folder back; the dataset must still be where it was.

    Raises
    ------
    UsageError
        If the folder holds no planned run; says what to do.
    """
    folder = RunFolder(root=root, configuration=configuration)
    dataset = dataset_of_run(folder)
    machine = find_machine(device)
    planned = plan_dataset(dataset, folder)
    decision = decide_training(planned, folder, machine, budget_seconds=None)
    return TrainingRun(folder=folder, planned=planned, decision=decision, machine=machine)


def train_run(  # noqa: PLR0913 - one keyword per choice of the command line
    root: Path,
    *,
    folds: tuple[str, ...],
    configuration: str | None = None,
    extension: Extension | None = None,
    device: str = AUTO,
    workers: int = 1,
    start_model: Path | None = None,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> TrainedModel:
    """Train folds of a planned run; what is not prepared yet is prepared first.

    ``start_model`` is a trained model to start from, of the very network that was planned.

    Raises
    ------
    DelineateError
        Whatever preparing or training raises.
    """
    run = open_run(root, configuration=configuration, device=device)
    if start_model is not None:
        run = _started_from(run, start_model)
    run.prepare(workers=workers, progress=progress or Silent(), cancellation=cancellation or Cancellation())
    return train_model(
        run, folds=named_folds(run.planned, folds), extension=extension, progress=progress, cancellation=cancellation
    )


def _started_from(run: TrainingRun, model: Path) -> TrainingRun:
    decision, start = run.decision, read_starting_point(model)
    recipe = start_from(start, run.planned.dataset, run.folder, decision.configuration, decision.recipe)
    return run.with_decision(replace(decision, recipe=recipe))


def report_run(
    root: Path,
    *,
    configuration: str | None = None,
    device: str = AUTO,
    mirroring: bool = True,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> Conclusion:
    """Score a trained run and write its report again.

    Raises
    ------
    ModelError
        If the run has no trained model yet.
    """
    run = open_run(root, configuration=configuration, device=device)
    return conclude_run(
        run,
        read_package(run.folder.model),
        mirroring=mirroring,
        progress=progress,
        cancellation=cancellation,
    )
