"""The Python interface: the same flows as the command line, for programs and notebooks.

dataset = delineate.open_dataset("scans")
run = delineate.plan(dataset, out="run", budget="20min")
model = delineate.train(run)
result = model.predict("new_scan.nii.gz")
evaluation = delineate.evaluate("masks", "references", out="evaluation")
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from delineate.execution import Cancellation, Progress, Silent
from delineate.execution.quantities import read_budget
from delineate.formats.datasets import Dataset, verified, verify_dataset
from delineate.formats.datasets import open_dataset as open_folder
from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.planning.presets import DEFAULT, Preset
from delineate.training.machine import AUTO, find_machine
from delineate.workflows.claim_folder import claim_folder
from delineate.workflows.decide_training import decide_training
from delineate.workflows.evaluate_model import evaluate_model
from delineate.workflows.evaluation_request import METRICS, TOLERANCE_MM, EvaluationRequest, policy_named
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


def evaluate(  # noqa: PLR0913 - the door of the library: one keyword per choice of the command line
    predictions: Path | str | EvaluationRequest,
    references: Path | str | None = None,
    *,
    out: Path | str,
    table: Path | str | None = None,
    by: Sequence[str] = (),
    compare: Mapping[str, Path | str] | None = None,
    metrics: Sequence[str] = METRICS,
    tolerance_mm: float | Mapping[str, float] = TOLERANCE_MM,
    policy: str = "worst-value",
    workers: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> Evaluation:
    """Measure predicted label maps against references; write the page, the results and the tables.

    Parameters
    ----------
    predictions
        A folder of label maps named like the cases, or a run (its validation cases of all folds); or a whole request,
        which has further choices and replaces all keywords but ``out``.
    references
        A dataset, a run or a folder of label maps; None: the dataset of the run in ``predictions``.
    out
        Folder for ``report.html``, ``results.json`` and the tables.
    table
        Table of cases: patients, and columns for ``by``.
    by
        Columns whose groups are compared; ``"age:10"`` cuts bands, ``"size"`` needs no table.
    compare
        Name -> folder of another model's predictions of the same cases.
    metrics
        Names from :data:`delineate.metrics.METRICS`.
    tolerance_mm
        Of the surface Dice: one number, or by structure.
    policy
        What empty masks are worth: ``worst-value``, ``nnunet`` or ``metrics-reloaded``.
    workers
        Processes that measure; a script that asks for several must be guarded by ``if __name__ == "__main__"``.
    seed
        Of bootstrap and permutations.
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Returns
    -------
    Evaluation
        Cases without a usable prediction count with the worst values and stand in ``failed``.

    Raises
    ------
    UsageError
        If something is asked for that does not exist.
    DatasetError
        If files cannot be compared; tells all faults at once.
    Interrupted
        If a stop was requested; what is measured stays.
    """
    if isinstance(predictions, EvaluationRequest):
        request = predictions
    else:
        request = EvaluationRequest(
            predictions=Path(predictions),
            references=None if references is None else Path(references),
            table=None if table is None else Path(table),
            by=tuple(by),
            others={name: Path(folder) for name, folder in (compare or {}).items()},
            metrics=tuple(metrics),
            tolerance_mm=tolerance_mm,
            policy=policy_named(policy),
            workers=workers,
            seed=seed,
        )
    return evaluate_model(request, Path(out), progress=progress, cancellation=cancellation)
