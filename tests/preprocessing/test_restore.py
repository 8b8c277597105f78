import tracemalloc

import numpy as np
import pytest
from preparation_cases import REGIONS, THREE
from scipy import ndimage
from skimage.transform import resize

from delineate.case import LabelScheme
from delineate.case.prepared import Trace
from delineate.errors import ModelError
from delineate.geometry.crop import box_slices
from delineate.geometry.grid import Grid
from delineate.geometry.resample import find_separate_axis, nearest_index
from delineate.preprocessing import restore_labels, restore_probabilities

GRIDS = {
    "finer": ((20, 31, 28), (44, 70, 50), (1.0, 1.0, 1.0), (2.2, 2.2, 1.8), (0, 1, 2)),
    "coarser": ((20, 31, 28), (13, 40, 28), (1.0, 1.0, 1.0), (0.7, 1.3, 1.0), (2, 0, 1)),
    "anisotropic": ((12, 40, 44), (20, 61, 50), (3.0, 0.7, 0.7), (5.0, 1.0, 1.0), (1, 2, 0)),
    "same": ((20, 31, 28), (20, 31, 28), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (0, 1, 2)),
    "one voxel": ((1, 1, 1), (3, 1, 2), (1.0, 1.0, 1.0), (3.0, 1.0, 2.0), (0, 1, 2)),
}


def trace_of(name, margins=(2, 3, 1)):
    prepared, cropped, spacing, prepared_spacing, transpose = GRIDS[name]
    shape = tuple(size + 2 * margin for size, margin in zip(cropped, margins, strict=True))
    original = [0, 0, 0]
    for axis, size in zip(transpose, shape, strict=True):
        original[axis] = size
    return Trace(
        grid=Grid.regular(tuple(original)),
        transpose=transpose,
        spacing_mm=spacing,
        prepared_spacing_mm=prepared_spacing,
        shape=shape,
        box=tuple((margin, margin + size) for margin, size in zip(margins, cropped, strict=True)),
        prepared_shape=prepared,
    )


def smooth(shape, heads, seed=0, scale=20.0):
    rng = np.random.default_rng(seed)
    return np.stack([ndimage.gaussian_filter(rng.standard_normal(shape), 2) for _ in range(heads)]) * scale


def resized(logits, trace):
    """The slow way: every head at full resolution, in double precision."""
    target = trace.cropped_shape
    if find_separate_axis(trace.prepared_spacing_mm, trace.spacing_mm) is None:
        return np.stack([resize(h.astype(float), target, 1, mode="edge", anti_aliasing=False) for h in logits])
    planes = [[resize(p.astype(float), target[1:], 1, mode="edge", anti_aliasing=False) for p in h] for h in logits]
    return np.array(planes)[:, nearest_index(trace.prepared_shape[0], target[0])]


def on_original_grid(inside, trace, fill=0):
    whole = np.full((*inside.shape[:-3], *trace.shape), fill, inside.dtype)
    whole[(..., *box_slices(trace.box))] = inside
    back = np.argsort(trace.transpose)
    return whole.transpose(back) if whole.ndim == 3 else whole.transpose(0, *(back + 1))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("name", GRIDS)
def test_labels_are_the_largest_head_at_full_resolution(name, dtype):
    trace = trace_of(name)
    logits = smooth(trace.prepared_shape, 4).astype(dtype)
    full = resized(logits, trace)
    exact = restore_labels(logits, trace, THREE)
    rounded = restore_labels(logits, trace, THREE, mode="nnunet")
    assert exact.array.dtype == np.uint8
    assert exact.grid == trace.grid
    expected = on_original_grid(full.argmax(axis=0), trace)
    assert (exact.array != expected).sum() <= 1
    expected = on_original_grid(full.astype(np.float16).argmax(axis=0), trace)
    assert (rounded.array != expected).sum() <= 3


@pytest.mark.parametrize("name", GRIDS)
def test_regions_are_written_in_their_order(name):
    trace = trace_of(name)
    logits = smooth(trace.prepared_shape, 3).astype(np.float16)
    expected = np.zeros(trace.cropped_shape, np.uint8)
    for head, value in zip(resized(logits, trace), REGIONS.region_order, strict=True):
        expected[head > 0] = value
    found = restore_labels(logits, trace, REGIONS).array
    assert (found != on_original_grid(expected, trace)).sum() <= 1


@pytest.mark.parametrize("name", GRIDS)
def test_probabilities_sum_to_one_and_agree(name):
    trace = trace_of(name)
    logits = smooth(trace.prepared_shape, 4).astype(np.float32)
    full = resized(logits, trace)
    powers = np.exp(full - full.max(axis=0))
    expected = on_original_grid(powers / powers.sum(axis=0), trace)
    outside = on_original_grid(np.zeros(trace.cropped_shape, bool), trace, fill=True)
    expected[0][outside] = 1
    found = restore_probabilities(logits, trace, THREE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)


def test_region_probabilities_are_zero_outside_and_do_not_overflow():
    trace = trace_of("finer")
    logits = smooth(trace.prepared_shape, 3, scale=5000).astype(np.float32)
    found = restore_probabilities(logits, trace, REGIONS)
    expected = on_original_grid(1 / (1 + np.exp(-np.clip(resized(logits, trace), -80, 80))), trace)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert not found[:, 0].any()


def test_ties_go_to_the_lower_head():
    trace = trace_of("finer")
    logits = np.zeros((4, *trace.prepared_shape), np.float16)
    assert not restore_labels(logits, trace, THREE).array.any()
    logits[2:] = 1
    assert set(np.unique(restore_labels(logits, trace, THREE).array)) == {0, 2}


def test_many_labels_on_noise_keep_every_candidate():
    scheme = LabelScheme.simple(*(f"s{number}" for number in range(299)))
    trace = trace_like(trace_of("finer"), (5, 6, 7), (10, 13, 11))
    logits = np.random.default_rng(0).standard_normal((300, 5, 6, 7)).astype(np.float16)
    found = restore_labels(logits, trace, scheme).array
    assert found.dtype == np.uint16
    assert found.max() > 255
    assert (found != resized(logits, trace).argmax(axis=0)).sum() <= 1


def trace_like(trace, prepared, cropped):
    return Trace(
        grid=Grid.regular(cropped),
        transpose=(0, 1, 2),
        spacing_mm=trace.spacing_mm,
        prepared_spacing_mm=trace.prepared_spacing_mm,
        shape=cropped,
        box=tuple((0, size) for size in cropped),
        prepared_shape=prepared,
    )


def test_planes_come_back_as_planes():
    trace = Trace(
        grid=Grid.regular((9, 12)),
        transpose=(0, 1, 2),
        spacing_mm=(999.0, 1.0, 1.0),
        prepared_spacing_mm=(999.0, 1.5, 1.5),
        shape=(1, 9, 12),
        box=((0, 1), (0, 9), (2, 12)),
        prepared_shape=(1, 6, 7),
    )
    logits = smooth((1, 6, 7), 4).astype(np.float32)
    assert restore_labels(logits, trace, THREE).array.shape == (9, 12)
    assert restore_probabilities(logits, trace, THREE).shape == (4, 9, 12)


def test_memory_maps_are_read_like_arrays(tmp_path):
    trace = trace_of("finer")
    logits = smooth(trace.prepared_shape, 4).astype(np.float16)
    np.save(tmp_path / "logits.npy", logits)
    mapped = np.load(tmp_path / "logits.npy", mmap_mode="r")
    expected = restore_labels(logits, trace, THREE).array
    np.testing.assert_array_equal(restore_labels(mapped, trace, THREE).array, expected)


def test_foreign_or_broken_logits_are_refused():
    trace = trace_of("finer")
    good = smooth(trace.prepared_shape, 4).astype(np.float16)
    for wrong in (good[:3], good[:, 1:], good.astype(np.float64), good.astype(np.int16)):
        with pytest.raises(ModelError, match="were expected for this case"):
            restore_labels(wrong, trace, THREE)
    for value in (np.nan, np.inf):
        for dtype in (np.float16, np.float32):
            broken = good.astype(dtype)
            broken[2, 3, 4, 5] = value
            with pytest.raises(ModelError, match="not finite"):
                restore_labels(broken, trace, THREE)
            with pytest.raises(ModelError, match="not finite"):
                restore_probabilities(broken, trace, THREE)


def test_peak_memory_does_not_grow_with_the_number_of_heads():
    trace = trace_like(trace_of("finer"), (24, 24, 24), (96, 96, 96))
    peaks = []
    for heads in (4, 64):
        scheme = LabelScheme.simple(*(f"s{number}" for number in range(heads - 1)))
        logits = smooth((24, 24, 24), heads).astype(np.float16)
        tracemalloc.start()
        restore_labels(logits, trace, scheme)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    full_resolution = 96**3 * 4
    assert peaks[1] - peaks[0] < full_resolution
