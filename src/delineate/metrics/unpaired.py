"""Two groups of different cases: how far their means lie apart, and whether chance explains it.

The module knows numbers, whose they are, and which belong to the group. NaN cases are left out and counted. Seeds are
arguments and stand in the results.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from delineate.errors import InputError
from delineate.metrics.comparison import PERMUTATIONS, PairedTest
from delineate.metrics.statistics import (
    CONFIDENCE_LEVEL,
    RESAMPLES,
    Interval,
    patient_totals,
    resampled_means,
)

_BLOCK_DRAWS = 1 << 20


def gap_interval(
    group: Sequence[float] | NDArray[np.float64],
    rest: Sequence[float] | NDArray[np.float64],
    group_patients: Sequence[str],
    rest_patients: Sequence[str],
    *,
    seed: int,
    level: float = CONFIDENCE_LEVEL,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the percentile bootstrap interval of mean(group) - mean(rest); both are drawn independently, by patient.

    Parameters
    ----------
    group, rest
        (case,) numbers of the two groups; NaN cases are left out.
    group_patients, rest_patients
        (case,) the patient of each case.
    seed, level, resamples
        See :func:`~delineate.metrics.statistics.bootstrap`.

    Returns
    -------
    Interval
        With NaN ends if either group has fewer than two patients.

    Raises
    ------
    InputError
        If the lengths differ.

    References
    ----------
    B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap (1993), chapter 8.
    """
    ours, others = _totals(group, group_patients), _totals(rest, rest_patients)
    if min(len(ours[0]), len(others[0])) < 2:
        return Interval(low=math.nan, high=math.nan, level=level)
    generator = np.random.default_rng(seed)
    gaps = resampled_means(*ours, generator, resamples) - resampled_means(*others, generator, resamples)
    low, high = np.quantile(gaps, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high), level=level)


def membership_test(
    values: Sequence[float] | NDArray[np.float64],
    in_group: Sequence[bool] | NDArray[np.bool_],
    patients: Sequence[str],
    *,
    seed: int,
    permutations: int = PERMUTATIONS,
) -> PairedTest:
    """Test mean(group) - mean(rest) by exchanging which patients are in the group; the size in patients stays.

    The cases of a patient are exchanged together. A patient with cases on both sides counts as two, one on each side.
    All choices are counted if there are no more than ``permutations`` of them; else so many are drawn, and
    p = (1 + those at least as far from 0) / (1 + drawn).

    Parameters
    ----------
    values
        (case,) numbers; NaN cases are left out and counted.
    in_group
        (case,) whether the case belongs to the group.
    patients
        (case,) the patient of each case.
    seed
        Of the drawn exchanges.
    permutations
        At least 1.

    Raises
    ------
    InputError
        If the lengths differ or nothing may be drawn.

    References
    ----------
    B. Phipson, G. K. Smyth, Permutation p-values should never be zero, Stat. Appl. Genet. Mol. Biol. 9 (2010).
    """
    numbers, inside = np.asarray(values, np.float64), np.asarray(in_group, np.bool_)
    if numbers.shape != inside.shape or numbers.ndim != 1 or len(patients) != numbers.size or permutations < 1:
        raise InputError(
            f"A test of groups needs a group and a patient for each value, and permutations; got {numbers.shape} "
            f"values, {inside.shape} groups, {len(patients)} patients and {permutations} permutations."
        )
    # units in order of appearance, so that a group and its rest are one test seen from both sides
    units = [f"{int(there)}{patient}" for patient, there in zip(patients, inside, strict=True)]
    sums, counts = patient_totals(numbers, units)
    kept = dict.fromkeys(unit for unit, number in zip(units, numbers, strict=True) if not math.isnan(number))
    ours = np.flatnonzero([unit.startswith("1") for unit in kept])
    used = int(counts.sum())
    n, k = len(sums), len(ours)
    exact = bool(0 < k < n and math.comb(n, k) <= permutations)
    gap, p_value = math.nan, math.nan
    if 0 < k < n:
        gap = float(_gaps(ours[None], sums, counts)[0])
        fewer = min(k, n - k)  # choosing the rest is the same choice
        chosen = _all_choices(n, fewer) if exact else _drawn_choices(n, fewer, seed, permutations)
        limit = abs(gap) * (1 - 1e-12)  # gaps that differ by rounding only are equal
        extreme = int((np.abs(_gaps(chosen, sums, counts)) >= limit).sum())
        p_value = extreme / math.comb(n, k) if exact else (1 + extreme) / (1 + permutations)
    return PairedTest(
        p_value=p_value,
        statistic=gap,
        n_used=used,
        n_excluded=numbers.size - used,
        n_patients=n,
        exact=exact,
        seed=None if exact else seed,
    )


def _totals(
    values: Sequence[float] | NDArray[np.float64], patients: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or numbers.size != len(patients):
        raise InputError(f"Every value needs a patient; got shape {numbers.shape} and {len(patients)} patients.")
    return patient_totals(numbers, patients)


def _gaps(chosen: NDArray[np.intp], sums: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (choice,) mean of the chosen minus mean of the others."""
    sum_in, count_in = sums[chosen].sum(axis=1), counts[chosen].sum(axis=1)
    gaps: NDArray[np.float64] = sum_in / count_in - (sums.sum() - sum_in) / (counts.sum() - count_in)
    return gaps


@lru_cache(maxsize=8)
def _all_choices(n: int, k: int) -> NDArray[np.intp]:
    """Return (choice, k) members of every choice of k of n."""
    return np.array(list(itertools.combinations(range(n), k)), np.intp)


@lru_cache(maxsize=8)
def _drawn_choices(n: int, k: int, seed: int, permutations: int) -> NDArray[np.intp]:
    """Return (permutation, k) members of random choices of k of n; kept, because many metrics ask for the same ones."""
    generator = np.random.default_rng(seed)
    rows = max(1, _BLOCK_DRAWS // n)
    sizes = [min(rows, permutations - start) for start in range(0, permutations, rows)]
    # the k smallest of n random numbers are a random choice of k
    drawn = [np.argpartition(generator.random((size, n)), k - 1, axis=1)[:, :k] for size in sizes]
    return np.concatenate(drawn)
