"""Several masks of one thing: how far people agree, what their consensus is, and how a model compares with them.

Everything about binary masks of R raters follows from how often each of the 2^R patterns of votes occurs, so agreement
and STAPLE read the masks once. The module knows boolean arrays and scores; it does not know who the raters are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.errors import InputError, UsageError
from delineate.metrics.statistics import CONFIDENCE_LEVEL, RESAMPLES, Estimate, bootstrap

MAX_RATERS = 16
"""2^16 vote patterns are counted without effort; more raters than that are not met."""

STAPLE_START = 0.99999
"""First guess of every rater's sensitivity and specificity (Warfield 2004 recommends near 1; SimpleITK's number)."""

STAPLE_TOLERANCE = 1e-7
"""Largest change of a sensitivity or specificity at which the iteration ends."""

MaskScore = Callable[[NDArray[np.bool_], NDArray[np.bool_]], float]
"""Score of a mask (first) against a reference (second)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Staple:
    """What STAPLE estimates: the hidden truth and how good each rater is."""

    probability: NDArray[np.float64]
    """Shape of a mask: probability that the voxel belongs to the structure; above 0.5 is the consensus."""
    sensitivity: NDArray[np.float64]
    """(rater,) 0 to 1."""
    specificity: NDArray[np.float64]
    """(rater,) 0 to 1; depends on how much background the masks have."""
    prior: float
    iterations: int
    converged: bool

    @property
    def consensus(self) -> NDArray[np.bool_]:
        """Voxels of probability above 0.5."""
        consensus: NDArray[np.bool_] = self.probability > 0.5
        return consensus


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOutScores:
    """One case: the model and each left-out rater against the consensus of the other raters."""

    model: tuple[float, ...]
    """(rater,) the model against the consensus without that rater."""
    raters: tuple[float, ...]
    """(rater,) that rater against the same consensus."""

    @property
    def difference(self) -> float:
        """Mean over raters of model minus rater; pairs with a NaN are left out, NaN if none is left."""
        pairs = [m - r for m, r in zip(self.model, self.raters, strict=True) if not math.isnan(m - r)]
        return float(np.mean(pairs)) if pairs else math.nan


@dataclass(frozen=True, kw_only=True, slots=True)
class NonInferiority:
    """Whether a model is no worse than people, by a margin that was declared beforehand."""

    difference: Estimate
    """Mean of model minus person over cases; positive is better for the model."""
    margin: float
    higher_is_better: bool

    @property
    def non_inferior(self) -> bool:
        """Whether the whole interval lies on the good side of minus the margin; False if there is no interval."""
        return self.difference.interval.low > -self.margin

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        interval = self.difference.interval
        numbers = (
            f"difference {self.difference.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
            f"{'' if self.higher_is_better else ' (positive is better)'}, "
            f"margin {self.margin:g}, {self.difference.n_used} cases"
        )
        if math.isnan(interval.low):
            return f"There are too few patients to compare the model with people: {numbers}."
        if self.non_inferior:
            return f"The model differs from the consensus no more than a person does: {numbers}."
        return f"It is not shown that the model differs from the consensus no more than a person does: {numbers}."


def pairwise_dice(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.float64]:
    """Return the Dice of every rater with every other.

    Parameters
    ----------
    masks
        At least two bool arrays of equal shape.

    Returns
    -------
    (rater, rater) float64
        Symmetric, 1 on the diagonal; NaN where both masks are empty.

    Raises
    ------
    InputError
        If there are fewer than two or more than 16 masks, or the shapes differ.
    """
    patterns, counts = _votes(masks)[1:]
    intersections = patterns.T @ (patterns * counts[:, None])
    sizes = np.diag(intersections)
    total = sizes[:, None] + sizes
    return np.asarray(np.divide(2 * intersections, total, out=np.full(total.shape, math.nan), where=total > 0))


def majority(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Return the voxels that more than half of the raters gave to the structure; a tie is not enough.

    Parameters
    ----------
    masks
        At least one bool array, equal shapes.

    Raises
    ------
    InputError
        If there is no mask or the shapes differ.
    """
    _require_equal(masks, least=1)
    votes = np.zeros(masks[0].shape, np.int32)
    for mask in masks:
        votes += mask
    consensus: NDArray[np.bool_] = 2 * votes > len(masks)
    return consensus


def majority_labels(label_maps: Sequence[NDArray[Any]], *, undecided: int = 0) -> NDArray[Any]:
    """Return the label that most raters gave to each voxel.

    Parameters
    ----------
    label_maps
        At least one integer array, equal shapes.
    undecided
        Label of voxels where several labels have the most votes.

    Raises
    ------
    InputError
        If there is no label map or the shapes differ.
    """
    _require_equal(label_maps, least=1)
    best = np.zeros(label_maps[0].shape, np.int32)
    labels = np.full(label_maps[0].shape, undecided, label_maps[0].dtype)
    for value in np.unique(np.concatenate([np.unique(m) for m in label_maps])):
        votes = np.sum([m == value for m in label_maps], axis=0, dtype=np.int32)
        labels[votes == best] = undecided
        labels[votes > best] = value
        np.maximum(best, votes, out=best)
    return labels


def staple(masks: Sequence[NDArray[np.bool_]], *, prior: float | None = None, max_iterations: int = 1000) -> Staple:
    """Estimate the hidden truth behind several masks, and each rater's sensitivity and specificity.

    Expectation maximisation over vote patterns. Depends on how much background surrounds the structure (crop masks
    alike before comparing), and is too sure of itself where raters make the same mistakes.

    Parameters
    ----------
    masks
        2 to 16 bool arrays of equal shape.
    prior
        Share of voxels in the structure, between 0 and 1; by default the mean over all masks.
    max_iterations
        Of expectation maximisation.

    Raises
    ------
    InputError
        If there are fewer than two or more than 16 masks, or the shapes differ.
    UsageError
        If the prior is not between 0 and 1.

    References
    ----------
    S. K. Warfield, K. H. Zou, W. M. Wells, Simultaneous truth and performance level estimation (STAPLE), IEEE TMI 23
    (2004).
    """
    index, patterns, counts = _votes(masks)
    if prior is not None and not 0 < prior < 1:
        raise UsageError(f"The prior of STAPLE must be between 0 and 1; got {prior}.")
    share = float(counts @ patterns.sum(axis=1) / (counts.sum() * len(masks))) if prior is None else prior
    sensitivity = np.full(len(masks), STAPLE_START)
    specificity = np.full(len(masks), STAPLE_START)
    converged = share in (0.0, 1.0)
    iterations = 0
    while not converged and iterations < max_iterations:
        truth = _expected_truth(patterns, sensitivity, specificity, share)
        better = _performance(patterns, counts * truth, sensitivity)
        exact = _performance(1 - patterns, counts * (1 - truth), specificity)
        change = max(np.abs(better - sensitivity).max(), np.abs(exact - specificity).max())
        sensitivity, specificity = better, exact
        iterations += 1
        converged = bool(change < STAPLE_TOLERANCE)
    truth = _expected_truth(patterns, sensitivity, specificity, share)
    return Staple(
        probability=truth[index].reshape(masks[0].shape),
        sensitivity=sensitivity,
        specificity=specificity,
        prior=share,
        iterations=iterations,
        converged=converged,
    )


def leave_one_rater_out(
    model: NDArray[np.bool_],
    masks: Sequence[NDArray[np.bool_]],
    score: MaskScore,
    *,
    consensus: Callable[[Sequence[NDArray[np.bool_]]], NDArray[np.bool_]] = majority,
) -> LeftOutScores:
    """Score a model and every rater against the same references: the consensus of the other raters.

    Parameters
    ----------
    model
        Bool mask of the model.
    masks
        At least three bool masks, one per rater, of equal shape; with two the "consensus" is one person.
    score
        Of a mask against a reference.
    consensus
        Makes the reference from the remaining masks; majority by default.

    Raises
    ------
    InputError
        If there are fewer than three raters, or the shapes differ.
    """
    _require_equal([model, *masks], least=4)
    of_model, of_raters = [], []
    for left_out, mask in enumerate(masks):
        reference = consensus([m for i, m in enumerate(masks) if i != left_out])
        of_model.append(score(model, reference))
        of_raters.append(score(mask, reference))
    return LeftOutScores(model=tuple(of_model), raters=tuple(of_raters))


def non_inferiority(
    differences: Sequence[float] | NDArray[np.float64],
    patients: Sequence[str],
    *,
    margin: float,
    seed: int,
    higher_is_better: bool = True,
    level: float = CONFIDENCE_LEVEL,
    resamples: int = RESAMPLES,
) -> NonInferiority:
    """Test whether a model is no worse than people by more than a margin.

    Non-inferior if the lower end of the two-sided bootstrap interval of the mean difference, drawn by patient, is above
    minus the margin: with a level of 95 % a one-sided test at 2.5 %.

    Parameters
    ----------
    differences
        (case,) model minus person, as :attr:`LeftOutScores.difference`; NaN cases are left out and counted.
    patients
        (case,) the patient of each case.
    margin
        Above 0, in the unit of the score, declared before the data were seen.
    seed
        Of the bootstrap; kept in the result.
    higher_is_better
        False for distances: the differences' signs are turned.
    level, resamples
        See :func:`~delineate.metrics.statistics.bootstrap`.

    Raises
    ------
    InputError
        If the lengths differ.
    UsageError
        If the margin is not above 0.

    References
    ----------
    G. Piaggio et al., Reporting of noninferiority and equivalence randomized trials, JAMA 308 (2012).
    """
    if not (math.isfinite(margin) and margin > 0):
        raise UsageError(f"A margin of non-inferiority must be above 0; got {margin}.")
    better = np.asarray(differences, np.float64) * (1.0 if higher_is_better else -1.0)
    estimate = bootstrap(better, patients, seed=seed, level=level, resamples=resamples)
    return NonInferiority(difference=estimate, margin=margin, higher_is_better=higher_is_better)


def _require_equal(arrays: Sequence[NDArray[Any]], *, least: int) -> None:
    if len(arrays) < least:
        raise InputError(f"Agreement needs at least {least} masks here; got {len(arrays)}.")
    shapes = sorted({a.shape for a in arrays})
    if len(shapes) > 1:
        raise InputError(f"All masks must have one shape; got {', '.join(map(str, shapes))}.")


def _votes(
    masks: Sequence[NDArray[np.bool_]],
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Return the pattern of each voxel, (pattern, rater) votes of 0 or 1, and the voxels of each pattern."""
    _require_equal(masks, least=2)
    if len(masks) > MAX_RATERS:
        raise InputError(f"Agreement takes at most {MAX_RATERS} masks; got {len(masks)}.")
    codes = np.zeros(masks[0].size, np.uint16)
    for rater, mask in enumerate(masks):
        codes |= mask.ravel().astype(np.uint16) << np.uint16(rater)
    counts = np.bincount(codes, minlength=1 << len(masks))
    seen = np.flatnonzero(counts)
    index = np.zeros(len(counts), np.intp)
    index[seen] = np.arange(len(seen))
    patterns = (seen[:, None] >> np.arange(len(masks)) & 1).astype(np.float64)
    return index[codes], patterns, counts[seen].astype(np.float64)


def _expected_truth(
    patterns: NDArray[np.float64],
    sensitivity: NDArray[np.float64],
    specificity: NDArray[np.float64],
    prior: float,
) -> NDArray[np.float64]:
    inside = prior * _ordered(np.where(patterns > 0, sensitivity, 1 - sensitivity), axis=1).prod(axis=1)
    outside = (1 - prior) * _ordered(np.where(patterns > 0, 1 - specificity, specificity), axis=1).prod(axis=1)
    total = inside + outside
    return np.asarray(np.divide(inside, total, out=np.full(len(total), prior), where=total > 0))


def _performance(
    agreed: NDArray[np.float64], weights: NDArray[np.float64], before: NDArray[np.float64]
) -> NDArray[np.float64]:
    total = _ordered(weights, axis=0).sum()
    agreeing = _ordered(weights[:, None] * agreed, axis=0).sum(axis=0)
    # rounding alone could give a rater more than everything
    return np.minimum(agreeing / total, 1.0) if total > 0 else before


def _ordered(values: NDArray[np.float64], *, axis: int) -> NDArray[np.float64]:
    """Return the values sorted, so that a sum or product of them is the same to the last bit in any order of raters.

    Where two raters are equally right, rounding would otherwise decide between them.
    """
    return np.sort(values, axis=axis)
