"""The contingency table against loops, and the assignment against trying everything."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from delineate.errors import GeometryError, LabelError
from delineate.metrics.contingency import assign, instance_overlap

arrays = st.tuples(st.integers(0, 5), st.integers(0, 5)).flatmap(
    lambda shape: st.tuples(
        npst.arrays(np.uint8, shape, elements=st.integers(0, 4)),
        npst.arrays(np.int64, shape, elements=st.sampled_from([0, 3, 70_000])),
    )
)


@settings(max_examples=100, deadline=None)
@given(arrays)
def test_every_pair_is_counted(pair):
    prediction, reference = pair
    found = instance_overlap(prediction, reference)
    assert list(found.predicted_ids) == [i for i in np.unique(prediction) if i]
    assert list(found.predicted_sizes) == [(prediction == i).sum() for i in found.predicted_ids]
    assert list(found.reference_sizes) == [(reference == i).sum() for i in found.reference_ids]
    expected = {
        (p, r): ((prediction == p) & (reference == r)).sum()
        for p, r in itertools.product(found.predicted_ids, found.reference_ids)
        if ((prediction == p) & (reference == r)).any()
    }
    pairs = zip(found.predicted_ids[found.predicted], found.reference_ids[found.reference], strict=True)
    assert dict(zip(pairs, found.intersection, strict=True)) == expected
    for p, r, iou in zip(found.predicted, found.reference, found.iou, strict=True):
        first, second = prediction == found.predicted_ids[p], reference == found.reference_ids[r]
        assert iou == (first & second).sum() / (first | second).sum()


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.integers(1, 20), max_size=7))
def test_assignment_has_the_largest_worth(edges):
    pairs = np.array(list(edges), np.int64).reshape(-1, 2)
    worth = np.array(list(edges.values()), np.float64)
    chosen = assign(pairs[:, 0], pairs[:, 1], worth)
    assert len(set(pairs[chosen, 0])) == len(set(pairs[chosen, 1])) == len(chosen)
    best = 0
    for size in range(len(worth) + 1):
        for subset in itertools.combinations(range(len(worth)), size):
            rows, columns = pairs[list(subset), 0], pairs[list(subset), 1]
            if len(set(rows)) == len(set(columns)) == size:
                best = max(best, worth[list(subset)].sum())
    assert worth[chosen].sum() == best


def test_wrong_arrays_are_refused():
    with pytest.raises(GeometryError, match="equal shapes"):
        instance_overlap(np.zeros((2, 2), np.int32), np.zeros((2, 3), np.int32))
    with pytest.raises(LabelError, match="prediction"):
        instance_overlap(np.zeros((2, 2)), np.zeros((2, 2), np.int32))
    with pytest.raises(LabelError, match="reference"):
        instance_overlap(np.zeros((2, 2), np.int32), np.full((2, 2), -1))
