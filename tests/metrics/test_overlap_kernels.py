"""Counts and boxes of labels by the kernel, against numpy's, for the dtypes that label maps come in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from delineate.errors import LabelError
from delineate.masks import compiled
from delineate.metrics import overlap, table
from delineate.metrics.overlap import confusion, survey
from delineate.metrics.table import METRICS, evaluate_structures

pytest.importorskip("numba")

DTYPES = ["bool", "uint8", "int8", "uint16", "int16", "int32", "uint32", "int64"]


def both_ways(prediction, reference, n_labels, ignore=None):
    """Return what numpy and what the kernel finds."""
    found = []
    for kernels in (lambda *_: None, overlap.kernels):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compiled, "LEAST_VOXELS", 0)
            patch.setattr(overlap, "BLOCK_VOXELS", 7)
            patch.setattr(overlap, "kernels", kernels)
            found.append(survey(prediction, reference, n_labels, ignore=ignore))
    return found


label_pairs = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 90)).flatmap(
    lambda shape: st.tuples(*[npst.arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 0, 1, 2, 4]))] * 2)
)


@settings(max_examples=80, deadline=None)
@given(label_pairs, st.sampled_from(DTYPES), st.sampled_from(DTYPES), st.sampled_from([None, 0, 2, 255, -1]))
def test_counts_and_boxes(maps, first, second, ignore):
    prediction, reference = maps[0].astype(first), maps[1].astype(second)
    plain, found = both_ways(prediction, reference, 5, ignore)
    np.testing.assert_array_equal(found.matrix, plain.matrix)
    assert found.boxes == plain.boxes
    expected = np.zeros((5, 5), int)
    for p, r in zip(prediction.ravel().astype(int), reference.ravel().astype(int), strict=True):
        expected[r, p] += r != ignore
    np.testing.assert_array_equal(found.matrix, expected)
    joint = np.maximum(prediction.astype(int) == 1, reference.astype(int) == 1)
    assert found.boxes[1] == (ndimage.find_objects(joint.astype(int)) or [None])[0]


@pytest.mark.parametrize(("ignore", "dtype"), [(-1, "int16"), (255, "uint8"), (70_000, "int32"), (65_534, "uint16")])
def test_values_that_nobody_annotated_may_lie_outside_the_labels(ignore, dtype):
    prediction, reference = np.ones((2, 3, 80), np.uint8), np.ones((2, 3, 80), dtype)
    reference[0, :, 10:] = ignore
    prediction[0, :, 10:] = 9
    plain, found = both_ways(prediction, reference, 2, ignore)
    np.testing.assert_array_equal(found.matrix, plain.matrix)
    assert found.matrix[1, 1] == 30 + 240


@pytest.mark.parametrize(("value", "dtype"), [(7, "uint8"), (-3, "int16"), (65_535, "uint16"), (1 << 40, "int64")])
@pytest.mark.parametrize("ignore", [None, -1])
def test_values_that_are_no_label_are_named(value, dtype, ignore):
    prediction, reference = np.ones((2, 3, 4), np.uint8), np.ones((2, 3, 4), dtype)
    reference[1, 1, 1] = value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "LEAST_VOXELS", 0)
        with pytest.raises(LabelError, match=f"reference must hold labels from 0 to 1; found {value}"):
            confusion(prediction, reference, 2, ignore=ignore)


@pytest.mark.parametrize("shape", [(0, 0, 0), (0, 3, 4), (2, 0, 4)])
def test_empty_volumes_are_counted_in_a_process_that_has_seen_many(shape, monkeypatch):
    monkeypatch.setattr(compiled, "LEAST_VOXELS", 0)
    nothing = np.zeros(shape, np.uint8)
    assert not confusion(nothing, nothing, 2).any()


def test_threads_give_the_rows_of_one_thread_in_the_order_of_the_structures(monkeypatch):
    rng = np.random.default_rng(5)
    levels = np.round(ndimage.gaussian_filter(rng.normal(size=(12, 30, 40)), 2) * 12).clip(-2, 2).astype(int) + 2
    prediction = np.roll(levels, 1, axis=2)
    structures = [(f"{v}", v) for v in [(3,), (0,), (1, 4), (2,), (1,), (0, 3)]]
    given_ = {"spacing_mm": (3.0, 0.8, 1.3), "metrics": tuple(set(METRICS) - {"centre_line_dice"})}
    one = evaluate_structures(prediction, levels, structures, **given_)
    monkeypatch.setattr(compiled, "LEAST_VOXELS", 0)
    monkeypatch.setattr(table, "THREADS_FROM_VOXELS", 0)
    monkeypatch.setattr(table, "useful_threads", lambda: 3)
    many = evaluate_structures(prediction, levels, structures, **given_)
    assert many == one
    assert [row.name for row in many] == [name for name, _ in structures]
