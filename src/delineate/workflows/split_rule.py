"""How a dataset is divided into folds: by patient as nnU-Net does it, or leaving out one group (site) at a time."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from delineate.errors import UsageError
from delineate.formats.datasets import Dataset
from delineate.planning.splits import FOLDS, FoldGroups, Split, leave_one_group_out, make_splits
from delineate.workflows.case_groups import case_groups

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitRule:
    """What the user asked for; without a column folds are dealt out by patient."""

    column: str | None = None
    """Column of the table whose groups are left out in turn; None: a cross-validation by patient."""
    table: Path | None = None
    """CSV or TSV file with a row per case; None: the one in the dataset's folder."""

    @property
    def claim(self) -> str | None:
        """What a run's folder belongs to: the column, in small letters."""
        return None if self.column is None else self.column.casefold()

    def divide(self, dataset: Dataset) -> tuple[tuple[Split, ...], FoldGroups | None]:
        """Return the folds, and which group each of them holds out.

        Raises
        ------
        UsageError
            If no table has the column.
        DatasetError
            If the table cannot be read.
        PlanError
            If the cases cannot be divided so: too few groups or patients, patients in several groups.
        """
        return (splits_of(dataset), None) if self.column is None else _by_group(dataset, self.column, self.table)


BY_PATIENT = SplitRule()
"""A cross-validation by patient, as nnU-Net deals out cases."""


def split_rule(column: str | None, table: Path | None) -> SplitRule:
    """Return the rule that the user asked for.

    Raises
    ------
    UsageError
        If there is a table and no column.
    """
    if column is None and table is not None:
        raise UsageError("--table needs --split-by COLUMN, which says by what the cases are divided into folds.")
    return SplitRule(column=column, table=table)


def splits_of(dataset: Dataset, folds: int = FOLDS) -> tuple[Split, ...]:
    """Divide the training cases into folds by patient; fewer when there are fewer patients, none for one."""
    patient_of = {case.case_id: case.patient_id for case in dataset.training}
    patients = len(set(patient_of.values()))
    return make_splits(tuple(patient_of), patient_of, folds=min(folds, patients)) if patients > 1 else ()


def _by_group(dataset: Dataset, column: str, table: Path | None) -> tuple[tuple[Split, ...], FoldGroups]:
    found = case_groups(dataset.training, dataset.root, column, table)
    patient_of = {case.case_id: case.patient_id for case in dataset.training}
    folds = leave_one_group_out(tuple(patient_of), found.group_of, patient_of)
    unknown = tuple(sorted(set(patient_of) - set(found.group_of)))
    if unknown:
        _log.warning(
            "%s: no %s is recorded for %d case(s) (%s); they are a fold of their own, and train in all others, whose "
            "%s they may be of",
            found.table,
            found.column,
            len(unknown),
            ", ".join(unknown[:5]),
            found.column,
        )
    groups = FoldGroups(column=found.column, names=tuple(folds), not_recorded=unknown)
    return tuple(folds.values()), groups
