"""What the probabilities themselves say about a segmentation, summed slab by slab: no volume is ever held.

References
----------
J. Roy et al., Bayesian QuickNAT, NeuroImage 195 (2019), for scores of a structure from its own uncertainty; the
expected Dice is that of a mask with itself drawn from the stated probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEGLIGIBLE_LOGIT = 6.0
"""Voxels whose best foreground logit is this far below background (probability 0.25 %) are not looked at: nearly all
voxels, and of no influence on the sums."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Uncertainty:
    """How sure a network is of its own label map; on the prepared grid."""

    expected_dice: tuple[float, ...]
    """Per foreground head: 2 sum_A p / (|A| + sum p), A the predicted mask; NaN if nothing is predicted."""
    boundary_entropy: float
    """Mean entropy in bits over the voxels at a boundary of the label map; NaN without a boundary."""
    confidence: float
    """Mean probability of the winner over predicted foreground; NaN without foreground."""


class UncertaintySums:
    """Sums over the slabs of logits of one volume, in any partition of its planes.

    A voxel belongs to the boundary if its label differs from that of a neighbour in its plane or of the voxel in the
    plane before.

    Parameters
    ----------
    regions
        Whether the heads are regions (a sigmoid each) instead of labels (softmax; head 0 is background).
    """

    def __init__(self, *, regions: bool) -> None:
        self._regions = regions
        self._inside = self._size = self._mass = np.zeros(0)
        self._entropy = self._confidence = 0.0
        self._band = self._foreground = 0
        self._before: NDArray[Any] | None = None

    def watch(self, slabs: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Hand on slabs (head, planes, y, x), having added them."""
        for slab in slabs:
            self.add(slab)
            yield slab

    def add(self, slab: NDArray[Any]) -> None:
        """Add the next planes: (head, planes, y, x) logits."""
        codes, active = self._codes(slab)
        band = self._boundary(codes)
        used = active | band
        probabilities = _probabilities(slab[:, used].astype(np.float32), regions=self._regions)
        won = self._winners(slab, codes, used)
        foreground = probabilities if self._regions else probabilities[1:]
        if not len(self._size):
            self._inside, self._size, self._mass = np.zeros((3, len(foreground)))
        self._inside += np.where(won, foreground, 0).sum(1, dtype=np.float64)
        self._size += won.sum(1)
        self._mass += foreground.sum(1, dtype=np.float64)
        self._confidence += float(np.where(won, foreground, 0).max(0, initial=0).sum(dtype=np.float64))
        self._foreground += int(won.any(0).sum())
        self._entropy += float(_entropy_bits(probabilities[:, band[used]], regions=self._regions).sum())
        self._band += int(band.sum())

    def result(self) -> Uncertainty:
        """Return what the sums say."""
        whole = self._size + self._mass
        dice = np.divide(2 * self._inside, whole, out=np.full(len(whole), np.nan), where=self._size > 0)
        return Uncertainty(
            expected_dice=tuple(float(d) for d in dice),
            boundary_entropy=self._entropy / self._band if self._band else math.nan,
            confidence=self._confidence / self._foreground if self._foreground else math.nan,
        )

    def _codes(self, slab: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return per voxel a number for what is predicted, and whether foreground is possible there."""
        if not self._regions:
            return slab.argmax(0), slab[1:].max(0) - slab[0] > -NEGLIGIBLE_LOGIT
        weights = 2.0 ** np.arange(len(slab)) if len(slab) <= 32 else np.sqrt(2 + np.arange(len(slab)))
        return np.tensordot(weights, slab > 0, 1), slab.max(0) > -NEGLIGIBLE_LOGIT

    def _winners(self, slab: NDArray[Any], codes: NDArray[Any], used: NDArray[np.bool_]) -> NDArray[np.bool_]:
        if self._regions:
            return np.asarray(slab[:, used] > 0)
        return np.asarray(codes[used] == np.arange(1, len(slab))[:, None])

    def _boundary(self, codes: NDArray[Any]) -> NDArray[np.bool_]:
        """Return (planes, y, x) bool: whether a voxel lies at a boundary."""
        band = np.zeros(codes.shape, np.bool_)
        for axis in (1, 2):
            differs = np.diff(codes, axis=axis) != 0
            low, high = [slice(None)] * 3, [slice(None)] * 3
            low[axis], high[axis] = slice(None, -1), slice(1, None)
            band[tuple(low)] |= differs
            band[tuple(high)] |= differs
        band[1:] |= np.diff(codes, axis=0) != 0
        if self._before is not None:
            band[0] |= codes[0] != self._before
        self._before = codes[-1].copy()
        return band


def _probabilities(logits: NDArray[np.float32], *, regions: bool) -> NDArray[np.float32]:
    if regions:
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -60, 60))), np.float32)
    powers = np.exp(logits - logits.max(0, initial=-np.inf))
    return np.asarray(powers / powers.sum(0), np.float32)


def _entropy_bits(probabilities: NDArray[np.float32], *, regions: bool) -> NDArray[np.float64]:
    """Return the entropy per voxel; of regions the mean over the heads."""
    p = np.clip(probabilities.astype(np.float64), 1e-12, 1 - 1e-12)
    found = (-(p * np.log2(p) + (1 - p) * np.log2(1 - p))).mean(0) if regions else -(p * np.log2(p)).sum(0)
    return np.asarray(found)
