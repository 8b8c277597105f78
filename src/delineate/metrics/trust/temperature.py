"""Temperature scaling: the one number by which logits are divided so that stated probabilities come true.

References
----------
C. Guo et al., On calibration of modern neural networks, ICML 2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from delineate.errors import InputError

LOWEST, HIGHEST = 0.05, 20.0
"""Temperatures that are tried."""
VOXELS_PER_CASE = 2000
"""Half of them near a boundary of the reference, half anywhere."""
BOUNDARY_VOXELS = 2
"""How near."""


def choose_voxels(
    labels: NDArray[Any], generator: np.random.Generator, *, count: int = VOXELS_PER_CASE, ignore: int | None = None
) -> NDArray[np.int64]:
    """Choose the voxels of a case whose logits are looked at.

    Parameters
    ----------
    labels
        (z, y, x) reference label values; negative ones count as background.
    generator
        Of the draws.
    count
        How many: half near a boundary, half anywhere; fewer if there are not as many.
    ignore
        Voxels of this value are never chosen.

    Returns
    -------
    NDArray
        (n,) flat indices, ascending, each once.
    """
    clean = np.where(labels == ignore, 0, np.maximum(labels, 0))
    known = np.ones(labels.shape, np.bool_) if ignore is None else labels != ignore
    size = tuple(1 if n == 1 else 2 * BOUNDARY_VOXELS + 1 for n in clean.shape)
    near = ndimage.maximum_filter(clean, size) != ndimage.minimum_filter(clean, size)
    chosen = [_drawn(np.flatnonzero(mask), count // 2, generator) for mask in (near & known, known)]
    return np.unique(np.concatenate(chosen))


def _drawn(indices: NDArray[np.int64], count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    return indices if len(indices) <= count else generator.choice(indices, count, replace=False)


class VoxelSample:
    """Collects the logits of chosen voxels from slabs that pass by.

    Parameters
    ----------
    indices
        (n,) flat indices into (z, y, x), ascending.
    plane
        (y, x) voxels of a plane.
    """

    def __init__(self, indices: NDArray[np.int64], plane: Sequence[int]) -> None:
        self._indices, self._plane = indices, math.prod(plane)
        self._passed = 0
        self._parts: list[NDArray[np.float32]] = []

    def add(self, slab: NDArray[Any]) -> None:
        """Take what is wanted of the next planes (head, planes, y, x)."""
        stop = self._passed + slab.shape[1] * self._plane
        first, last = np.searchsorted(self._indices, (self._passed, stop))
        wanted = self._indices[first:last] - self._passed
        self._parts.append(slab.reshape(len(slab), -1)[:, wanted].T.astype(np.float32))
        self._passed = stop

    @property
    def logits(self) -> NDArray[np.float32]:
        """(n, head) of the voxels that have passed."""
        return np.concatenate(self._parts)


def fit_temperature(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """Return the temperature at which the logits' softmax has the least mean negative log-likelihood.

    Parameters
    ----------
    logits
        (sample, class).
    labels
        (sample,) true class.

    Raises
    ------
    InputError
        If there is no sample or the lengths differ.
    """
    values = np.asarray(logits, np.float64)
    if values.ndim != 2 or not len(values) or len(values) != len(labels):
        raise InputError(f"A temperature needs logits (sample, class) with labels; got {values.shape}, {len(labels)}.")
    said = np.take_along_axis(values, np.asarray(labels, np.intp)[:, None], 1)[:, 0]

    def loss(log_temperature: float) -> float:
        scaled = values / math.exp(log_temperature)
        top = scaled.max(1)
        norm = top + np.log(np.exp(scaled - top[:, None]).sum(1))
        return float((norm - said / math.exp(log_temperature)).mean())

    found = optimize.minimize_scalar(loss, bounds=(math.log(LOWEST), math.log(HIGHEST)), method="bounded")
    return float(math.exp(found.x))


def fit_binary_temperature(logits: NDArray[Any], truths: NDArray[np.bool_]) -> float:
    """Return the temperature of a sigmoid: as :func:`fit_temperature` for logits (sample,) and what was true."""
    values = np.asarray(logits, np.float64)
    return fit_temperature(np.stack([np.zeros_like(values), values], 1), np.asarray(truths, np.intp))
