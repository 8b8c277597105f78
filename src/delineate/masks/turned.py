"""Does a mask fit another one only when its array is turned? Flipped and exchanged axes leave no trace in a header.

Knows boolean arrays; does not know where they come from.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delineate.errors import GeometryError

POOR_DICE = 0.5
"""Masks that overlap more are not turned."""
GOOD_DICE = 0.7
"""What a turned mask must reach, ..."""
LEAST_GAIN = 0.4
"""... and by how much it must be better: organs that are nearly symmetrical fit nearly as well when flipped."""
MOST_VOXELS = 1 << 20
"""Larger arrays are thinned out before they are turned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """How an array must be turned to fit."""

    order: tuple[int, ...]
    """Axis of the result -> axis of the array."""
    flipped: tuple[int, ...]
    """Axes of the result that are flipped then."""
    dice_before: float
    dice_after: float

    def words(self) -> str:
        """Return what was done to the array: ``axes 1 and 2 exchanged, axis 0 flipped``."""
        moved = [axis for axis, source in enumerate(self.order) if axis != source]
        parts = [f"axes {' and '.join(map(str, moved))} exchanged"] if moved else []
        parts += [f"axis {' and '.join(map(str, self.flipped))} flipped"] if self.flipped else []
        return ", ".join(parts)


def likely_turn(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> Turn | None:
    """Return the turn after which a badly fitting mask fits well, the simplest of equals; None if there is none.

    Parameters
    ----------
    prediction, reference
        ``(z, y, x)`` or ``(y, x)`` of equal shapes.

    Raises
    ------
    GeometryError
        If the shapes differ.
    """
    if prediction.shape != reference.shape:
        raise GeometryError(f"Masks need equal shapes; got {prediction.shape} and {reference.shape}.")
    before = _dice(prediction, reference)
    if before >= POOR_DICE or not prediction.any() or not reference.any():
        return None
    step = max(1, int(np.ceil((reference.size / MOST_VOXELS) ** (1 / reference.ndim))))
    thin = (slice(None, None, step),) * reference.ndim
    guess, truth = prediction[thin], reference[thin]
    best: Turn | None = None
    for order in itertools.permutations(range(truth.ndim)):
        if tuple(guess.shape[i] for i in order) != truth.shape:
            continue
        turned = guess.transpose(order)
        for flipped in _subsets(truth.ndim):
            after = _dice(np.flip(turned, flipped), truth)
            if after > (best.dice_after if best else max(GOOD_DICE, before + LEAST_GAIN)):
                best = Turn(order=order, flipped=flipped, dice_before=before, dice_after=after)
    return best


def _subsets(n: int) -> list[tuple[int, ...]]:
    return [axes for size in range(n + 1) for axes in itertools.combinations(range(n), size)]


def _dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    total = int(np.count_nonzero(first)) + int(np.count_nonzero(second))
    return 2 * int(np.count_nonzero(first & second)) / total if total else 0.0
