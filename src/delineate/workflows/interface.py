"""The Python interface: the same flows as the command line, for programs and notebooks.

dataset = delineate.open_dataset("scans")
run = delineate.plan(dataset, out="run", budget="20min")
model = delineate.train(run)
result = model.predict("new_scan.nii.gz")
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from delineate.execution import Cancellation, Progress, Silent
from delineate.execution.quantities import read_budget
from delineate.formats.datasets import Dataset, verified, verify_dataset
from delineate.formats.datasets import open_dataset as open_folder
from delineate.planning.presets import DEFAULT, Preset
from delineate.training.machine import AUTO, find_machine
from delineate.workflows.claim_folder import claim_folder
from delineate.workflows.decide_training import decide_training
from delineate.workflows.model import Model, assemble
from delineate.workflows.plan_dataset import named_folds, plan_dataset
from delineate.workflows.planning_rule import planning_rule
from delineate.workflows.run_folder import RunFolder
from delineate.workflows.split_rule import split_rule
from delineate.workflows.train_model import train_model
from delineate.workflows.training_run import TrainingRun


def open_dataset(folder: Path | str, *, repairs: Sequence[str] = (), verify: bool = True) -> Dataset:
    """Open a folder of scans with masks: nnU-Net raw, Medical Segmentation Decathlon, or pairs of files.

    Parameters
    ----------
    folder
        The dataset's folder.
    repairs
        Names of repairs to apply while loading, as ``delineate verify`` suggests them.
    verify
        Look at every file first and raise all faults at once.

    Raises
    ------
    DatasetError
        If the folder is not understood, or has faults.
    UsageError
        If a repair is unknown.
    """
    dataset = open_folder(Path(folder), repairs=frozenset(repairs))
    return verified(dataset, verify_dataset(dataset)) if verify else dataset


def plan(  # noqa: PLR0913 - the door of the library: one keyword per choice of the command line
    dataset: Dataset,
    *,
    out: Path | str | None = None,
    budget: str | float | None = None,
    device: str = AUTO,
    configuration: str | None = None,
    memory_bytes: int | None = None,
    preset: Preset = DEFAULT,
    start_model: Path | str | None = None,
    split_by: str | None = None,
    table: Path | str | None = None,
    progress: Progress | None = None,
) -> TrainingRun:
    """Measure the dataset and the machine, and decide what to train and how.

    Parameters
    ----------
    dataset
        From :func:`open_dataset`.
    out
        The run's folder; None: a new temporary one.
    budget
        Time for training: seconds, or text such as ``"20min"``; None or ``"standard"``: nnU-Net's own schedule.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    configuration
        Name of the plan's configuration to train, such as ``"3d_lowres"``; None: the planner chooses.
    memory_bytes
        Memory that training may use; None: what is free.
    preset
        nnU-Net's default planner, one of its residual-encoder presets, or a MedNeXt.
    start_model
        A trained model to start from (fine-tuning): a package, a run, or a model of nnU-Net; the network is its.
    split_by
        Column of a table, such as ``"site"``: every fold holds out one of its groups; None: folds by patient.
    table
        CSV or TSV file with a row per case; None: the one in the dataset's folder.
    progress
        Where to tell how far it is.

    Raises
    ------
    UsageError
        If ``out`` holds a run of another dataset or with other settings.
    PlanError
        If the budget is too short, or the dataset cannot be planned.
    ResourceError
        If the device does not exist, or nothing fits its memory.
    """
    root = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="delineate-"))
    folder = RunFolder(root=root, configuration=configuration)
    machine = find_machine(device, memory_bytes=memory_bytes)
    seconds = read_budget(budget) if isinstance(budget, str) else budget
    rule = planning_rule(None if start_model is None else Path(start_model))
    split = split_rule(split_by, None if table is None else Path(table))
    claim_folder(folder, dataset, preset, seconds, origin=rule.origin, split_by=split.claim)
    planned = plan_dataset(dataset, folder, preset=preset, rule=rule, split=split, progress=progress)
    decision = decide_training(planned, folder, machine, budget_seconds=seconds, start=rule.start)
    return TrainingRun(planned=planned, decision=decision, folder=folder, machine=machine)


def train(
    run: TrainingRun,
    *,
    folds: Sequence[str] = ("0",),
    workers: int = 1,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> Model:
    """Prepare the cases, train the folds and return the model; goes on where an interrupted training stopped.

    Parameters
    ----------
    run
        From :func:`plan`; ``run.decision.recipe.reasons`` says why it is planned so.
    folds
        ``"0"`` to ``"4"``, ``"every"`` for all folds that there are, or ``"all"`` to train on every case.
    workers
        Threads for preparing cases.
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    TrainingError
        If training diverged.
    ResourceError
        If memory or disk do not suffice.
    Interrupted
        If a stop was requested; the state is saved in the run's folder.
    """
    run.prepare(workers=workers, progress=progress or Silent(), cancellation=cancellation or Cancellation())
    trained = train_model(run, folds=named_folds(run.planned, folds), progress=progress, cancellation=cancellation)
    return assemble(trained.package, run.machine)
