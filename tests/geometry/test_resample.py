import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.transform import resize

from delineate.errors import GeometryError
from delineate.geometry.resample import (
    axis_operator,
    find_separate_axis,
    nearest_index,
    operator_bands,
    resample,
    resampled_shape,
)
from delineate.geometry.resample_labels import resample_labels

SHAPES = [
    ((20, 30, 25), (33, 17, 25)),
    ((20, 30, 25), (40, 60, 50)),
    ((1, 30, 25), (4, 44, 51)),
    ((2, 3, 5), (9, 4, 5)),
    ((70, 41, 90), (51, 66, 33)),
    ((30, 30, 30), (1, 45, 1)),
]


def noise(shape, seed=0, offset=0.0):
    return (np.random.default_rng(seed).standard_normal(shape) + offset).astype(np.float32)


def blobs(shape, labels=6, seed=0):
    """Label values -1 .. labels - 2 in smooth patches."""
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.standard_normal(shape), 2) for _ in range(labels)]
    return (np.argmax(fields, axis=0) - 1).astype(np.int16)


def skimage_resize(volume, shape, order):
    return resize(volume.astype(float), shape, order, mode="edge", clip=True, anti_aliasing=False)


def one_hot_labels(labels, shape, rule="majority"):
    """The slow way: resize every label's indicator."""
    values = np.unique(labels)
    scores = np.stack([skimage_resize(labels == value, shape, 1) for value in values])
    if rule == "threshold":
        result = np.zeros(shape, labels.dtype)
        for value, score in zip(values, scores, strict=True):
            result[score >= 0.5] = value
        return result
    nearest = skimage_resize(labels, shape, 0).astype(labels.dtype)
    best = scores.max(axis=0)
    own = np.take_along_axis(scores, np.searchsorted(values, nearest)[None], axis=0)[0]
    return np.where(own == best, nearest, values[scores.argmax(axis=0)])


@pytest.mark.parametrize(("shape", "target"), SHAPES)
@pytest.mark.parametrize("order", [0, 1, 3])
def test_resampling_equals_skimage(shape, target, order):
    volume = noise(shape, offset=3)
    expected = skimage_resize(volume, target, order)
    found = resample(volume[None], target, order)
    assert found.dtype == np.float32
    assert np.abs(found[0] - expected).max() <= 1e-5 * np.ptp(volume)


def test_intensities_far_from_zero_keep_their_digits():
    volume = noise((20, 20, 20), offset=10_000)
    expected = skimage_resize(volume, (31, 27, 33), 3)
    assert np.abs(resample(volume[None], (31, 27, 33), 3)[0] - expected).max() < 2e-3


def test_the_input_is_never_written_to_and_passes_through_unchanged():
    volume = noise((2, 5, 6, 7))
    before = volume.copy()
    assert resample(volume, (5, 6, 7), 3) is volume
    resample(volume, (7, 6, 7), 3)
    resample(volume, (9, 6, 7), 3, separate_axis=0)
    np.testing.assert_array_equal(volume, before)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float64, np.float16])
def test_any_real_dtype_gives_float32(dtype):
    volume = (noise((1, 8, 9, 10)) * 10 + 50).astype(dtype)
    found = resample(volume, (5, 12, 10), 3)
    expected = skimage_resize(volume[0].astype(float), (5, 12, 10), 3)
    np.testing.assert_allclose(found[0], expected, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    target=st.tuples(*[st.integers(1, 12)] * 3),
    order=st.sampled_from([0, 1, 3]),
    separate=st.sampled_from([None, 0, 1, 2]),
)
def test_resampled_values_stay_in_the_range_they_had(shape, target, order, separate):
    volume = noise((2, *shape))
    found = resample(volume, target, order, separate_axis=separate)
    assert found.shape == (2, *target)
    for before, after in zip(volume, found, strict=True):
        assert before.min() <= after.min()
        assert after.max() <= before.max()


@given(size=st.integers(1, 40), target=st.integers(1, 40), value=st.floats(-100, 100))
@settings(max_examples=25, deadline=None)
def test_a_constant_stays_constant(size, target, value):
    volume = np.full((1, size, 2, 3), value, np.float32)
    np.testing.assert_array_equal(resample(volume, (target, 3, 3), 3), np.float32(value))


def test_operators_are_banded_without_losing_weight():
    bands = operator_bands(300, 450, 3)
    assert max(band.weights.shape[1] for band in bands) < 80
    for band in bands:
        np.testing.assert_allclose(band.weights.sum(axis=1), 1, atol=1e-6)
        assert not np.any((band.weights != 0) & (np.abs(band.weights) < 1e-10))


def test_operators_refuse_empty_axes_and_are_shared_read_only():
    with pytest.raises(GeometryError, match="at least one voxel"):
        axis_operator(0, 3, 1)
    assert axis_operator(5, 7, 1) is axis_operator(5, 7, 1)
    assert not axis_operator(5, 7, 1).flags.writeable
    np.testing.assert_array_equal(nearest_index(4, 2), [1, 3])


@pytest.mark.parametrize(
    ("array", "shape"), [((3, 4, 5), (3, 4, 5)), ((1, 3, 4, 5), (3, 4)), ((1, 3, 4, 5), (3, 4, 0))]
)
def test_wrong_shapes_are_refused(array, shape):
    with pytest.raises(GeometryError, match="three positive sizes"):
        resample(np.zeros(array), shape, 1)
    with pytest.raises(GeometryError, match="three positive sizes"):
        resample_labels(np.zeros(array[1:], int), (*shape[:2], 0))


@pytest.mark.parametrize(
    ("spacing", "new", "axis"),
    [
        ((1, 1, 1), (1, 1, 1), None),
        ((5, 1, 1), (5, 1, 1), 0),
        ((3, 1, 1), (1, 1, 1), None),
        ((1, 1, 1), (1, 1, 3.5), 2),
        ((0.24, 1.25, 1.25), (5, 1, 1), None),
        ((999, 0.7, 0.7), (999, 1, 1), 0),
    ],
)
def test_separate_axis(spacing, new, axis):
    assert find_separate_axis(spacing, new) == axis


def test_new_shape_rounds_half_to_even_and_keeps_one_voxel():
    assert resampled_shape((5, 7, 1), (1, 1, 1), (2, 2, 9)) == (2, 4, 1)


@pytest.mark.parametrize(("shape", "target"), [*SHAPES, ((12, 16, 20), (6, 8, 10)), ((9, 9, 9), (27, 18, 9))])
@pytest.mark.parametrize("rule", ["majority", "threshold"])
def test_labels_equal_the_one_hot_way(shape, target, rule):
    labels = blobs(shape)
    np.testing.assert_array_equal(resample_labels(labels, target, rule=rule), one_hot_labels(labels, target, rule))


def test_labels_that_are_tied_at_a_corner_of_four():
    labels = np.array([[[3, 1], [2, 1]]])
    np.testing.assert_array_equal(resample_labels(labels, (1, 1, 1)), one_hot_labels(labels, (1, 1, 1)))
    assert resample_labels(np.array([[[3, 1], [2, 4]]]), (1, 1, 1), rule="threshold") == 0


def test_label_slabs_meet_without_a_seam(monkeypatch):
    labels = blobs((20, 16, 16))
    whole = resample_labels(labels, (31, 22, 9))
    monkeypatch.setattr("delineate.geometry.resample_labels.SLAB_VOXELS", 500)
    monkeypatch.setattr("delineate.geometry.resample_labels.POINTS_AT_A_TIME", 77)
    np.testing.assert_array_equal(resample_labels(labels, (31, 22, 9)), whole)


def test_labels_of_the_right_shape_pass_through():
    labels = blobs((5, 6, 7))
    assert resample_labels(labels, (5, 6, 7)) is labels


ORACLE_CASES = [
    ((20, 30, 25), (33, 17, 25), (1, 1, 1), (1, 1, 1)),
    ((20, 30, 24), (10, 15, 12), (1, 1, 1), (2, 2, 2)),
    ((12, 60, 64), (18, 50, 81), (5, 1, 1), (4, 1.2, 1.2)),
    ((12, 30, 34), (12, 25, 41), (5, 1, 1), (5, 1.2, 0.8)),
    ((1, 30, 25), (1, 44, 51), (999, 1, 1), (999, 0.7, 0.5)),
    ((16, 8, 50), (10, 16, 40), (0.9, 4, 1), (1, 2, 1)),
    ((16, 18, 20), (20, 16, 9), (1, 1, 1), (1, 1, 3.5)),
]


@pytest.mark.oracle
def test_resampling_and_separate_axes_equal_nnunet(tmp_path):
    questions, ours = {}, {}
    for number, (shape, target, spacing, new) in enumerate(ORACLE_CASES):
        separate = find_separate_axis(spacing, new)
        common = {"new_shape": target, "current_spacing": spacing, "new_spacing": new}
        volume, labels = noise((2, *shape)), blobs(shape)
        for order in (1, 3):
            name = f"image{number}_{order}"
            questions[name], questions[f"{name}_options"] = volume, json.dumps({**common, "order": order})
            ours[name] = resample(volume, target, order, separate_axis=separate)
        name = f"labels{number}"
        questions[name] = labels[None]
        questions[f"{name}_options"] = json.dumps({**common, "order": 1, "is_seg": True})
        ours[name] = resample_labels(labels, target, separate_axis=separate)[None]
    theirs = ask_nnunet(questions, list(ours), tmp_path)
    for name, found in ours.items():
        tolerance = 0 if name.startswith("labels") else 1e-5 * np.ptp(questions[name])
        assert np.abs(theirs[name].astype(float) - found).max() <= tolerance, name


def ask_nnunet(questions, names, folder):
    interpreter = os.environ.get("DELINEATE_ORACLE_PYTHON")
    if not interpreter:
        pytest.skip("DELINEATE_ORACLE_PYTHON is not set")
    np.savez(folder / "in.npz", names=json.dumps(names), **questions)
    script = Path(__file__).with_name("resample_oracle_script.py")
    command = [interpreter, str(script), str(folder / "in.npz"), str(folder / "out.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return np.load(folder / "out.npz")
