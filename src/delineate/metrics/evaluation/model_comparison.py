"""Is it better than another model? Paired over the same cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from delineate.errors import InputError
from delineate.metrics.cohort import CaseRows
from delineate.metrics.comparison import (
    PairedTest,
    holm,
    paired_difference,
    permutation_test,
    wilcoxon_signed_rank,
)
from delineate.metrics.evaluation.directions import direction_of, goodness
from delineate.metrics.ranking import RankStability, rank_stability
from delineate.metrics.statistics import Estimate, bootstrap, mean_or_nan

SIGNIFICANCE = 0.05
"""Adjusted p value below which a difference counts as more than chance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedRow:
    """One metric of one structure for two models on the same cases."""

    structure: str
    metric: str
    first: Estimate
    second: Estimate
    difference: Estimate
    """First minus second."""
    permutation: PairedTest
    wilcoxon: PairedTest
    p_adjusted: float
    """Of the permutation test, Holm over all rows of the metric."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelComparison:
    """Two or more models on the same cases; rows compare the first with each other one."""

    names: tuple[str, ...]
    """Of the models, the evaluated one first."""
    rows: tuple[tuple[str, tuple[PairedRow, ...]], ...]
    """Per other model: its name and the rows."""
    ranks: tuple[tuple[str, RankStability], ...]
    """Metric and the ranking of the models by it (mean over structures of each case)."""
    sentences: tuple[str, ...]
    """What it means, one sentence per other model."""
    seed: int


def compare_models(
    models: Mapping[str, Sequence[CaseRows]], metrics: Sequence[str], *, seed: int = 0
) -> ModelComparison:
    """Compare the first model with each other one on the same cases, per structure and metric.

    A case counts in a row if both models have a value there. P values are those of the permutation test, adjusted over
    all structures and all other models of a metric (Holm). Rankings take each case's mean over the structures for which
    every model has a value; of errors with a sign the size is ranked.

    Parameters
    ----------
    models
        Name -> tables of the same cases, with the same structures; the evaluated model first, at least two.
    metrics
        Names that the rows have.
    seed
        Of every bootstrap and permutation.

    Raises
    ------
    InputError
        If there are fewer than two models, or they do not have the same cases and structures.
    """
    _require_one_form(models)
    names = tuple(models)
    first = models[names[0]]
    rows = {
        other: [
            _paired_row(first, models[other], index, metric, seed) for metric in metrics for index in _rows_of(first)
        ]
        for other in names[1:]
    }
    p_adjusted = {metric: holm(_p_values(rows, metric)) for metric in metrics}
    adjusted = {
        other: tuple(replace(r, p_adjusted=p_adjusted[r.metric][f"{other}: {r.structure}"]) for r in rows[other])
        for other in names[1:]
    }
    return ModelComparison(
        names=names,
        rows=tuple(adjusted.items()),
        ranks=tuple(ranks for metric in metrics if (ranks := _ranks(models, metric, seed)) is not None),
        sentences=tuple(_sentence(names[0], other, found) for other, found in adjusted.items()),
        seed=seed,
    )


def better_of(row: PairedRow, *, level: float = SIGNIFICANCE) -> str | None:
    """Return ``first`` or ``second``, the one better beyond chance; None if neither, or if the error is signed."""
    direction = direction_of(row.metric)
    if direction == "signed" or not row.p_adjusted < level:
        return None
    return "first" if (row.difference.value > 0) == (direction == "higher") else "second"


def _rows_of(cases: Sequence[CaseRows]) -> range:
    return range(len(cases[0].rows)) if cases else range(0)


def _require_one_form(models: Mapping[str, Sequence[CaseRows]]) -> None:
    if len(models) < 2:
        raise InputError(f"A comparison needs two models or more; got {', '.join(models) or 'none'}.")
    forms = {
        name: [(case.case_id, case.patient_id, tuple(row.name for row in case.rows)) for case in cases]
        for name, cases in models.items()
    }
    first = next(iter(forms.values()))
    different = [name for name, form in forms.items() if form != first]
    if different or not first:
        raise InputError(
            f"Models are compared on the same cases and structures, in one order; {', '.join(different) or 'they'} "
            f"{'differ' if different else 'have none'}."
        )


def _paired_row(first: Sequence[CaseRows], second: Sequence[CaseRows], index: int, metric: str, seed: int) -> PairedRow:
    patients = [case.patient_id for case in first]
    one, other = (np.array([case.rows[index].values[metric] for case in cases]) for cases in (first, second))
    unpaired = np.isnan(one) | np.isnan(other)
    one, other = np.where(unpaired, np.nan, one), np.where(unpaired, np.nan, other)
    return PairedRow(
        structure=first[0].rows[index].name,
        metric=metric,
        first=bootstrap(one, patients, seed=seed),
        second=bootstrap(other, patients, seed=seed),
        difference=paired_difference(one, other, patients, seed=seed),
        permutation=permutation_test(one, other, patients, seed=seed),
        wilcoxon=wilcoxon_signed_rank(one, other, patients),
        p_adjusted=math.nan,
    )


def _p_values(rows: Mapping[str, Sequence[PairedRow]], metric: str) -> dict[str, float]:
    """Return the p values of the permutation test of all rows of a metric, by other model and structure."""
    return {
        f"{other}: {row.structure}": row.permutation.p_value
        for other, of_other in rows.items()
        for row in of_other
        if row.metric == metric
    }


def _ranks(models: Mapping[str, Sequence[CaseRows]], metric: str, seed: int) -> tuple[str, RankStability] | None:
    """Return the ranking of the models, or None if there is no case on which all have a value."""
    table = np.array(
        [[[goodness(row.values[metric], metric) for row in case.rows] for case in cases] for cases in models.values()]
    )
    table = np.where(np.isnan(table).any(axis=0), np.nan, table)
    scores = {name: [mean_or_nan(case) for case in model] for name, model in zip(models, table, strict=True)}
    if all(math.isnan(value) for value in next(iter(scores.values()))):
        return None
    patients = [case.patient_id for case in next(iter(models.values()))]
    return metric, rank_stability(scores, patients, seed=seed)


def _sentence(first: str, second: str, rows: Sequence[PairedRow]) -> str:
    """Say what the rows mean, by the metrics that have a better side."""
    judged = [row for row in rows if direction_of(row.metric) != "signed" and not math.isnan(row.p_adjusted)]
    ours = [row for row in judged if better_of(row) == "first"]
    theirs = [row for row in judged if better_of(row) == "second"]
    n = max((row.difference.n_used for row in rows), default=0)
    head = f"{first} against {second} on {n} cases: "
    if not judged:
        return f"{head}there is nothing to compare."
    if not ours and not theirs:
        return (
            f"{head}no difference beyond chance in any of {len(judged)} comparisons (permutation test, Holm, "
            f"{SIGNIFICANCE:g}); that is no proof that they are equal."
        )
    parts = [f"{first} is better in {_listed(ours)}"] if ours else []
    parts += [f"{second} is better in {_listed(theirs)}"] if theirs else []
    left = len(judged) - len(ours) - len(theirs)
    rest = f"; no difference beyond chance in the other {left}" if left else ""
    return f"{head}{'; '.join(parts)} of {len(judged)} comparisons{rest} (permutation test, Holm, {SIGNIFICANCE:g})."


def _listed(rows: Sequence[PairedRow]) -> str:
    by_metric: dict[str, list[str]] = {}
    for row in rows:
        by_metric.setdefault(row.metric, []).append(f"{row.structure} {row.difference.value:+.3g}")
    listed = "; ".join(f"{metric}: {', '.join(found)}" for metric, found in by_metric.items())
    return f"{len(rows)} ({listed})"
