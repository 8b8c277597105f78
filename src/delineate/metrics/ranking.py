"""Rankings of several methods, and how far they would survive other cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from delineate.errors import InputError, UsageError
from delineate.metrics.statistics import RESAMPLES

Scheme = Literal["mean_then_rank", "rank_then_mean"]
"""Rank the means over cases, or take the mean of the ranks within cases and rank that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankStability:
    """A ranking, and the rankings of bootstrap samples of the patients; 1 is the best rank, equals share the mean."""

    methods: tuple[str, ...]
    ranks: NDArray[np.float64]
    """(method,) on all used cases."""
    distribution: NDArray[np.float64]
    """(method, rank) share of samples in which the method has that rank, halves rounded up."""
    kendall_tau: float
    """Mean over samples of Kendall's tau-b between the sample's ranking and this one; samples that are all ties and
    have no tau are left out."""
    scheme: Scheme
    n_used: int
    n_excluded: int
    """Cases where some method has no number."""
    n_patients: int
    seed: int
    resamples: int


def rank_stability(
    scores: Mapping[str, Sequence[float] | NDArray[np.float64]],
    patients: Sequence[str],
    *,
    seed: int,
    higher_is_better: bool = True,
    scheme: Scheme = "mean_then_rank",
    resamples: int = RESAMPLES,
) -> RankStability:
    """Rank methods, and rank them again on bootstrap samples of the patients.

    Parameters
    ----------
    scores
        (case,) numbers of each method, at least two methods; a case where any of them is NaN is left out and counted.
    patients
        (case,) the patient of each case; all cases of a drawn patient enter together.
    seed
        Of the draws.
    higher_is_better
        False for distances.
    scheme
        What is ranked.
    resamples
        Number of bootstrap samples.

    Raises
    ------
    InputError
        If there are fewer than two methods, no common case, or the lengths differ.
    UsageError
        If the scheme is unknown or there are no samples.

    References
    ----------
    M. Wiesenfarth et al., Methods and open-source toolkit for analyzing and visualizing challenge results, Sci. Rep. 11
    (2021).
    """
    if scheme not in ("mean_then_rank", "rank_then_mean") or resamples < 1:
        raise UsageError(f"A ranking needs a known scheme and samples; got '{scheme}' and {resamples}.")
    table = _table(scores, patients)
    kept = np.asarray(~np.isnan(table).any(axis=1))
    used = table[kept] * (-1.0 if higher_is_better else 1.0)
    owners = [patient for patient, keep in zip(patients, kept, strict=True) if keep]
    if not owners:
        raise InputError("There is no case on which all methods have a number, so they cannot be ranked.")
    worth = used if scheme == "mean_then_rank" else stats.rankdata(used, axis=1)
    ranks = stats.rankdata(worth.mean(axis=0))
    samples = _sampled_ranks(worth, owners, np.random.default_rng(seed), resamples)
    return RankStability(
        methods=tuple(scores),
        ranks=ranks,
        distribution=_distribution(samples),
        kendall_tau=_mean_tau(samples, ranks),
        scheme=scheme,
        n_used=len(owners),
        n_excluded=len(table) - len(owners),
        n_patients=len(set(owners)),
        seed=seed,
        resamples=resamples,
    )


def _table(scores: Mapping[str, Sequence[float] | NDArray[np.float64]], patients: Sequence[str]) -> NDArray[np.float64]:
    wrong = [f"{name} {np.shape(values)}" for name, values in scores.items() if np.shape(values) != (len(patients),)]
    if len(scores) < 2 or wrong:
        raise InputError(
            f"A ranking needs two methods or more, each with {len(patients)} numbers; got {len(scores)} methods"
            f"{'; wrong are ' + ', '.join(wrong) if wrong else ''}."
        )
    return np.stack([np.asarray(values, np.float64) for values in scores.values()], axis=1)


def _sampled_ranks(
    worth: NDArray[np.float64], owners: Sequence[str], generator: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    order = {patient: i for i, patient in enumerate(dict.fromkeys(owners))}
    index = np.array([order[patient] for patient in owners])
    sums = np.stack([np.bincount(index, column) for column in worth.T], axis=1)
    counts = np.bincount(index)
    drawn = generator.integers(0, len(sums), size=(resamples, len(sums)))
    means = np.stack([sums[draw].sum(axis=0) / counts[draw].sum() for draw in drawn])
    return np.asarray(stats.rankdata(means, axis=1), np.float64)


def _distribution(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    n = samples.shape[1]
    places = np.ceil(samples - 1e-9).astype(np.int64) - 1
    return np.stack([np.bincount(places[:, method], minlength=n) / len(samples) for method in range(n)])


def _mean_tau(samples: NDArray[np.float64], ranks: NDArray[np.float64]) -> float:
    rankings, counts = np.unique(samples, axis=0, return_counts=True)
    taus = np.array([stats.kendalltau(ranking, ranks).statistic for ranking in rankings])
    known = ~np.isnan(taus)
    return float(np.average(taus[known], weights=counts[known])) if known.any() else math.nan
