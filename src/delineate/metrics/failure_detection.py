"""How well a score of doubt tells good from bad: ranking, and the risk that is left when doubtful cases are set aside.

Knows numbers only. Scores grow with doubt; risks are 1 - Dice or any other loss.

References
----------
Y. Geifman, R. El-Yaniv, Selective classification for deep neural networks, NeurIPS 2017, and Geifman et al.,
Bias-reduced uncertainty estimation, ICLR 2019 (AURC); M. Zenk et al., Comparative benchmarking of failure detection
methods in medical image segmentation, Medical Image Analysis 2025, arXiv 2406.03323.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from delineate.errors import InputError
from delineate.metrics.statistics import CONFIDENCE_LEVEL, Interval

RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class RiskCoverage:
    """The mean risk of the cases that are kept, for every number of cases kept."""

    coverage: NDArray[np.float64]
    """(n,) share of cases kept, the most trusted first: 1/n, 2/n, ..., 1."""
    risk: NDArray[np.float64]
    """(n,) mean risk of these cases."""

    @property
    def area(self) -> float:
        """Area under the curve (AURC): the mean of ``risk``; NaN without cases."""
        return float(self.risk.mean()) if self.risk.size else math.nan


def auroc(positive: Sequence[float] | NDArray[np.float64], negative: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the probability that a positive has a larger score than a negative, ties counted half.

    Parameters
    ----------
    positive, negative
        Scores of the cases that should be noticed and of the others, (n,) each.

    Returns
    -------
    float
        0 to 1; NaN if one side is empty.

    Raises
    ------
    InputError
        If a score is NaN.
    """
    high, low = _scores(positive), _scores(negative)
    if not high.size or not low.size:
        return math.nan
    ranks = stats.rankdata(np.concatenate([high, low]))
    return float((ranks[: len(high)].sum() - len(high) * (len(high) + 1) / 2) / (len(high) * len(low)))


def auroc_interval(
    scores: Sequence[float] | NDArray[np.float64],
    positive: Sequence[bool] | NDArray[np.bool_],
    patients: Sequence[str],
    *,
    seed: int,
    level: float = CONFIDENCE_LEVEL,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the percentile bootstrap interval of :func:`auroc`, drawing whole patients.

    A shifted copy and its original are of one patient and enter together.

    Parameters
    ----------
    scores
        (case,) doubt.
    positive
        (case,) whether the case should be noticed.
    patients
        (case,) the patient of each.
    seed
        Of the draws.
    level
        Probability that the interval is made for.
    resamples
        Number of bootstrap samples; those without positives or negatives are left out.

    Returns
    -------
    Interval
        With NaN ends if fewer than two patients or one kind of cases are there.

    Raises
    ------
    InputError
        If the lengths differ or a score is NaN.
    """
    values, truths = _scores(scores), np.asarray(positive, np.bool_)
    if not len(values) == len(truths) == len(patients):
        raise InputError(f"Every score needs a truth and a patient; got {len(values)}, {len(truths)}, {len(patients)}.")
    order = {patient: i for i, patient in enumerate(dict.fromkeys(patients))}
    if len(order) < 2 or truths.all() or not truths.any():
        return Interval(low=math.nan, high=math.nan, level=level)
    owner = np.array([order[patient] for patient in patients], np.intp)
    generator = np.random.default_rng(seed)
    drawn = [_weighted_auroc(values, truths, _weights(generator, len(order))[owner]) for _ in range(resamples)]
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high), level=level)


def _weights(generator: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Return how often each of n patients is drawn."""
    return np.bincount(generator.integers(0, n, n), minlength=n).astype(np.float64)


def _weighted_auroc(values: NDArray[np.float64], truths: NDArray[np.bool_], weights: NDArray[np.float64]) -> float:
    _, place = np.unique(values, return_inverse=True)
    positives = np.bincount(place, weights * truths)
    negatives = np.bincount(place, weights * ~truths, len(positives))
    below = np.cumsum(negatives) - negatives
    pairs = positives.sum() * negatives.sum()
    return float((positives * (below + negatives / 2)).sum() / pairs) if pairs else math.nan


def risk_coverage(scores: Sequence[float] | NDArray[np.float64], risks: Sequence[float]) -> RiskCoverage:
    """Return the risk-coverage curve of a score.

    Cases of equal score are kept in no particular order: the curve is the expectation over all orders.

    Parameters
    ----------
    scores
        (case,) doubt; the least doubtful cases are kept first.
    risks
        (case,) what a wrong answer costs, such as 1 - Dice.

    Raises
    ------
    InputError
        If the lengths differ or a number is NaN.
    """
    values, costs = _scores(scores), _scores(risks)
    if len(values) != len(costs):
        raise InputError(f"Every score needs a risk; got {len(values)} and {len(costs)}.")
    n = len(values)
    order = np.argsort(values, kind="stable")
    _, place = np.unique(values, return_inverse=True)
    means = np.bincount(place, costs) / np.maximum(np.bincount(place), 1) if n else costs
    kept = np.arange(1, n + 1)
    return RiskCoverage(coverage=kept / max(n, 1), risk=np.cumsum(means[place[order]]) / kept)


def ideal_area(risks: Sequence[float]) -> float:
    """Return the area under the risk-coverage curve of a score that knows the risks (case,)."""
    return risk_coverage(_scores(risks), risks).area


def random_area(risks: Sequence[float]) -> float:
    """Return the area under the risk-coverage curve of a score that knows nothing: the mean of the risks (case,)."""
    return float(np.mean(_scores(risks))) if len(risks) else math.nan


def rank_correlation(scores: Sequence[float], risks: Sequence[float]) -> float:
    """Return Spearman's rank correlation of scores (case,) with risks (case,), -1 to 1; NaN if one is constant."""
    values, costs = stats.rankdata(_scores(scores)), stats.rankdata(_scores(risks))
    if len(values) < 2 or not np.ptp(values) or not np.ptp(costs):
        return math.nan
    return float(np.corrcoef(values, costs)[0, 1])


def _scores(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or np.isnan(numbers).any():
        raise InputError(f"Scores must be a list of numbers without NaN; got an array of shape {numbers.shape}.")
    return numbers
