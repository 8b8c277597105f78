"""A training that was planned: the data, the decisions, where the files lie and which machine works on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Unpack

from delineate.execution import Cluster, Watched
from delineate.formats.prepared_store import PreparedStore
from delineate.planning.machine import Machine
from delineate.planning.splits import Split
from delineate.workflows.decide_training import Decision
from delineate.workflows.plan_dataset import PlannedDataset, split_of
from delineate.workflows.prepare_dataset import open_store, prepare_dataset
from delineate.workflows.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainingRun:
    """Everything that the steps after planning work with."""

    folder: RunFolder
    planned: PlannedDataset
    decision: Decision
    machine: Machine

    @property
    def store(self) -> PreparedStore:
        """The prepared cases; configurations with equal preparation share them."""
        return open_store(self.folder, self.planned.plan, self.decision.configuration)

    def prepare(self, *, workers: int = 1, cluster: Cluster | None = None, **watched: Unpack[Watched]) -> int:
        """Prepare the cases that the store does not have yet; return how many that were.

        Raises
        ------
        DatasetError
            If cases cannot be prepared; names all of them, the others are in the store.
        Interrupted
            If a stop was requested; what is prepared stays.
        """
        return prepare_dataset(
            self.planned.dataset,
            self.planned.plan,
            self.decision.configuration,
            self.store,
            workers=workers,
            cluster=cluster,
            **watched,
        )

    def split(self, fold: str) -> Split:
        """Return the cases of a fold called ``0``, ``1``, ... or ``all``.

        Raises
        ------
        UsageError
            If the name is neither.
        PlanError
            If the fold does not exist.
        """
        return split_of(self.planned, fold)

    def with_decision(self, decision: Decision) -> TrainingRun:
        """Return the run with another decision."""
        return replace(self, decision=decision)
