"""From scores that need no reference to the Dice that they let expect.

    Dice = clip(b - sum_j w_j (x_j - m_j) / s_j, 0, 1),    w_j >= 0

with m_j and s_j the median and the spread of score j over the cases of the fit. No weight is negative and every score
grows with doubt, so more doubt never raises the expectation, also far outside the range that was fitted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from delineate.errors import InputError

LEAST_CASES = 8
RIDGE = 1.0
"""Weight of the penalty on the squared weights, in cases."""
GROUPS = 10
"""The error is measured on a tenth of the cases that was left out of the fit, in turn."""
LEAST_SPREAD = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityModel:
    """The fitted expectation."""

    names: tuple[str, ...]
    """Of the scores; larger means more doubt."""
    medians: tuple[float, ...]
    spreads: tuple[float, ...]
    weights: tuple[float, ...]
    """Dice lost per spread above the median."""
    intercept: float
    error: float
    """Mean absolute error on cases that were left out."""
    lowest: float
    """The fifth percentile of the expectation over the cases of the fit, each left out."""

    def expect(self, scores: Mapping[str, float]) -> float:
        """Return the expected Dice, 0 to 1; scores that are missing or NaN count as ordinary."""
        lost = 0.0
        for name, median, spread, weight in zip(self.names, self.medians, self.spreads, self.weights, strict=True):
            value = scores.get(name, math.nan)
            lost += 0.0 if math.isnan(value) else weight * (value - median) / spread
        return float(min(1.0, max(0.0, self.intercept - lost)))


def fit_quality(scores: Sequence[Mapping[str, float]], dice: Sequence[float], names: Sequence[str]) -> QualityModel:
    """Fit the expectation on cases whose Dice is known and that the network was not trained on.

    Parameters
    ----------
    scores
        Per case; larger means more doubt; NaN where a score says nothing.
    dice
        Per case, 0 to 1.
    names
        The scores that may be used; those without a number in any case are left out.

    Raises
    ------
    InputError
        If there are fewer than :data:`LEAST_CASES` cases or no score has numbers.
    """
    table = np.array([[s.get(name, math.nan) for name in names] for s in scores], np.float64).reshape(-1, len(names))
    known: NDArray[np.bool_] = np.asarray((~np.isnan(table)).any(0))
    if len(table) < LEAST_CASES or not known.any() or len(table) != len(dice):
        raise InputError(
            f"To expect a Dice, at least {LEAST_CASES} cases with a known Dice are needed; got {len(table)}."
        )
    table, kept = table[:, known], [name for name, k in zip(names, known, strict=True) if k]
    truth = np.asarray(dice, np.float64)
    groups = np.arange(len(table)) % min(GROUPS, len(table))
    left_out = np.empty(len(table))
    for group in np.unique(groups):
        out = groups == group
        model = _fitted(table[~out], truth[~out], kept)
        left_out[out] = [model.expect(dict(zip(kept, row, strict=True))) for row in table[out]]
    whole = _fitted(table, truth, kept)
    return QualityModel(
        names=whole.names,
        medians=whole.medians,
        spreads=whole.spreads,
        weights=whole.weights,
        intercept=whole.intercept,
        error=float(np.abs(left_out - truth).mean()),
        lowest=float(np.quantile(left_out, 0.05)),
    )


def _fitted(table: NDArray[np.float64], dice: NDArray[np.float64], names: Sequence[str]) -> QualityModel:
    medians = np.nanmedian(table, axis=0)
    low, high = np.nanquantile(table, [0.25, 0.75], axis=0)
    spreads = np.maximum((high - low) / 1.349, LEAST_SPREAD)  # of a normal distribution: its standard deviation
    standard = np.nan_to_num((table - medians) / spreads)
    # lost = intercept' + sum w x with all unknowns non-negative: the loss of a perfect answer is 1 - Dice
    lost, n = 1 - dice, len(names)
    design = np.vstack([np.column_stack([standard, np.ones(len(table))]), np.eye(n, n + 1) * math.sqrt(RIDGE)])
    solution, _ = optimize.nnls(design, np.concatenate([lost, np.zeros(n)]))
    return QualityModel(
        names=tuple(names),
        medians=tuple(map(float, medians)),
        spreads=tuple(map(float, spreads)),
        weights=tuple(map(float, solution[:n])),
        intercept=float(1 - solution[n]),
        error=math.nan,
        lowest=math.nan,
    )
