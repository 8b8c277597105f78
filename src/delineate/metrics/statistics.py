"""Statistics over cases: spread, and a confidence interval that respects that cases of one patient belong together.

The module knows lists of numbers and whose they are; it does not know what was measured. NaN means that a case says
nothing about the quantity; such cases are left out and counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from delineate.errors import InputError

Statistic = Literal["mean", "median"]
"""What is estimated over cases."""

CONFIDENCE_LEVEL = 0.95
"""Usual level of an interval."""

RESAMPLES = 5_000
"""Bootstrap samples; the ends of a 95 % interval then vary by 0.04 standard errors between seeds."""

_BLOCK_DRAWS = 1 << 20
"""Patient draws held in memory at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A confidence interval, in the unit of the values; NaN ends if there are fewer than two patients."""

    low: float
    high: float
    level: float = CONFIDENCE_LEVEL


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """How a quantity is distributed over cases, in its own unit; NaN where no case says anything."""

    n_used: int
    n_excluded: int
    """Cases without a value (NaN)."""
    n_patients: int
    """Patients among the used cases."""
    mean: float
    std: float
    """Sample standard deviation (n - 1); NaN for fewer than two cases."""
    minimum: float
    first_quartile: float
    median: float
    third_quartile: float
    maximum: float
    interval: Interval
    """Of the mean, by :func:`bootstrap_mean`."""

    def scaled(self, factor: float) -> Spread:
        """Return the spread in another unit; ``factor`` is the number of new units in one old, above 0."""
        numbers = ("mean", "std", "minimum", "first_quartile", "median", "third_quartile", "maximum")
        changed: dict[str, Any] = {name: getattr(self, name) * factor for name in numbers}
        interval = replace(self.interval, low=self.interval.low * factor, high=self.interval.high * factor)
        return replace(self, **changed, interval=interval)


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A mean or median over cases with its interval, in the unit of the values."""

    value: float
    """NaN if no case says anything."""
    interval: Interval
    statistic: Statistic
    n_used: int
    n_excluded: int
    """Cases without a value (NaN)."""
    n_patients: int
    """Patients among the used cases."""
    seed: int
    resamples: int


def bootstrap_mean(
    values: Sequence[float] | NDArray[np.float64],
    patients: Sequence[str],
    generator: np.random.Generator,
    *,
    level: float = CONFIDENCE_LEVEL,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the percentile bootstrap interval of the mean over cases, drawing whole patients.

    Parameters
    ----------
    values
        (case,) numbers; NaN cases are left out.
    patients
        (case,) the patient of each case; all cases of a drawn patient enter together.
    generator
        Source of the draws; the same state gives the same interval.
    level
        Probability that the interval is made for, between 0 and 1.
    resamples
        Number of bootstrap samples.

    Returns
    -------
    Interval
        With NaN ends if fewer than two patients are left.

    Raises
    ------
    InputError
        If the lengths differ, or the level or number of samples is impossible.

    References
    ----------
    B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; C. A. Field, A. H. Welsh,
    Bootstrapping clustered data, J. R. Stat. Soc. B 69 (2007).
    """
    numbers = _validated(values, patients)
    _require_bootstrap(level, resamples)
    sums, counts = patient_totals(numbers, patients)
    if len(sums) < 2:
        return Interval(low=math.nan, high=math.nan, level=level)
    means = resampled_means(sums, counts, generator, resamples)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high), level=level)


def spread(
    values: Sequence[float] | NDArray[np.float64], patients: Sequence[str], generator: np.random.Generator
) -> Spread:
    """Describe the distribution of a quantity over cases.

    Parameters
    ----------
    values
        (case,) numbers; NaN cases are left out and counted.
    patients
        (case,) the patient of each case.
    generator
        Source of the bootstrap's draws.

    Raises
    ------
    InputError
        If the lengths differ.
    """
    numbers = _validated(values, patients)
    kept = ~np.isnan(numbers)
    used = numbers[kept]
    minimum, first, median, third, maximum = (
        (float(q) for q in np.quantile(used, [0, 0.25, 0.5, 0.75, 1])) if used.size else (math.nan,) * 5
    )
    return Spread(
        n_used=int(used.size),
        n_excluded=int(numbers.size - used.size),
        n_patients=len({patient for patient, keep in zip(patients, kept, strict=True) if keep}),
        mean=float(used.mean()) if used.size else math.nan,
        std=float(used.std(ddof=1)) if used.size > 1 else math.nan,
        minimum=minimum,
        first_quartile=first,
        median=median,
        third_quartile=third,
        maximum=maximum,
        interval=bootstrap_mean(numbers, patients, generator),
    )


def bootstrap(
    values: Sequence[float] | NDArray[np.float64],
    patients: Sequence[str],
    *,
    seed: int,
    statistic: Statistic = "mean",
    level: float = CONFIDENCE_LEVEL,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Estimate the mean or median over cases with its percentile bootstrap interval, drawing whole patients.

    For medians of few cases the interval's coverage is poor; above some 50 patients it is fine.

    Parameters
    ----------
    values
        (case,) numbers; NaN cases are left out and counted.
    patients
        (case,) the patient of each case; all cases of a drawn patient enter together.
    seed
        Of the draws; kept in the result.
    statistic
        ``mean`` or ``median`` over cases.
    level
        Probability that the interval is made for, between 0 and 1.
    resamples
        Number of bootstrap samples.

    Raises
    ------
    InputError
        If the lengths differ, the statistic is unknown, or the level or number of samples is impossible.

    References
    ----------
    See :func:`bootstrap_mean`.
    """
    if statistic not in ("mean", "median"):
        raise InputError(f"The statistic must be 'mean' or 'median'; got '{statistic}'.")
    numbers = _validated(values, patients)
    used = numbers[~np.isnan(numbers)]
    owners = [patient for patient, number in zip(patients, numbers, strict=True) if not math.isnan(number)]
    of = bootstrap_mean if statistic == "mean" else _bootstrap_median
    interval = of(numbers, patients, np.random.default_rng(seed), level=level, resamples=resamples)
    value = math.nan if not used.size else float(used.mean() if statistic == "mean" else np.median(used))
    return Estimate(
        value=value,
        interval=interval,
        statistic=statistic,
        n_used=len(owners),
        n_excluded=len(numbers) - len(owners),
        n_patients=len(set(owners)),
        seed=seed,
        resamples=resamples,
    )


def wilson_interval(successes: int, trials: int, *, level: float = CONFIDENCE_LEVEL) -> Interval:
    """Return Wilson's score interval of a rate; NaN ends without trials.

    Parameters
    ----------
    successes, trials
        Counts, ``0 <= successes <= trials``.
    level
        Between 0 and 1.

    Raises
    ------
    InputError
        If the counts or the level are impossible.

    References
    ----------
    E. B. Wilson, Probable inference, the law of succession, and statistical inference, J. Am. Stat. Assoc. 22 (1927).
    """
    if not 0 <= successes <= trials or not 0 < level < 1:
        raise InputError(f"A rate needs 0 <= successes <= trials; got {successes} of {trials} at level {level}.")
    if trials == 0:
        return Interval(low=math.nan, high=math.nan, level=level)
    z = float(special.ndtri(0.5 + level / 2))
    rate, weight = successes / trials, z * z / trials
    centre = (rate + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(rate * (1 - rate) / trials + weight / (4 * trials))
    return Interval(low=max(0.0, centre - half), high=min(1.0, centre + half), level=level)


def mean_or_nan(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the mean of the numbers that are not NaN; NaN, without a warning, if there are none."""
    numbers = np.asarray(values, dtype=np.float64)
    used = numbers[~np.isnan(numbers)]
    return float(used.mean()) if used.size else math.nan


def _bootstrap_median(
    values: NDArray[np.float64],
    patients: Sequence[str],
    generator: np.random.Generator,
    *,
    level: float,
    resamples: int,
) -> Interval:
    _require_bootstrap(level, resamples)
    grouped: dict[str, list[float]] = {}
    for patient, number in zip(patients, values, strict=True):
        if not math.isnan(number):
            grouped.setdefault(patient, []).append(float(number))
    groups = [np.array(group) for group in grouped.values()]
    if len(groups) < 2:
        return Interval(low=math.nan, high=math.nan, level=level)
    drawn = generator.integers(0, len(groups), size=(resamples, len(groups)))
    medians = [np.median(np.concatenate([groups[i] for i in draw])) for draw in drawn]
    low, high = np.quantile(medians, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high), level=level)


def _require_bootstrap(level: float, resamples: int) -> None:
    if not 0 < level < 1 or resamples < 1:
        raise InputError(f"A bootstrap needs a level between 0 and 1 and samples; got {level} and {resamples}.")


def _validated(values: Sequence[float] | NDArray[np.float64], patients: Sequence[str]) -> NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or numbers.size != len(patients):
        raise InputError(f"Every value needs a patient; got shape {numbers.shape} and {len(patients)} patients.")
    return numbers


def patient_totals(
    numbers: NDArray[np.float64], patients: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (patient,) sums and counts of the numbers that are not NaN, patients in order of appearance."""
    kept = [(patient, number) for patient, number in zip(patients, numbers, strict=True) if not math.isnan(number)]
    # patients in order of appearance: calling them by other names changes nothing
    order = {patient: i for i, patient in enumerate(dict.fromkeys(patient for patient, _ in kept))}
    index = np.array([order[patient] for patient, _ in kept], dtype=np.intp)
    sums = np.bincount(index, weights=np.array([number for _, number in kept], dtype=np.float64))
    return sums.astype(np.float64), np.bincount(index).astype(np.float64)


def resampled_means(
    sums: NDArray[np.float64], counts: NDArray[np.float64], generator: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """Return (resample,) means over cases of bootstrap samples of patients, from :func:`patient_totals`."""
    n = len(sums)
    rows = max(1, _BLOCK_DRAWS // n)
    parts = []
    for start in range(0, resamples, rows):
        drawn = generator.integers(0, n, size=(min(rows, resamples - start), n))
        parts.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(parts)
