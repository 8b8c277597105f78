"""Is the model as good everywhere? One metric of one structure by the groups of a column."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from delineate.errors import InputError
from delineate.metrics.cohort import CaseRows
from delineate.metrics.comparison import PairedTest, holm
from delineate.metrics.evaluation.directions import goodness
from delineate.metrics.statistics import Estimate, Interval, bootstrap, mean_or_nan
from delineate.metrics.unpaired import gap_interval, membership_test

LEAST_CASES = 20
"""Cases below which a group is "insufficient": its mean is shown and nothing is concluded (clinical brief E4)."""

NOT_RECORDED = "not recorded"
"""Name of the group of cases without a value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """One group of cases, compared with all the others."""

    name: str
    """Value of the column; ``not recorded`` gathers cases without one."""
    n_cases: int
    n_patients: int
    mean: Estimate
    gap: float
    """Mean of the group minus mean of the rest; NaN without a rest."""
    gap_interval: Interval
    """Bootstrap by patient, groups drawn independently."""
    test: PairedTest | None
    """Permutation of the group's membership among patients; None if group or rest have too few cases to conclude."""
    p_adjusted: float
    """Holm, over the groups of all columns of this structure and metric; NaN without a test."""
    sufficient: bool
    """Whether the group has ``least_cases`` cases with a value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subgrouping:
    """One metric of one structure by one column."""

    column: str
    structure: str
    metric: str
    groups: tuple[Group, ...]
    """Largest first; ``not recorded`` last."""
    worst: str | None
    """Name of the sufficient group with the worst mean; None if fewer than two groups are sufficient."""
    least_cases: int
    seed: int


def compare_groups(
    cases: Sequence[CaseRows],
    column: str,
    group_of: Mapping[str, str],
    metrics: Sequence[str],
    *,
    least_cases: int = LEAST_CASES,
    seed: int = 0,
) -> tuple[Subgrouping, ...]:
    """Compare the groups of one column, for every structure and metric.

    Each group is compared with all other cases. A test is made where the group and the rest have ``least_cases`` cases
    with a value; of two groups it is one comparison, seen from both sides. P values are adjusted within the column;
    :func:`adjust_over_columns` does so over several.

    Parameters
    ----------
    cases
        All with the same structures and metrics.
    column
        Name for the reader.
    group_of
        Case id -> group; cases that are not in it are ``not recorded``.
    metrics
        Names that the rows have.
    least_cases
        Cases below which nothing is concluded.
    seed
        Of every bootstrap and permutation.

    Raises
    ------
    InputError
        If the cases do not have one form, or a metric is not in the rows.
    """
    if not cases:
        return ()
    _require_metrics(cases, metrics)
    names = [group_of.get(case.case_id, NOT_RECORDED) for case in cases]
    patients = [case.patient_id for case in cases]
    found = []
    for index, row in enumerate(cases[0].rows):
        for metric in metrics:
            values = np.array([case.rows[index].values[metric] for case in cases], np.float64)
            groups = tuple(_group(name, values, names, patients, least_cases, seed) for name in _in_order(names))
            found.append(
                Subgrouping(
                    column=column,
                    structure=row.name,
                    metric=metric,
                    groups=groups,
                    worst=_worst(groups, metric),
                    least_cases=least_cases,
                    seed=seed,
                )
            )
    return adjust_over_columns(found)


def adjust_over_columns(subgroupings: Sequence[Subgrouping]) -> tuple[Subgrouping, ...]:
    """Return the subgroupings with p values adjusted over all columns of a structure and metric (Holm)."""
    adjusted: dict[tuple[str, str], dict[str, float]] = {}
    for key in dict.fromkeys((s.structure, s.metric) for s in subgroupings):
        p_values = {
            _comparison(s, group): group.test.p_value
            for s in subgroupings
            if (s.structure, s.metric) == key
            for group in s.groups
            if group.test is not None
        }
        adjusted[key] = holm(p_values)
    return tuple(_with_adjusted(s, adjusted[s.structure, s.metric]) for s in subgroupings)


def _with_adjusted(subgrouping: Subgrouping, adjusted: Mapping[str, float]) -> Subgrouping:
    groups = tuple(
        replace(g, p_adjusted=adjusted[_comparison(subgrouping, g)] if g.test is not None else math.nan)
        for g in subgrouping.groups
    )
    return replace(subgrouping, groups=groups)


def _comparison(subgrouping: Subgrouping, group: Group) -> str:
    """Return a name of the comparison; the two groups of a pair share it, because they are one comparison."""
    pair = len(subgrouping.groups) == 2
    return f"{subgrouping.column}: {subgrouping.groups[0].name if pair else group.name}"


def _require_metrics(cases: Sequence[CaseRows], metrics: Sequence[str]) -> None:
    form = [(row.name, tuple(row.values)) for row in cases[0].rows]
    for case in cases:
        if [(row.name, tuple(row.values)) for row in case.rows] != form:
            raise InputError(
                f"All cases need the same structures and metrics; {case.case_id} differs from {cases[0].case_id}."
            )
    missing = [metric for metric in metrics if any(metric not in names for _, names in form)]
    if missing:
        raise InputError(f"The cases have no values of {', '.join(missing)}.")


def _in_order(names: Sequence[str]) -> list[str]:
    counts = Counter(names)
    return sorted(counts, key=lambda name: (name == NOT_RECORDED, -counts[name], name))


def _group(
    name: str,
    values: NDArray[np.float64],
    names: Sequence[str],
    patients: Sequence[str],
    least_cases: int,
    seed: int,
) -> Group:
    inside = np.array([other == name for other in names])
    owners, others = _split(patients, inside)
    mean = bootstrap(values[inside], owners, seed=seed)
    n_rest = int((~np.isnan(values[~inside])).sum())
    tested = min(mean.n_used, n_rest) >= max(1, least_cases)
    return Group(
        name=name,
        n_cases=int(inside.sum()),
        n_patients=len(set(owners)),
        mean=mean,
        gap=mean.value - mean_or_nan(values[~inside]),
        gap_interval=gap_interval(values[inside], values[~inside], owners, others, seed=seed),
        test=membership_test(values, inside, patients, seed=seed) if tested else None,
        p_adjusted=math.nan,
        sufficient=mean.n_used >= least_cases,
    )


def _split(patients: Sequence[str], inside: NDArray[np.bool_]) -> tuple[list[str], list[str]]:
    owners = [patient for patient, there in zip(patients, inside, strict=True) if there]
    return owners, [patient for patient, there in zip(patients, inside, strict=True) if not there]


def _worst(groups: Sequence[Group], metric: str) -> str | None:
    known = [g for g in groups if g.sufficient and g.name != NOT_RECORDED and not math.isnan(g.mean.value)]
    return min(known, key=lambda g: goodness(g.mean.value, metric)).name if len(known) > 1 else None
