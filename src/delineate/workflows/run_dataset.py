"""The whole job: from a folder of annotated scans and a time to a trained model, masks for new scans and a report.

Every stage keeps what it did in the run's folder, so the same command goes on where an interrupted one stopped.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

from delineate.execution import Cancellation, Progress, Silent, Watched, write_text
from delineate.formats.datasets import Dataset, open_dataset, verified, verify_dataset
from delineate.formats.nnunet.dataset_json import dataset_json
from delineate.formats.recipe_json import write_recipe
from delineate.inference import Tiling
from delineate.inference.tiling import lay_tiles
from delineate.metrics.summary import Summary
from delineate.planning.budget import check_budget
from delineate.planning.presets import DEFAULT, Preset
from delineate.reports import Fact, describe_plan
from delineate.training.machine import AUTO, find_machine
from delineate.workflows.claim_folder import claim_folder
from delineate.workflows.conclude_run import conclude_run
from delineate.workflows.decide_training import Decision, decide_training
from delineate.workflows.plan_dataset import PlannedDataset, named_folds, plan_dataset
from delineate.workflows.planning_rule import PlanningRule, planning_rule
from delineate.workflows.run_folder import RunFolder
from delineate.workflows.split_rule import BY_PATIENT, SplitRule
from delineate.workflows.train_model import train_model
from delineate.workflows.training_run import TrainingRun

REPORT_SECONDS = 8.0
"""Kept free for scoring and writing the report."""
FORWARD_SHARE = 0.4
"""Time of predicting a patch relative to training on it; a third would be the share of the operations."""
MOST_RESERVE = 0.2
"""Largest part of a budget kept free for prediction; mirroring is left out where it would take more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """What the user asked for."""

    budget_seconds: float | None
    """Wall-clock time for everything; None: nnU-Net's own schedule."""
    folds: tuple[str, ...] = ("0",)
    """Numbers, ``all``, or ``every`` for all that the splits have."""
    configuration: str | None = None
    """Name of the plan's configuration to train, such as ``3d_lowres``; None: the planner chooses."""
    preset: Preset = DEFAULT
    device: str = AUTO
    memory_bytes: int | None = None
    workers: int = 1
    repairs: frozenset[str] = frozenset()
    mirroring: bool = True
    """Average predictions over mirrored images."""
    start_model: Path | None = None
    """A trained model to start from."""
    plan_of: Path | None = None
    """A run's folder or plans file of another dataset, whose plan is used."""
    split: SplitRule = BY_PATIENT
    """How the cases are divided into folds."""
    command: str = "delineate run"
    """How the run was started, for the report."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RunOutcome:
    """What the whole job left behind."""

    folder: RunFolder
    decision: Decision
    validation: Summary
    """Of the validation cases of the trained folds."""
    test: Summary | None
    """Of the dataset's test cases, where it has references for them."""
    seconds: float
    """Wall-clock time of everything."""


@dataclass(kw_only=True)
class _Stopwatch:
    """Time since the start, and what each stage took."""

    began: float = field(default_factory=time.monotonic)
    stages: list[tuple[str, float]] = field(default_factory=list)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def lap(self, name: str) -> None:
        self.stages.append((name, self.elapsed - sum(seconds for _, seconds in self.stages)))


def run_dataset(
    source: Path,
    out: Path,
    settings: RunSettings,
    *,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> RunOutcome:
    """Verify, plan, prepare, train, predict, score and report.

    Parameters
    ----------
    source
        The dataset's folder.
    out
        The run's folder; made if needed. An interrupted run of the same dataset goes on there.
    settings
        What was asked for.
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    DelineateError
        Whatever a stage raises; what earlier stages did stays in ``out``.
    """
    watched = Watched(progress=progress or Silent(), cancellation=cancellation or Cancellation())
    watch, folder = _Stopwatch(), RunFolder(root=out, configuration=settings.configuration)
    if settings.budget_seconds is not None:
        check_budget(settings.budget_seconds)
    machine = find_machine(settings.device, memory_bytes=settings.memory_bytes)
    rule = planning_rule(settings.start_model, settings.plan_of)
    dataset = _sound_dataset(source, folder, settings, rule, **watched)
    watch.lap("verify")
    planned = _planned(dataset, folder, settings, rule, **watched)
    settings = replace(settings, folds=named_folds(planned, settings.folds))
    watch.lap("plan")
    seconds = _training_seconds(settings, watch)
    decision = decide_training(planned, folder, machine, budget_seconds=seconds, start=rule.start)
    watch.lap("decide")
    run = TrainingRun(folder=folder, planned=planned, decision=decision, machine=machine)
    run.prepare(workers=settings.workers, **watched)
    watch.lap("preprocess")
    run = run.with_decision(_with_time_left(run, settings, watch))
    trained = train_model(run, folds=settings.folds, **watched)
    watch.lap("train")
    conclusion = conclude_run(
        run,
        trained.package,
        mirroring=_mirrored(run, settings),
        notices=trained.notices,
        times=_time_facts(settings, watch),
        command=settings.command,
        **watched,
    )
    return RunOutcome(
        folder=folder,
        decision=decision,
        validation=conclusion.validation,
        test=conclusion.test,
        seconds=watch.elapsed,
    )


def plan_run(
    source: Path,
    out: Path,
    settings: RunSettings,
    *,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> tuple[Decision, tuple[str, ...]]:
    """Verify and plan only; return the decision and the plan in words.

    Raises
    ------
    DelineateError
        Whatever a stage raises.
    """
    watched = Watched(progress=progress or Silent(), cancellation=cancellation or Cancellation())
    folder = RunFolder(root=out, configuration=settings.configuration)
    machine = find_machine(settings.device, memory_bytes=settings.memory_bytes)
    rule = planning_rule(settings.start_model, settings.plan_of)
    dataset = _sound_dataset(source, folder, settings, rule, **watched)
    planned = _planned(dataset, folder, settings, rule, **watched)
    decision = decide_training(planned, folder, machine, budget_seconds=settings.budget_seconds, start=rule.start)
    groups = planned.groups
    folds = () if groups is None else (f"Folds leave one {groups.column} out: {groups.words}.",)
    return decision, (*describe_plan(planned.plan, decision.configuration, decision.recipe), *folds)


def _sound_dataset(
    source: Path,
    folder: RunFolder,
    settings: RunSettings,
    rule: PlanningRule,
    *,
    progress: Progress,
    cancellation: Cancellation,
) -> Dataset:
    """Open and verify the dataset; refuse a folder that holds a run of something else."""
    dataset = open_dataset(source, repairs=settings.repairs)
    verification = verify_dataset(dataset, workers=settings.workers, progress=progress, cancellation=cancellation)
    write_text(folder.verification, json.dumps([fault.text() for fault in verification.faults], indent=1))
    dataset = verified(dataset, verification)
    claim_folder(
        folder,
        dataset,
        settings.preset,
        settings.budget_seconds,
        origin=rule.origin,
        split_by=settings.split.claim,
    )
    if not folder.dataset.exists():
        write_text(folder.dataset, json.dumps(dataset_json_of(dataset), indent=2))
    return dataset


def _planned(
    dataset: Dataset, folder: RunFolder, settings: RunSettings, rule: PlanningRule, **watched: Unpack[Watched]
) -> PlannedDataset:
    return plan_dataset(
        dataset,
        folder,
        preset=settings.preset,
        rule=rule,
        split=settings.split,
        workers=settings.workers,
        **watched,
    )


def dataset_json_of(dataset: Dataset) -> dict[str, Any]:
    """Return the dataset in nnU-Net's words."""
    return dataset_json(
        channel_names=dataset.channel_names,
        scheme=dataset.scheme,
        training_cases=dataset.declared_training_count,
        file_ending=dataset.file_ending,
        name=dataset.name,
    )


def _training_seconds(settings: RunSettings, watch: _Stopwatch, *, reserve: float = REPORT_SECONDS) -> float | None:
    """Return what is left of the budget for training one fold."""
    if settings.budget_seconds is None:
        return None
    return max(1.0, settings.budget_seconds - watch.elapsed - reserve) / len(settings.folds)


def _with_time_left(run: TrainingRun, settings: RunSettings, watch: _Stopwatch) -> Decision:
    """Give training the time that is really left, unless it has begun already."""
    decision = run.decision
    if decision.recipe.budget_seconds is None or any(run.folder.fold(fold).exists() for fold in settings.folds):
        return decision
    seconds = _training_seconds(settings, watch, reserve=REPORT_SECONDS + _prediction_reserve(run, settings))
    recipe = replace(decision.recipe, budget_seconds=seconds)
    write_recipe(run.folder.recipe, decision.configuration, recipe)
    return replace(decision, recipe=recipe)


def _prediction_reserve(run: TrainingRun, settings: RunSettings) -> float:
    """Return the seconds kept free for predicting what the report shows."""
    seconds = _prediction_seconds(run, settings, mirrored=_mirrored(run, settings))
    return min(seconds, MOST_RESERVE * (settings.budget_seconds or 0.0))


def _prediction_seconds(run: TrainingRun, settings: RunSettings, *, mirrored: bool) -> float:
    decision, planned = run.decision, run.planned
    if decision.step_seconds is None:
        return 0.0
    configuration = decision.configuration
    shape = configuration.median_shape if configuration.dims == 3 else (1, *configuration.median_shape)
    grid = lay_tiles([max(1, round(size)) for size in shape], Tiling(patch_size=configuration.patch_size))
    slices = 1 if configuration.dims == 3 else round(planned.plan.original_median_shape[0])
    validation = sum(len(run.split(fold).validation) for fold in settings.folds)
    cases = validation + len(planned.dataset.testing) * len(settings.folds)
    flips = 2 ** len(decision.recipe.mirror_axes) if mirrored else 1
    return cases * len(grid) * slices * flips * FORWARD_SHARE * decision.step_seconds / decision.recipe.batch_size


def _mirrored(run: TrainingRun, settings: RunSettings) -> bool:
    """Say whether predictions are averaged over mirrored images: if asked for and the budget allows it."""
    if settings.budget_seconds is None:
        return settings.mirroring
    return settings.mirroring and (
        _prediction_seconds(run, settings, mirrored=True) <= MOST_RESERVE * settings.budget_seconds
    )


def _time_facts(settings: RunSettings, watch: _Stopwatch) -> tuple[Fact, ...]:
    asked = "nnU-Net's own schedule" if settings.budget_seconds is None else f"{settings.budget_seconds / 60:.3g} min"
    spent = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in watch.stages)
    return (
        Fact(label="Budget", value=asked),
        Fact(label="Time used", value=f"{watch.elapsed / 60:.1f} min in this session: {spent}"),
    )
