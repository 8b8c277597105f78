"""A training that was planned: the data, the decisions, where the files lie and which machine works on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from delineate.formats.prepared_store import PreparedStore
from delineate.planning.machine import Machine
from delineate.planning.splits import Split
from delineate.preprocessing import preparation_key
from delineate.workflows.decide_training import Decision
from delineate.workflows.plan_dataset import PlannedDataset, split_of
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
        plan, configuration = self.planned.plan, self.decision.configuration
        return PreparedStore(
            self.folder.prepared / configuration.data_identifier,
            settings=preparation_key(plan, configuration),
            patch_size=configuration.patch_size,
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
