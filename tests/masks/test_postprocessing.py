"""Keep-largest steps against a slow reference, and the rule that chooses them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage import measure

from delineate.errors import LabelError
from delineate.masks import PostprocessingStep, postprocess

MAPS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=3, max_side=7), elements=st.integers(0, 3))
STEPS = st.lists(
    st.builds(lambda values: PostprocessingStep(values=tuple(sorted(values))), st.sets(st.integers(1, 3), min_size=1)),
    max_size=3,
)


def slow(labels, steps):
    labels = labels.copy()
    for step in steps:
        parts = measure.label(np.isin(labels, step.values), connectivity=labels.ndim)
        sizes = np.bincount(parts.ravel())[1:]
        for number, size in enumerate(sizes, start=1):
            if size < sizes.max():
                labels[parts == number] = 0
    return labels


@settings(max_examples=60, deadline=None)
@given(MAPS, STEPS)
def test_equals_a_slow_reference_and_leaves_its_argument_alone(labels, steps):
    before = labels.copy()
    after = postprocess(labels, steps)
    np.testing.assert_array_equal(after, slow(labels, steps))
    np.testing.assert_array_equal(labels, before)
    assert after.dtype == labels.dtype


@settings(max_examples=30, deadline=None)
@given(MAPS, STEPS)
def test_doing_it_again_changes_nothing(labels, steps):
    for step in steps:
        once = postprocess(labels, [step])
        np.testing.assert_array_equal(once, postprocess(once, [step]))


def test_labels_of_one_step_count_together_and_ties_stay():
    labels = np.array([[1, 2, 0, 1, 0, 2, 0, 3, 3]], np.uint8)
    together = postprocess(labels, [PostprocessingStep(values=(1, 2))])
    np.testing.assert_array_equal(together, [[1, 2, 0, 0, 0, 0, 0, 3, 3]])
    apart = postprocess(labels, [PostprocessingStep(values=(1,)), PostprocessingStep(values=(2,))])
    np.testing.assert_array_equal(apart, labels)


@pytest.mark.parametrize("values", [(), (0,), (-1, 2)])
def test_a_step_needs_positive_labels(values):
    with pytest.raises(LabelError, match="positive"):
        PostprocessingStep(values=values)
