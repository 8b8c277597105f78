"""The table of many cases: every structure and metric over all cases, with what was left out in plain sight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from delineate.errors import InputError
from delineate.metrics.statistics import RESAMPLES, Spread, spread
from delineate.metrics.table import StructureRow


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseRows:
    """The table of one case."""

    case_id: str
    patient_id: str
    rows: tuple[StructureRow, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PresenceCounts:
    """In how many cases prediction and reference have the structure at all."""

    true_positive: int
    false_positive: int
    """Cases where the structure was invented."""
    false_negative: int
    """Cases where the structure was missed."""
    true_negative: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CohortRow:
    """One structure over all cases."""

    name: str
    presence: PresenceCounts
    metrics: Mapping[str, Spread]
    """By metric name; each with ``n_used`` and ``n_excluded``."""
    policy: str
    seed: int
    resamples: int


def summarise_rows(cases: Sequence[CaseRows], *, seed: int = 0) -> tuple[CohortRow, ...]:
    """Summarise the tables of many cases, per structure and metric.

    Parameters
    ----------
    cases
        One entry per case, all with the same structures, metrics and policy.
    seed
        Of the bootstrap by patient; every quantity starts from it anew.

    Raises
    ------
    InputError
        If a case is listed twice or the tables do not fit together.
    """
    if not cases:
        return ()
    _require_one_form(cases)
    return tuple(_summarise(index, cases, seed) for index in range(len(cases[0].rows)))


def _require_one_form(cases: Sequence[CaseRows]) -> None:
    twice = [case for case, count in Counter(c.case_id for c in cases).items() if count > 1]
    if twice:
        raise InputError(f"Every case may enter a summary once; listed more often: {', '.join(twice)}.")
    first = [(row.name, row.policy, tuple(row.values)) for row in cases[0].rows]
    for case in cases:
        if [(row.name, row.policy, tuple(row.values)) for row in case.rows] != first:
            raise InputError(
                f"All cases need the same structures, metrics and policy; {case.case_id} differs from "
                f"{cases[0].case_id}."
            )


def _summarise(index: int, cases: Sequence[CaseRows], seed: int) -> CohortRow:
    column = [case.rows[index] for case in cases]
    patients = [case.patient_id for case in cases]
    present = Counter(row.presence for row in column)
    return CohortRow(
        name=column[0].name,
        presence=PresenceCounts(
            true_positive=present["true_positive"],
            false_positive=present["false_positive"],
            false_negative=present["false_negative"],
            true_negative=present["true_negative"],
        ),
        metrics={
            metric: spread([row.values[metric] for row in column], patients, np.random.default_rng(seed))
            for metric in column[0].values
        },
        policy=column[0].policy,
        seed=seed,
        resamples=RESAMPLES,
    )
