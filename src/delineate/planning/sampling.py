"""nnU-Net's draw of foreground intensities, number for number, but quicker.

Every case draws with its own ``RandomState(1234)``, that is from one and the same stream of words: numpy's legacy
generator masks each word to the next power of two and rejects what is too large. So the stream is made once and each
case only masks and filters it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLING_SEED = 1234
"""Seed of every case's draw (nnU-Net ``collect_foreground_intensities``)."""
LARGEST_STREAM = 2**24
"""Words that are kept; larger draws go through numpy itself."""


class DrawStream:
    """Indices as ``RandomState(1234).choice`` would draw them with replacement, one channel after the other."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self._words = np.empty(0, dtype=np.uint32)

    def indices(self, populations: Sequence[int]) -> tuple[NDArray[np.int64], ...]:
        """Return ``(samples,)`` indices for each channel; a channel without voxels gets none and uses up nothing.

        Parameters
        ----------
        populations
            Number of foreground voxels per channel of one case.
        """
        if 3 * self.samples * len(populations) > LARGEST_STREAM:
            return self._drawn_by_numpy(populations)
        start = 0
        drawn = []
        for population in populations:
            indices, start = self._filtered(population, start)
            drawn.append(indices)
        return tuple(drawn)

    def _drawn_by_numpy(self, populations: Sequence[int]) -> tuple[NDArray[np.int64], ...]:
        generator = np.random.RandomState(SAMPLING_SEED)
        empty = np.empty(0, dtype=np.int64)
        return tuple(generator.randint(0, n, self.samples, dtype=np.int64) if n else empty for n in populations)

    def _filtered(self, population: int, start: int) -> tuple[NDArray[np.int64], int]:
        """Return the indices and the position in the stream after them."""
        if population <= 1:
            return np.zeros(self.samples * population, dtype=np.int64), start
        mask = np.uint32(2 ** (population - 1).bit_length() - 1)
        # a little more than the mean is needed; more words are taken if luck is against us
        length = int(1.02 * self.samples * (int(mask) + 1) / population) + 64
        while True:
            words = self._stream(start + length)[start:] & mask
            accepted = np.flatnonzero(words < population)
            if len(accepted) >= self.samples:
                break
            length *= 2
        accepted = accepted[: self.samples]
        used = int(accepted[-1]) + 1 if len(accepted) else 0
        return words[accepted].astype(np.int64), start + used

    def _stream(self, length: int) -> NDArray[np.uint32]:
        if len(self._words) < length:
            generator = np.random.RandomState(SAMPLING_SEED)
            self._words = generator.randint(0, 2**32, length, dtype=np.uint32)
        return self._words[:length]


def percentiles_of_counts(
    values: NDArray[Any], counts: NDArray[np.int64], percentages: Sequence[float]
) -> tuple[float, ...]:
    """Return what ``np.percentile(np.repeat(values, counts), percentages)`` returns, without repeating.

    Parameters
    ----------
    values
        ``(n,)``, any order.
    counts
        ``(n,)``, how often each value occurs; some above 0.
    percentages
        0 to 100.
    """
    order = np.argsort(values, kind="stable")
    ends = np.cumsum(counts[order])
    positions = (int(ends[-1]) - 1) * np.true_divide(np.array(percentages, dtype=np.float64), 100)
    lower = np.floor(positions).astype(np.int64)
    upper = np.minimum(lower + 1, int(ends[-1]) - 1)
    a, b = (values[order[np.searchsorted(ends, place, side="right")]] for place in (lower, upper))
    gamma, step = positions - lower, b - a
    # numpy's own interpolation: from the nearer end
    return tuple(float(v) for v in np.where(gamma >= 0.5, b - step * (1 - gamma), a + step * gamma))
