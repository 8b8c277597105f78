"""Do volumes agree? Bias and limits of agreement (Bland, Altman)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delineate.errors import InputError
from delineate.metrics.cohort import CaseRows
from delineate.metrics.statistics import CONFIDENCE_LEVEL, RESAMPLES, Estimate, Interval, bootstrap

LIMIT_FACTOR = 1.96
"""Standard deviations between bias and limits, so that they hold 95 % of normal differences (Bland, Altman 1986)."""

_BLOCK_DRAWS = 1 << 20
"""Numbers of draws held in memory at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeAgreement:
    """Predicted against reference volume of one structure; cases in which neither map has it are left out."""

    structure: str
    case_ids: tuple[str, ...]
    predicted_ml: tuple[float, ...]
    reference_ml: tuple[float, ...]
    bias_ml: Estimate
    """Mean of predicted minus reference."""
    limits_ml: tuple[float, float]
    """Bias minus and plus 1.96 standard deviations of the differences; NaN for fewer than two cases."""
    limits_intervals: tuple[Interval, Interval]
    """Of the lower and the upper limit, bootstrap by patient."""
    concordance: float
    """Lin's concordance correlation; NaN for fewer than two cases or if no volume differs from another."""
    seed: int


def agree_on_volumes(cases: Sequence[CaseRows], *, seed: int) -> tuple[VolumeAgreement, ...]:
    """Compare predicted with reference volumes, per structure in the order of the rows.

    Parameters
    ----------
    cases
        One entry per case, all with the same structures. For planes the "volumes" are areas in mm^2 / 1000.
    seed
        Of the bootstrap by patient; every structure starts from it anew.

    Raises
    ------
    InputError
        If the cases do not have the same structures.

    References
    ----------
    J. M. Bland, D. G. Altman, Statistical methods for assessing agreement between two methods of clinical measurement,
    Lancet 327 (1986); L. I.-K. Lin, A concordance correlation coefficient to evaluate reproducibility, Biometrics 45
    (1989).
    """
    names = [tuple(row.name for row in case.rows) for case in cases]
    odd = [case.case_id for case, found in zip(cases, names, strict=True) if found != names[0]]
    if odd:
        raise InputError(f"All cases need the structures of {cases[0].case_id} to compare volumes; not so {odd[0]}.")
    return tuple(_agree(index, cases, seed) for index in range(len(names[0]))) if names else ()


def lin_concordance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return Lin's concordance correlation of two lists, -1 to 1.

    2 s_xy / (s_x^2 + s_y^2 + (mean_x - mean_y)^2) with moments over n; NaN for fewer than two pairs, or if neither list
    varies and the means are equal.

    Parameters
    ----------
    first, second
        (case,) numbers in one unit.

    References
    ----------
    L. I.-K. Lin, Biometrics 45 (1989).
    """
    if len(first) < 2:
        return math.nan
    spread = float(first.var() + second.var() + (first.mean() - second.mean()) ** 2)
    shared = float(((first - first.mean()) * (second - second.mean())).mean())
    return 2 * shared / spread if spread > 0 else math.nan


def _agree(index: int, cases: Sequence[CaseRows], seed: int) -> VolumeAgreement:
    there = [case for case in cases if case.rows[index].presence != "true_negative"]
    predicted = np.array([case.rows[index].predicted_ml for case in there], np.float64)
    reference = np.array([case.rows[index].reference_ml for case in there], np.float64)
    differences, patients = predicted - reference, [case.patient_id for case in there]
    bias = bootstrap(differences, patients, seed=seed)
    half = LIMIT_FACTOR * float(differences.std(ddof=1)) if len(there) > 1 else math.nan
    return VolumeAgreement(
        structure=cases[0].rows[index].name,
        case_ids=tuple(case.case_id for case in there),
        predicted_ml=tuple(predicted.tolist()),
        reference_ml=tuple(reference.tolist()),
        bias_ml=bias,
        limits_ml=(bias.value - half, bias.value + half),
        limits_intervals=_limits_intervals(differences, patients, seed),
        concordance=lin_concordance(predicted, reference),
        seed=seed,
    )


def _limits_intervals(
    differences: NDArray[np.float64], patients: Sequence[str], seed: int
) -> tuple[Interval, Interval]:
    owners = {patient: i for i, patient in enumerate(dict.fromkeys(patients))}
    if len(owners) < 2:
        return (Interval(low=math.nan, high=math.nan),) * 2
    index = [owners[patient] for patient in patients]
    centre = differences.mean()  # squares of what is left lose no digits
    powers = [np.bincount(index, (differences - centre) ** power).astype(np.float64) for power in range(3)]
    moments = np.stack(powers, axis=1)
    counts, sums, squares = _resampled(moments, np.random.default_rng(seed)).T
    means = sums / counts
    variances = np.maximum(squares - counts * means**2, 0) / (counts - 1)
    half = LIMIT_FACTOR * np.sqrt(variances)
    return _interval(centre + means - half), _interval(centre + means + half)


def _resampled(moments: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """(sample, moment) sums over as many patients as there are, drawn with replacement."""
    n = len(moments)
    rows = max(1, _BLOCK_DRAWS // n)
    sizes = [min(rows, RESAMPLES - start) for start in range(0, RESAMPLES, rows)]
    return np.concatenate([generator.multinomial(n, np.full(n, 1 / n), size) @ moments for size in sizes])


def _interval(samples: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(samples, [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2])
    return Interval(low=float(low), high=float(high))
