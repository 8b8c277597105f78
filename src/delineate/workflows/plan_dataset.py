"""From a dataset to a plan: every case is measured once, then the rules decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from delineate.errors import DatasetError, InputError, PlanError, UsageError
from delineate.execution import Cancellation, Progress, map_items
from delineate.formats.datasets import CaseFiles, Dataset
from delineate.formats.fold_groups_json import read_fold_groups, write_fold_groups
from delineate.formats.nnunet.fingerprint_json import read_fingerprint, write_fingerprint
from delineate.formats.nnunet.plans_json import read_plan, write_plan
from delineate.formats.nnunet.splits_json import read_splits, write_splits
from delineate.planning.fingerprint import CaseMeasurement, Fingerprint, measure_case, pool, samples_per_case
from delineate.planning.plan import Plan
from delineate.planning.planner import DatasetFacts
from delineate.planning.presets import DEFAULT, Preset
from delineate.planning.splits import FoldGroups, Split, choose_split
from delineate.workflows.planning_rule import PlanningRule
from delineate.workflows.run_folder import RunFolder
from delineate.workflows.split_rule import BY_PATIENT, SplitRule

EVERY_CASE = "all"
"""Name of the fold that trains on every case."""
EVERY_FOLD = "every"
"""Stands for all folds that the splits have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedDataset:
    """A dataset and what was decided about it."""

    dataset: Dataset
    fingerprint: Fingerprint
    plan: Plan
    splits: tuple[Split, ...]
    groups: FoldGroups | None = None
    """Which group (site) each fold holds out; None: the folds are a cross-validation by patient."""

    def title(self, fold: str) -> str:
        """Return what a reader calls a fold: ``fold 2``, or ``fold 2 (site UCL)``."""
        if self.groups is None or fold == EVERY_CASE:
            return f"fold {fold}"
        return f"fold {fold} ({self.groups.column} {self.groups.names[int(fold)]})"


def plan_dataset(
    dataset: Dataset,
    folder: RunFolder,
    *,
    preset: Preset = DEFAULT,
    rule: PlanningRule | None = None,
    split: SplitRule | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> PlannedDataset:
    """Measure a dataset, plan it and divide it into folds; write all three into the run's folder.

    ``rule`` says how the plan is decided; None: by the planner alone. ``split`` says how the folds are made; None: by
    patient.
    What already stands in the folder is read instead, so an interrupted run goes on and a plan edited by hand is used.

    Raises
    ------
    DatasetError
        If cases cannot be read; names all of them.
    UsageError
        If the folder holds folds of other groups than the table now says.
    PlanError
        If the dataset cannot be planned, or a file in the folder is damaged.
    Interrupted
        If a stop was requested.
    """
    if folder.fingerprint.exists():
        fingerprint = read_fingerprint(folder.fingerprint)
    else:
        fingerprint = measure_dataset(dataset, workers=workers, progress=progress, cancellation=cancellation)
        write_fingerprint(folder.fingerprint, fingerprint)
    if folder.plan.exists():
        plan = read_plan(folder.plan)
    else:
        plan = (rule or PlanningRule()).decide(fingerprint, facts_of(dataset), preset)
        write_plan(folder.plan, plan)
    splits, groups = _folds(dataset, folder, split or BY_PATIENT)
    return PlannedDataset(dataset=dataset, fingerprint=fingerprint, plan=plan, splits=splits, groups=groups)


def _folds(dataset: Dataset, folder: RunFolder, rule: SplitRule) -> tuple[tuple[Split, ...], FoldGroups | None]:
    """Read the folds that stand in the folder, or make and write them; the groups first, so that they never lack."""
    if not folder.splits.exists():
        splits, groups = rule.divide(dataset)
        if groups is not None:
            write_fold_groups(folder.fold_groups, groups)
        write_splits(folder.splits, splits)
        return splits, groups
    splits = read_splits(folder.splits)
    groups = read_fold_groups(folder.fold_groups) if folder.fold_groups.exists() else None
    if groups is not None and len(groups.names) != len(splits):
        raise PlanError(
            f"{folder.fold_groups} names {len(groups.names)} groups, {folder.splits} has {len(splits)} folds. Delete "
            "both to make them again."
        )
    if rule.column is not None and rule.divide(dataset) != (splits, groups):
        raise UsageError(
            f"{folder.root} holds folds of other groups than the table now says by the column {rule.column}. Choose "
            "another --out, or use the table that the run was planned with."
        )
    return splits, groups


def measure_dataset(
    dataset: Dataset,
    *,
    workers: int = 1,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> Fingerprint:
    """Read every training case once and return the fingerprint.

    Raises
    ------
    DatasetError
        If cases cannot be read; names all of them.
    Interrupted
        If a stop was requested.
    """
    samples = samples_per_case(len(dataset.training))
    outcomes = map_items(
        partial(_measured, dataset, samples),
        dataset.training,
        what="fingerprint",
        workers=workers,
        backend="threads",
        progress=progress,
        cancellation=cancellation,
    )
    failures = [f"{o.item.case_id}: {o.error}" for o in outcomes if o.error is not None]
    if failures:
        raise DatasetError(f"{len(failures)} case(s) of {dataset.root} cannot be measured.", failures)
    measurements = [o.value for o in outcomes if o.value is not None]
    return pool(measurements, samples=samples, scheme=dataset.scheme)


def facts_of(dataset: Dataset) -> DatasetFacts:
    """Return what the planner needs to know besides the fingerprint."""
    scheme = dataset.scheme
    declared = len(scheme.structures) + 1 + (scheme.ignore is not None)
    return DatasetFacts(
        name=dataset.name,
        channel_names=dataset.channel_names,
        label_count=declared,
        training_cases=dataset.declared_training_count,
        reader_name=dataset.reader_name,
    )


def _measured(dataset: Dataset, samples: int, files: CaseFiles) -> CaseMeasurement:
    case = dataset.load(files)
    if len(case.image.array) != len(dataset.channel_names):
        raise InputError(
            f"expected the channels {', '.join(dataset.channel_names)}; found {len(case.image.array)} channel(s) in "
            f"{', '.join(path.name for path in files.images)}. Add the missing files or correct the declaration."
        )
    labels = case.labels.array if case.labels is not None else None
    return measure_case(case.image.array, labels, case.image.grid.spacing_mm, samples=samples, case_id=case.case_id)


def split_of(planned: PlannedDataset, fold: str) -> Split:
    """Return the cases of a fold called ``0``, ``1``, ... or ``all``.

    Raises
    ------
    UsageError
        If the name is neither.
    PlanError
        If the fold does not exist.
    """
    ids = tuple(case.case_id for case in planned.dataset.training)
    if fold == EVERY_CASE:
        return choose_split(planned.splits, "all", ids)
    if not fold.isdigit():
        raise UsageError(f"A fold is a number from 0, or 'all'; got '{fold}'.")
    _require_folds(planned)
    return choose_split(planned.splits, int(fold), ids)


def _require_folds(planned: PlannedDataset) -> None:
    if not planned.splits:
        raise PlanError(
            f"A fold validates on patients that it does not train on; the {len(planned.dataset.training)} training "
            f"case(s) of {planned.dataset.root} are of one patient. Add cases of other patients, or use --fold all to "
            "train on every case, with scores that say nothing about new ones."
        )


def named_folds(planned: PlannedDataset, folds: Sequence[str]) -> tuple[str, ...]:
    """Return the folds by name, with ``every`` replaced by all that the splits have.

    Raises
    ------
    PlanError
        If all are asked for, and the cases are of one patient.
    """
    if EVERY_FOLD in folds:
        _require_folds(planned)
    numbers = [str(fold) for fold in range(len(planned.splits))]
    return tuple(dict.fromkeys(name for fold in folds for name in (numbers if fold == EVERY_FOLD else [fold])))
