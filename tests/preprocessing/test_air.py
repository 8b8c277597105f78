"""A box is air only if every original voxel in it is; the property, on crops, transpositions and spacings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from preparation_cases import EXAMPLES, REGIONS, SCRIBBLES, THREE, Example

from delineate.case import Image
from delineate.geometry.crop import box_slices
from delineate.geometry.grid import Grid
from delineate.preprocessing import air_finder, background_logits, prepare
from delineate.preprocessing.air import MARGIN

TRANSPOSES = [(0, 1, 2), (2, 0, 1), (1, 2, 0)]


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(*[st.integers(12, 40)] * 3),
    spacing=st.tuples(*[st.sampled_from([0.8, 1.0, 2.5])] * 3),
    target=st.tuples(*[st.sampled_from([1.0, 1.7])] * 3),
    transpose=st.sampled_from(TRANSPOSES),
    tissue=st.integers(0, 2),
    seed=st.integers(0, 999),
)
def test_a_box_is_air_only_if_every_original_voxel_in_it_is(shape, spacing, target, transpose, tissue, seed):
    rng = np.random.default_rng(seed)
    array = np.full((1, *shape), -1000, np.float32)
    array[0, :2] = 0  # cut away by the crop
    for _ in range(tissue):
        array[(0, *(rng.integers(2, size) for size in shape))] = rng.choice([-900, -899, 40])
    image = Image(array=array, grid=Grid.regular(shape, spacing))
    example = Example(shape, spacing, target, normalization=("ct",), transpose=transpose)
    trace = prepare(image, None, example.plan, example.configuration).trace
    is_air = air_finder(image, trace)
    inside = array[0].transpose(transpose)[box_slices(trace.box)]
    ratio = np.array(trace.cropped_shape) / trace.prepared_shape
    for _ in range(20):
        first = [int(rng.integers(size)) for size in trace.prepared_shape]
        last = [int(rng.integers(a + 1, size + 1)) for a, size in zip(first, trace.prepared_shape, strict=True)]
        verdict = is_air(tuple(slice(a, b) for a, b in zip(first, last, strict=True)))
        near, far = np.floor(first * ratio).astype(int), np.ceil(last * ratio).astype(int)
        core = inside[tuple(slice(a, b) for a, b in zip(near, far, strict=True))]
        around = inside[tuple(slice(max(0, a - MARGIN), b + MARGIN) for a, b in zip(near, far, strict=True))]
        assert not (verdict and (core >= -900).any())
        assert verdict == bool((around < -900).all())


def test_air_must_be_air_in_every_channel_and_never_nan():
    example = EXAMPLES["channels"]
    image = example.image()
    trace = prepare(image, None, example.plan, example.configuration).trace
    everywhere = tuple(slice(0, size) for size in trace.prepared_shape)
    array = np.full_like(image.array, -1000)
    assert air_finder(Image(array=array, grid=image.grid), trace)(everywhere)
    for value in (0, np.nan):
        array[1, 7, 11, 10] = value
        assert not air_finder(Image(array=array, grid=image.grid), trace)(everywhere)


def test_planes_have_air_too():
    example = Example((40, 37), (1.0, 1.0), (0.9, 1.3), ("ct",))
    image = Image(array=np.full((1, 40, 37), -1000, np.float32), grid=Grid.regular((40, 37)))
    trace = prepare(image, None, example.plan, example.configuration).trace
    assert air_finder(image, trace)((slice(0, 1), slice(0, 9), slice(3, 9)))
    assert not air_finder(image, trace, below_hu=-1000)((slice(0, 1), slice(0, 9), slice(3, 9)))


@pytest.mark.parametrize("scheme", [THREE, REGIONS, SCRIBBLES])
def test_background_wins_for_sure(scheme):
    logits = background_logits(scheme)
    assert len(logits) == scheme.head_count
    assert max(logits) < 0 if scheme.has_regions else (logits[0] > 0 and max(logits[1:]) < 0)
