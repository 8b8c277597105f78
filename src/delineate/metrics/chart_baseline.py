"""What was usual in the baseline of a control chart: centre and spread without accidents, and ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from delineate.errors import InputError
from delineate.metrics.chart_limits import Limits

Scale = Literal["linear", "log10"]

LEAST_BASELINE = 20
"""Cases without which limits mean nothing (W. A. Shewhart asked for 25 subgroups)."""
OUTLIER_DEVIATIONS = 3.5
"""Robust deviations beyond which a baseline value is left out of the limits (B. Iglewicz, D. Hoaglin, 1993)."""
HEADER_NOISE = 1e-4
"""Relative range of a baseline that counts as "never varied": single precision and rounding in headers."""
OUTLIER_SHARE = 0.05
"""Outliers that are more of the baseline than this are no accidents but part of what is usual, and stay."""
_LOG_RATIO = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """What was usual."""

    n_used: int
    n_outliers: int
    """Baseline values that were left out of the limits for single cases."""
    centre: float
    """Mean of the used values, on the scale."""
    sd: float
    """Their standard deviation, on the scale; 0 if they never varied."""
    scale: Scale
    """``log10`` for positive values that spread over more than a factor of 10."""
    values: NDArray[np.float64]
    """Sorted, outliers included, as given: what ranks are taken among."""

    def value_at(self, score: float) -> float:
        """Return the baseline value whose centred normal score is this; the extremes beyond them."""
        return float(np.quantile(self.values, stats.norm.cdf(_mean_score(self.values) + score)))


def require_baseline(baseline: int, known: int, run_length: float) -> None:
    """Refuse a baseline that is too short, or longer than the cases that have a value, and impossible run lengths.

    Raises
    ------
    InputError
        If it is so.
    """
    if not LEAST_BASELINE <= baseline <= known or not run_length > 10:
        raise InputError(
            f"A control chart needs a baseline of {LEAST_BASELINE} or more of the cases that have a value, and more "
            f"than 10 cases between false alarms; got a baseline of {baseline} of {known} cases and {run_length}."
        )


def baseline_of(values: NDArray[np.float64]) -> Baseline:
    """Return what was usual among a baseline's values (case,), which are all numbers."""
    log = bool((values > 0).all()) and float(values.max() / values.min()) > _LOG_RATIO
    scaled = np.log10(values) if log else values
    kept = _without_outliers(scaled)
    varied = float(np.ptp(kept)) > HEADER_NOISE * float(np.abs(kept).max())
    return Baseline(
        n_used=len(kept),
        n_outliers=len(values) - len(kept),
        centre=float(kept.mean()),
        sd=float(kept.std(ddof=1)) if varied else 0.0,
        scale="log10" if log else "linear",
        values=np.sort(values),
    )


def _without_outliers(values: NDArray[np.float64]) -> NDArray[np.float64]:
    median = np.median(values)
    deviation = 1.4826 * float(np.median(np.abs(values - median)))
    kept = values[np.abs(values - median) <= OUTLIER_DEVIATIONS * deviation]
    # a feature that is the same in most cases has no robust deviation; then nothing is an outlier
    return kept if deviation and len(values) - len(kept) <= OUTLIER_SHARE * len(values) else values


def single_case_bounds(usual: Baseline, limits: Limits) -> tuple[float, float]:
    """Return the values beyond which a single case is an alarm."""
    used = np.log10(usual.values) if usual.scale == "log10" else usual.values
    # the used values are those in the middle of the sorted ones, as outliers are at the ends
    kept = np.sort(_without_outliers(used))
    room = float(np.ptp(kept)) / 2
    low = min(usual.centre - limits.individuals * usual.sd, float(kept[0]) - room)
    high = max(usual.centre + limits.individuals * usual.sd, float(kept[-1]) + room)
    return (10**low, 10**high) if usual.scale == "log10" else (low, high)


def normal_scores(numbers: NDArray[np.float64], usual: Baseline) -> NDArray[np.float64]:
    """Return the centred normal scores of the ranks of values (case,) among the baseline's; NaN stays."""
    found = _quantiles(numbers, usual.values) - _mean_score(usual.values)
    return np.where(np.isnan(numbers), np.nan, found)


def _mean_score(values: NDArray[np.float64]) -> float:
    """Return the mean score of a baseline among itself: not 0 if many values are equal."""
    return float(_quantiles(values, values).mean())


def _quantiles(numbers: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return normal scores of ranks among sorted values; equal ones count half."""
    smaller = np.searchsorted(among, numbers, "left")
    not_larger = np.searchsorted(among, numbers, "right")
    scores: NDArray[np.float64] = stats.norm.ppf((0.5 * (smaller + not_larger) + 0.5) / (len(among) + 1))
    return scores
