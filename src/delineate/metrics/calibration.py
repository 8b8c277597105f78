"""Calibration: whether a stated probability is how often the statement is true.

The module knows probabilities and what was true; it does not know images or networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from delineate.errors import InputError, UsageError

Binning = Literal["width", "mass"]
"""Bins of equal width in probability (ECE), or of equal numbers of samples (ACE)."""

BINS = 15
"""Bins of the reliability curve in Guo et al. 2017."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """A reliability curve: what was said against what was true, per bin of stated probability."""

    edges: NDArray[np.float64]
    """(bin + 1,) probabilities; a bin holds what is above its lower edge up to its upper, the first its lower too."""
    counts: NDArray[np.int64]
    """(bin,) samples."""
    confidence: NDArray[np.float64]
    """(bin,) mean stated probability; NaN in an empty bin."""
    accuracy: NDArray[np.float64]
    """(bin,) share that was true; NaN in an empty bin."""
    binning: Binning

    @property
    def error(self) -> float:
        """Sum over bins of n_b / n |accuracy - confidence|, 0 to 1; NaN without samples.

        The expected calibration error (ECE) for bins of equal width, the adaptive one (ACE) for bins of equal mass.
        """
        used = self.counts > 0
        if not used.any():
            return math.nan
        gaps = np.abs(self.accuracy[used] - self.confidence[used])
        return float(np.average(gaps, weights=self.counts[used]))

    @property
    def largest_error(self) -> float:
        """Largest |accuracy - confidence| of a bin (MCE), 0 to 1; NaN without samples."""
        used = self.counts > 0
        return float(np.abs(self.accuracy[used] - self.confidence[used]).max()) if used.any() else math.nan


def reliability(
    confidence: NDArray[Any], correct: NDArray[np.bool_], *, bins: int = BINS, binning: Binning = "width"
) -> Reliability:
    """Return the reliability curve of stated probabilities.

    Parameters
    ----------
    confidence
        Stated probabilities, 0 to 1, any shape: of one structure, or of the winning class.
    correct
        Whether the statement was true, equal shape.
    bins
        Number of bins; with equal mass, equal probabilities can leave fewer.
    binning
        Equal width or equal mass.

    Raises
    ------
    InputError
        If the shapes differ or a probability is not within 0 to 1.
    UsageError
        If there is no bin or the binning is unknown.

    References
    ----------
    C. Guo et al., On calibration of modern neural networks, ICML 2017; J. Nixon et al., Measuring calibration in deep
    learning, CVPR workshops 2019, for equal mass.
    """
    stated, true = _validated(confidence, correct)
    edges = _edges(stated, bins, binning)
    n_bins = len(edges) - 1
    index = np.clip(np.searchsorted(edges, stated, side="left") - 1, 0, n_bins - 1)
    counts = np.bincount(index, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        means = np.bincount(index, stated, n_bins) / counts
        shares = np.bincount(index, true, n_bins) / counts
    return Reliability(edges=edges, counts=counts, confidence=means, accuracy=shares, binning=binning)


def expected_calibration_error(confidence: NDArray[Any], correct: NDArray[np.bool_], *, bins: int = BINS) -> float:
    """Return the ECE, 0 to 1, over bins of equal width; NaN without samples. See :func:`reliability`."""
    return reliability(confidence, correct, bins=bins).error


def adaptive_calibration_error(confidence: NDArray[Any], correct: NDArray[np.bool_], *, bins: int = BINS) -> float:
    """Return the ACE, 0 to 1, over bins of equal mass; NaN without samples. See :func:`reliability`."""
    return reliability(confidence, correct, bins=bins, binning="mass").error


def brier_score(probabilities: NDArray[Any], labels: NDArray[Any]) -> float:
    """Return the mean over samples of sum over classes (p - y)^2, 0 to 2; NaN without samples.

    Parameters
    ----------
    probabilities
        (class, ...) that add up to 1. For one structure put in (1 - p, p); half the result is then the binary score.
    labels
        (...) true class of each sample.

    Raises
    ------
    InputError
        If the shapes do not fit or a label is no class.

    References
    ----------
    G. W. Brier, Verification of forecasts expressed in terms of probability, Mon. Weather Rev. 78 (1950).
    """
    classes = _validated_classes(probabilities, labels)
    if labels.size == 0:
        return math.nan
    rows = probabilities.reshape(classes, -1)
    squares = sum(float((np.asarray(row, np.float64) ** 2).sum()) for row in rows)
    said = np.take_along_axis(rows, labels.reshape(1, -1).astype(np.intp), axis=0).astype(np.float64)
    total = float(squares - 2 * said.sum() + labels.size)
    return max(total, 0.0) / labels.size  # rounding can leave a little below 0


def winning_confidence(probabilities: NDArray[Any], labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the probability of the winning class of each sample, and whether it was the true one.

    Parameters
    ----------
    probabilities
        (class, ...).
    labels
        (...) true class of each sample.

    Raises
    ------
    InputError
        If the shapes do not fit or a label is no class.
    """
    _validated_classes(probabilities, labels)
    return probabilities.max(axis=0), probabilities.argmax(axis=0) == labels


def _validated(confidence: NDArray[Any], correct: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if confidence.shape != correct.shape:
        raise InputError(f"Every probability needs an outcome; got shapes {confidence.shape} and {correct.shape}.")
    stated = np.asarray(confidence, np.float64).ravel()
    if stated.size and not (stated.min() >= 0 and stated.max() <= 1):
        raise InputError(f"Probabilities must be within 0 to 1; got {stated.min()} to {stated.max()}.")
    return stated, np.asarray(correct, np.float64).ravel()


def _validated_classes(probabilities: NDArray[Any], labels: NDArray[Any]) -> int:
    if probabilities.shape[1:] != labels.shape:
        raise InputError(f"Probabilities (class, ...) {probabilities.shape} do not fit labels {labels.shape}.")
    classes = len(probabilities)
    if labels.size and not (0 <= int(labels.min()) and int(labels.max()) < classes):
        raise InputError(f"Labels must be 0 to {classes - 1}; got {labels.min()} to {labels.max()}.")
    return classes


def _edges(stated: NDArray[np.float64], bins: int, binning: Binning) -> NDArray[np.float64]:
    if bins < 1 or binning not in ("width", "mass"):
        raise UsageError(f"A reliability curve needs bins of equal 'width' or 'mass'; got {bins} of '{binning}'.")
    if binning == "width" or stated.size == 0:
        return np.linspace(0, 1, bins + 1)
    edges = np.unique(np.quantile(stated, np.linspace(0, 1, bins + 1)))
    return edges if len(edges) > 1 else np.array([edges[0], edges[0]])
