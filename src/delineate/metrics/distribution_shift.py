"""Do recent cases come from the same distribution as a baseline? PSI, Kolmogorov-Smirnov, and what many tests cost.

The module knows two samples of one feature; it does not know their order in time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from delineate.errors import InputError

PSI_BINS = 5
"""Bins by quantiles of the baseline; ten, as in credit scoring, need hundreds of cases."""
PSI_WATCH, PSI_SHIFT = 0.1, 0.25
"""Customary words: below the first no shift, above the second a shift (N. Siddiqi, Credit Risk Scorecards, 2006)."""
PERMUTATIONS = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class DistributionShift:
    """Recent cases of one feature against the baseline."""

    psi: float
    """Population stability index; 0 or more."""
    statistic: float
    """Kolmogorov-Smirnov distance; for categories the total variation distance. 0 to 1."""
    p_value: float
    """Of equal distributions."""
    n_baseline: int
    n_recent: int


def numeric_shift(
    baseline: Sequence[float] | NDArray[np.float64], recent: Sequence[float] | NDArray[np.float64]
) -> DistributionShift:
    """Compare two samples of a number.

    PSI = sum (r - b) ln(r / b) over bins that hold equal parts of the baseline, with half a case added to every bin.
    The p value is the two-sided two-sample Kolmogorov-Smirnov test's.

    Parameters
    ----------
    baseline, recent
        (case,) numbers; NaN are left out.

    Raises
    ------
    InputError
        If a sample holds no number.
    """
    before, now = (_numbers(sample) for sample in (baseline, recent))
    inner = np.unique(np.quantile(before, np.linspace(0, 1, PSI_BINS + 1)[1:-1]))
    # below, at and above every edge, so that values which many cases share have a bin of their own
    places = [
        np.searchsorted(inner, sample, "left") + np.searchsorted(inner, sample, "right") for sample in (before, now)
    ]
    counts = [np.bincount(place, minlength=2 * len(inner) + 1) for place in places]
    used = counts[0] + counts[1] > 0
    found = stats.ks_2samp(before, now)
    return DistributionShift(
        psi=_psi(counts[0][used], counts[1][used]),
        statistic=float(found.statistic),
        p_value=float(found.pvalue),
        n_baseline=len(before),
        n_recent=len(now),
    )


def category_shift(
    baseline: Sequence[str], recent: Sequence[str], *, seed: int = 0, permutations: int = PERMUTATIONS
) -> DistributionShift:
    """Compare two samples of a category, such as the orientation in a header.

    The p value is that of the total variation distance by permutation, (1 + as far) / (1 + drawn), so that rare
    categories are no problem.

    Parameters
    ----------
    baseline, recent
        (case,) categories.
    seed
        Of the permutations.
    permutations
        At least 1.

    Raises
    ------
    InputError
        If a sample is empty or nothing may be drawn.
    """
    if not baseline or not recent or permutations < 1:
        raise InputError("A shift of categories needs cases on both sides and at least 1 permutation.")
    names = {name: i for i, name in enumerate(sorted({*baseline, *recent}))}
    codes = np.array([names[name] for name in (*baseline, *recent)])
    n = len(baseline)
    counts = [np.bincount(part, minlength=len(names)) for part in (codes[:n], codes[n:])]
    observed = float(_distance(counts[0], counts[1]))
    drawn = np.random.default_rng(seed).permuted(np.tile(codes, (permutations, 1)), axis=1)[:, :n]
    first = np.stack([(drawn == code).sum(axis=1) for code in range(len(names))], axis=1)
    distances = _distance(first, counts[0] + counts[1] - first)
    far = int((distances >= observed - 1e-12).sum())
    return DistributionShift(
        psi=_psi(*counts),
        statistic=observed,
        p_value=(1 + far) / (1 + permutations),
        n_baseline=n,
        n_recent=len(recent),
    )


def unseen_categories(baseline: Sequence[str], recent: Sequence[str]) -> tuple[str, ...]:
    """Return the categories of recent cases that the baseline never had, most frequent first."""
    known = set(baseline)
    return tuple(name for name, _ in Counter(recent).most_common() if name not in known)


def benjamini_hochberg(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p values adjusted so that findings below q hold a share of at most q false ones on average.

    The i-th smallest of m becomes the minimum over j >= i of p_j m / j. NaN stays NaN and does not count.

    Parameters
    ----------
    p_values
        By name of the test.

    References
    ----------
    Y. Benjamini, Y. Hochberg, Controlling the false discovery rate, J. R. Stat. Soc. B 57 (1995).
    """
    ordered = sorted(((p, name) for name, p in p_values.items() if not math.isnan(p)), reverse=True)
    adjusted = dict.fromkeys(p_values, math.nan)
    running, m = 1.0, len(ordered)
    for place, (p, name) in enumerate(ordered):
        running = min(running, p * m / (m - place))
        adjusted[name] = running
    return adjusted


def psi_words(psi: float) -> str:
    """Return what is customarily said of an index: ``no shift``, ``watch`` or ``shift``."""
    return "no shift" if psi < PSI_WATCH else "watch" if psi < PSI_SHIFT else "shift"


def _numbers(sample: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    numbers = np.asarray(sample, dtype=np.float64)
    used = numbers[~np.isnan(numbers)]
    if not len(used):
        raise InputError("A shift of numbers needs at least one number on both sides.")
    return used


def _psi(before: NDArray[np.intp], now: NDArray[np.intp]) -> float:
    b, r = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (before, now))
    return float(np.sum((r - b) * np.log(r / b)))


def _distance(first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return half the summed differences of the shares along the last axis."""
    shares = [counts / counts.sum(axis=-1, keepdims=True) for counts in (first, second)]
    distances: NDArray[np.float64] = 0.5 * np.abs(shares[0] - shares[1]).sum(axis=-1)
    return distances
