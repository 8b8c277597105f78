"""Two methods on the same cases: how large the difference is, and whether chance explains it.

The module knows lists of paired numbers and whose they are. Pairs with a NaN are left out and counted. Seeds are
arguments and stand in the results.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from delineate.errors import InputError
from delineate.metrics.statistics import CONFIDENCE_LEVEL, RESAMPLES, Estimate, bootstrap

PERMUTATIONS = 10_000
"""Random sign changes; a p value of 0.05 then has a standard error of 0.002."""

_BLOCK_DRAWS = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedTest:
    """A two-sided test of "there is no difference"."""

    p_value: float
    """NaN if there is no pair."""
    statistic: float
    """Mean difference (permutation test) or signed-rank sum (Wilcoxon)."""
    n_used: int
    n_excluded: int
    """Pairs with a NaN."""
    n_patients: int
    exact: bool
    """Whether all outcomes were counted instead of drawn or approximated."""
    seed: int | None
    """Of the drawn permutations; None where nothing is drawn."""


def paired_difference(
    first: Sequence[float] | NDArray[np.float64],
    second: Sequence[float] | NDArray[np.float64],
    patients: Sequence[str],
    *,
    seed: int,
    level: float = CONFIDENCE_LEVEL,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Return the mean of first minus second over cases with its interval, drawing whole patients.

    Parameters
    ----------
    first, second
        (case,) numbers of the two methods.
    patients
        (case,) the patient of each case.
    seed, level, resamples
        See :func:`~delineate.metrics.statistics.bootstrap`.

    Raises
    ------
    InputError
        If the lengths differ.
    """
    return bootstrap(_differences(first, second), patients, seed=seed, level=level, resamples=resamples)


def permutation_test(
    first: Sequence[float] | NDArray[np.float64],
    second: Sequence[float] | NDArray[np.float64],
    patients: Sequence[str],
    *,
    seed: int,
    permutations: int = PERMUTATIONS,
) -> PairedTest:
    """Test the mean difference by exchanging the two methods within patients.

    All sign patterns are counted if there are no more than ``permutations`` of them; else so many are drawn, and
    p = (1 + those at least as far from 0) / (1 + drawn).

    Parameters
    ----------
    first, second
        (case,) numbers of the two methods.
    patients
        (case,) the patient of each case; the cases of a patient are exchanged together.
    seed
        Of the drawn signs.
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
    if permutations < 1:
        raise InputError(f"A permutation test needs at least 1 permutation; got {permutations}.")
    differences = _differences(first, second)
    sums, counts = _per_patient(differences, patients)
    n = len(sums)
    exact = n <= 62 and (1 << n) <= permutations
    total = float(counts.sum())
    observed = float(sums.sum() / total) if n else math.nan
    p_value = math.nan
    if n:
        # sums that differ by rounding only are equal
        limit = abs(float(sums.sum())) * (1 - 1e-12)
        extreme = _count_extreme(sums, limit, None if exact else np.random.default_rng(seed), permutations)
        p_value = extreme / (1 << n) if exact else (1 + extreme) / (1 + permutations)
    return PairedTest(
        p_value=p_value,
        statistic=observed,
        n_used=int(total),
        n_excluded=len(differences) - int(total),
        n_patients=n,
        exact=exact,
        seed=None if exact else seed,
    )


def wilcoxon_signed_rank(
    first: Sequence[float] | NDArray[np.float64],
    second: Sequence[float] | NDArray[np.float64],
    patients: Sequence[str],
) -> PairedTest:
    """Test the signed ranks of the differences; each patient enters with the mean of the patient's cases.

    Patients without a difference are ranked and then dropped (Pratt). Exact up to 50 patients without ties and zeros,
    else a normal approximation, as scipy's ``wilcoxon`` decides; if no patient differs p is 1.

    Parameters
    ----------
    first, second
        (case,) numbers of the two methods.
    patients
        (case,) the patient of each case.

    Raises
    ------
    InputError
        If the lengths differ.

    References
    ----------
    F. Wilcoxon, Biometrics Bull. 1 (1945); J. W. Pratt, J. Am. Stat. Assoc. 54 (1959).
    """
    differences = _differences(first, second)
    sums, counts = _per_patient(differences, patients)
    means = sums / counts
    used = int(counts.sum())
    distinct = len(np.unique(np.abs(means))) == len(means) and bool((means != 0).all())
    exact = distinct and len(means) <= 50
    p_value, statistic = (math.nan, math.nan) if not len(means) else (1.0, 0.0)
    if (means != 0).any():
        found = stats.wilcoxon(means, zero_method="pratt", method="exact" if exact else "approx")
        p_value, statistic = float(found.pvalue), float(found.statistic)
    return PairedTest(
        p_value=p_value,
        statistic=statistic,
        n_used=used,
        n_excluded=len(differences) - used,
        n_patients=len(means),
        exact=exact,
        seed=None,
    )


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return the p values adjusted for their number; the chance of any false finding stays below the level.

    The i-th smallest of m is multiplied by m - i + 1, never below its predecessor and at most 1. NaN stays NaN and does
    not count.

    Parameters
    ----------
    p_values
        By name of the test.

    References
    ----------
    S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6 (1979).
    """
    ordered = sorted((p, name) for name, p in p_values.items() if not math.isnan(p))
    adjusted = dict.fromkeys(p_values, math.nan)
    running = 0.0
    for rank, (p, name) in enumerate(ordered):
        running = max(running, min(1.0, (len(ordered) - rank) * p))
        adjusted[name] = running
    return adjusted


def _differences(
    first: Sequence[float] | NDArray[np.float64], second: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != other.shape or one.ndim != 1:
        raise InputError(f"Two methods are compared on the same cases; got shapes {one.shape} and {other.shape}.")
    return one - other


def _per_patient(
    differences: NDArray[np.float64], patients: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(differences) != len(patients):
        raise InputError(f"Every pair needs a patient; got {len(differences)} pairs and {len(patients)} patients.")
    grouped: dict[str, list[float]] = {}
    for patient, difference in zip(patients, differences, strict=True):
        if not math.isnan(difference):
            grouped.setdefault(patient, []).append(float(difference))
    groups = list(grouped.values())
    return np.array([sum(g) for g in groups], np.float64), np.array([len(g) for g in groups], np.float64)


def _count_extreme(
    sums: NDArray[np.float64], limit: float, generator: np.random.Generator | None, permutations: int
) -> int:
    n = len(sums)
    total = permutations if generator is not None else 1 << n
    rows = max(1, _BLOCK_DRAWS // n)
    extreme = 0
    for start in range(0, total, rows):
        size = min(rows, total - start)
        if generator is None:
            positive = np.arange(start, start + size)[:, None] >> np.arange(n) & 1
        else:
            positive = generator.integers(0, 2, size=(size, n))
        extreme += int((np.abs((2 * positive - 1) @ sums) >= limit).sum())
    return extreme
