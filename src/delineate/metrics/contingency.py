"""The contingency table of two instance arrays: which instance meets which, in how many pixels, made in one pass.

Every instance score follows from this table, so its cost is that of reading the two arrays once, whatever the number of
instances. Neighbouring pixels with equal pairs are counted as one run first, which leaves little to sort.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from delineate.errors import LabelError
from delineate.metrics.overlap import require_equal_shapes


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceOverlap:
    """Sizes of all instances and of all overlaps between one of the prediction and one of the reference."""

    predicted_ids: NDArray[np.int64]
    """(predicted instance,) numbers in rising order, without the background 0."""
    reference_ids: NDArray[np.int64]
    predicted_sizes: NDArray[np.int64]
    """(predicted instance,) pixels."""
    reference_sizes: NDArray[np.int64]
    predicted: NDArray[np.int64]
    """(pair,) index into the predicted instances."""
    reference: NDArray[np.int64]
    """(pair,) index into the reference instances."""
    intersection: NDArray[np.int64]
    """(pair,) pixels, above 0."""

    @property
    def union(self) -> NDArray[np.int64]:
        """(pair,) pixels in either instance of the pair."""
        both = self.predicted_sizes[self.predicted] + self.reference_sizes[self.reference]
        union: NDArray[np.int64] = both - self.intersection
        return union

    @property
    def iou(self) -> NDArray[np.float64]:
        """(pair,) intersection over union, above 0."""
        iou: NDArray[np.float64] = self.intersection / self.union
        return iou


def instance_overlap(prediction: NDArray[Any], reference: NDArray[Any]) -> InstanceOverlap:
    """Count the overlaps of two instance arrays.

    Parameters
    ----------
    prediction, reference
        Instance numbers, 0 for background, equal shapes of any number of axes; numbers need not follow each other.

    Raises
    ------
    GeometryError
        If the shapes differ.
    LabelError
        If a dtype is not integer or a number is negative.
    """
    require_equal_shapes(prediction, reference)
    for name, array in (("prediction", prediction), ("reference", reference)):
        if array.dtype.kind not in "iub" or (array.size and int(array.min()) < 0):
            raise LabelError(f"Instances of the {name} must be whole numbers from 0; got an array of {array.dtype}.")
    pairs_predicted, pairs_reference, counts = _count_pairs(prediction.ravel(), reference.ravel())
    predicted_ids, predicted_sizes = _sizes(pairs_predicted, counts)
    reference_ids, reference_sizes = _sizes(pairs_reference, counts)
    both = (pairs_predicted > 0) & (pairs_reference > 0)
    return InstanceOverlap(
        predicted_ids=predicted_ids,
        reference_ids=reference_ids,
        predicted_sizes=predicted_sizes,
        reference_sizes=reference_sizes,
        predicted=np.searchsorted(predicted_ids, pairs_predicted[both]),
        reference=np.searchsorted(reference_ids, pairs_reference[both]),
        intersection=counts[both],
    )


def assign(first: NDArray[np.int64], second: NDArray[np.int64], worth: NDArray[np.float64]) -> NDArray[np.int64]:
    """Choose pairs so that no one is in two of them and the sum of their worth is largest.

    The pairs fall into small groups that have no partner in common; each group is solved on its own, so ten thousand
    instances take milliseconds.

    Parameters
    ----------
    first, second
        (pair,) indices of the two partners.
    worth
        (pair,) above 0.

    Returns
    -------
    (chosen,) int64
        Indices of the chosen pairs in rising order.

    References
    ----------
    H. W. Kuhn, The Hungarian method for the assignment problem, Naval Res. Logist. 2 (1955).
    """
    if len(first) == 0:
        return np.zeros(0, np.int64)
    group = _groups(first, second)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    bundles = np.split(order, starts[1:])
    chosen = [b if len(b) == 1 else b[_assign_group(first[b], second[b], worth[b])] for b in bundles]
    return np.sort(np.concatenate(chosen))


def _count_pairs(
    prediction: NDArray[Any], reference: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    if prediction.size == 0:
        return (np.zeros(0, np.int64),) * 3
    change = np.ones(prediction.size, np.bool_)
    np.not_equal(prediction[1:], prediction[:-1], out=change[1:])
    change[1:] |= reference[1:] != reference[:-1]
    starts = np.flatnonzero(change)
    lengths = np.diff(starts, append=prediction.size)
    predicted_ids, predicted = np.unique(prediction[starts], return_inverse=True)
    reference_ids, met = np.unique(reference[starts], return_inverse=True)
    keys, inverse = np.unique(met.astype(np.int64) * len(predicted_ids) + predicted, return_inverse=True)
    counts = np.bincount(inverse, weights=lengths).astype(np.int64)
    return (
        predicted_ids[keys % len(predicted_ids)].astype(np.int64),
        reference_ids[keys // len(predicted_ids)].astype(np.int64),
        counts,
    )


def _sizes(numbers: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    objects = numbers > 0
    ids, inverse = np.unique(numbers[objects], return_inverse=True)
    return ids, np.bincount(inverse, weights=counts[objects], minlength=len(ids)).astype(np.int64)


def _groups(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    left, right = int(first.max()) + 1, int(second.max()) + 1
    edges = coo_array((np.ones(len(first), np.int8), (first, second + left)), shape=(left + right, left + right))
    component = connected_components(edges, directed=False)[1]
    return np.asarray(component[first], np.int64)


def _assign_group(first: NDArray[np.int64], second: NDArray[np.int64], worth: NDArray[np.float64]) -> NDArray[np.int64]:
    rows, row = np.unique(first, return_inverse=True)
    columns, column = np.unique(second, return_inverse=True)
    table = np.zeros((len(rows), len(columns)))
    table[row, column] = worth
    place = np.full(table.shape, -1, np.int64)
    place[row, column] = np.arange(len(first))
    found = place[linear_sum_assignment(table, maximize=True)]
    return np.asarray(found[found >= 0])
