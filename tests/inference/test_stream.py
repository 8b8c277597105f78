"""Logits slab by slab: the same numbers, summed features, tiles left out, bounded memory, no traces in torch."""

import tracemalloc

import numpy as np
import pytest
import torch
from fake_networks import COUNTED, Constant, Counting, Pointwise
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import ModelError, UsageError
from delineate.inference import EmptyTiles, Tiling, gather_logits, make_ensemble, predict_logits, stream_logits
from delineate.inference.linear_head import without_heads
from delineate.inference.sliding_window import SLAB_BYTES
from delineate.networks import build_network
from delineate.planning.plan import Architecture

HEADS = 14
FEATURES = 6


def volume(shape, channels=1, seed=0):
    return np.random.default_rng(seed).normal(size=(channels, *shape)).astype(np.float32)


def network(dims=3, seed=0, kind="plain_unet", heads=HEADS):
    architecture = Architecture(
        kind=kind,
        dims=dims,
        features=(FEATURES, 8),
        kernel_sizes=((3,) * dims,) * 2,
        strides=((1,) * dims, (2,) * dims),
        encoder_blocks=(1, 1),
        decoder_convs=(1,),
    )
    return build_network(architecture, in_channels=1, heads=heads, seed=seed)


@pytest.mark.parametrize("patch", [(8, 8, 8), (8, 8)])
@pytest.mark.parametrize("shape", [(21, 9, 12), (5, 6, 7)])
def test_slabs_follow_one_another_and_are_the_volume(shape, patch):
    array = volume(shape)
    tiling = Tiling(patch_size=patch, batch_size=3)
    slabs = list(stream_logits([network(len(patch))], array, tiling))
    assert all(slab.ndim == 4 and slab.shape[0] == HEADS and slab.shape[2:] == shape[1:] for slab in slabs)
    whole = predict_logits([network(len(patch))], array, tiling)
    np.testing.assert_array_equal(np.concatenate(slabs, axis=1), whole)


@pytest.mark.parametrize("summed", ["logits", "features"])
@pytest.mark.parametrize("patch", [(8, 8, 8), (8, 8)])
def test_tiles_in_one_step_are_predicted_as_alone(patch, summed):
    array, ensemble = volume((21, 9, 12)), make_ensemble([network(len(patch))])
    alone, three, chosen = (
        predict_logits(ensemble, array, Tiling(patch_size=patch, batch_size=size, mirror_axes=(0, 1), summed=summed))
        for size in (1, 12, None)  # twelve are three tiles in four flips
    )
    np.testing.assert_allclose(three, alone, atol=2e-5)
    np.testing.assert_allclose(chosen, alone, atol=2e-5)


def test_slabs_come_before_the_last_tile_is_predicted():
    COUNTED.clear()
    seen = [
        len(COUNTED)
        for _ in stream_logits(
            [Counting(Constant(0.0, 1.0))], volume((32, 8, 8)), Tiling(patch_size=(8,) * 3, batch_size=1)
        )
    ]
    assert seen == [1, 2, 3, 4, 5, 6, 7]


CASES = {
    "3d": (3, (8, 8, 8), (19, 11, 14), (), 1),
    "3d mirrored": (3, (8, 8, 8), (9, 11, 8), (0, 1, 2), 1),
    "3d folds": (3, (8, 8, 8), (9, 11, 14), (1,), 3),
    "2d mirrored": (2, (8, 8), (4, 11, 14), (0, 1), 1),
}


@pytest.mark.parametrize("kind", ["plain_unet", "residual_unet", "vnet"])
@pytest.mark.parametrize("name", CASES)
def test_summed_features_give_the_logits_of_summed_logits(name, kind):
    dims, patch, shape, axes, members = CASES[name]
    networks = [network(dims, seed, kind) for seed in range(members)]
    found = {
        way: predict_logits(networks, volume(shape), Tiling(patch_size=patch, mirror_axes=axes, summed=way))
        for way in ("logits", "features", "auto")
    }
    np.testing.assert_array_equal(found["auto"], found["features"])
    assert not np.array_equal(found["logits"], found["features"])  # else the features were not summed
    np.testing.assert_allclose(found["features"], found["logits"], atol=1e-5)
    ranked = np.sort(found["logits"], axis=0)
    sure = ranked[-1] - ranked[-2] > 2e-5
    assert np.mean(sure) > 0.999
    assert np.array_equal(found["features"].argmax(0)[sure], found["logits"].argmax(0)[sure])


def test_summed_features_in_bfloat16_are_nearer_to_float32():
    array = volume((12, 12, 12))
    exact = predict_logits([network()], array, Tiling(patch_size=(8,) * 3))
    rounded = {
        way: predict_logits([network()], array, Tiling(patch_size=(8,) * 3, precision="bfloat16", summed=way))
        for way in ("logits", "features")
    }
    errors = {way: np.abs(logits - exact).mean() for way, logits in rounded.items()}
    assert errors["features"] <= 1.02 * errors["logits"]
    assert errors["logits"] < 0.02 * exact.std()


def test_features_are_chosen_where_they_are_fewer():
    wide = make_ensemble([network(heads=FEATURES + 1)])
    assert without_heads(wide).features == FEATURES
    assert without_heads(wide).heads == FEATURES + 1
    narrow = [network(heads=FEATURES)]
    found = [
        predict_logits(narrow, volume((9, 9, 9)), Tiling(patch_size=(8,) * 3, summed=w)) for w in ("auto", "logits")
    ]
    np.testing.assert_array_equal(*found)


def test_taking_the_head_off_leaves_the_ensemble_and_shares_its_weights():
    ensemble = make_ensemble([network()])
    headless = without_heads(ensemble)
    before = ensemble(torch.zeros(1, 1, 8, 8, 8))
    assert headless(torch.zeros(1, 1, 8, 8, 8)).shape[1] == FEATURES
    assert torch.equal(ensemble(torch.zeros(1, 1, 8, 8, 8)), before)
    own = {p.data_ptr() for p in ensemble.networks[0].parameters()}
    assert {p.data_ptr() for p in headless.bodies[0].parameters()} < own


def test_networks_without_a_known_last_layer_cannot_be_taken_apart():
    assert without_heads(make_ensemble([Constant(1.0)])) is None
    assert without_heads(make_ensemble([network(), Constant(*range(HEADS))])) is None
    with pytest.raises(UsageError, match="1x1"):
        stream_logits([Constant(1.0)], volume((8, 8, 8)), Tiling(patch_size=(8,) * 3, summed="features"))
    with pytest.raises(UsageError, match="`summed`"):
        Tiling(patch_size=(8,) * 3, summed="heads")


def test_features_that_are_not_finite_are_told():
    broken = network()
    with torch.no_grad():
        broken.decoder.stages[-1].convs[-1].norm.bias[2] = torch.nan
    with pytest.raises(ModelError, match="NaN or infinite features"):
        predict_logits([broken], volume((8, 8, 8)), Tiling(patch_size=(8,) * 3))


def low(array, below):
    return lambda box: bool((array[(slice(None), *box)] < below).all())


@settings(deadline=None, max_examples=30)
@given(
    shape=st.tuples(st.integers(5, 26), st.integers(5, 18), st.integers(5, 18)),
    patch=st.sampled_from([(8, 8, 8), (8, 6), (6, 10, 8)]),
    filled=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_what_tiles_that_are_left_out_leave_behind(shape, patch, filled, seed):
    """The rule, voxel by voxel: the mean over the tiles that were predicted; background where there is none."""
    rng = np.random.default_rng(seed)
    array = np.full((1, *shape), -5, np.float32)
    for _ in range(filled):
        array[(0, *(rng.integers(size) for size in shape))] = 1
    tiling = Tiling(patch_size=patch, batch_size=2)
    asked = []

    def is_empty(box):
        asked.append(box)
        return low(array, -1)(box)

    skip = EmptyTiles(is_empty=is_empty, background=(7.0, -7.0))
    matrix = np.array([[1.0], [2.0]], np.float32)
    COUNTED.clear()
    slabs = stream_logits([Counting(Pointwise(matrix))], array, tiling, skip=skip)
    found = gather_logits(slabs, shape)
    seen = np.zeros(shape, bool)
    for box in asked:
        if (array[(0, *box)] >= -1).any():
            seen[box] = True
    assert sum(size[0] for size in COUNTED) == sum((array[(0, *box)] >= -1).any() for box in asked)
    expected = np.where(seen, matrix[:, 0, None, None, None] * array[0], np.reshape([7.0, -7.0], (2, 1, 1, 1)))
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert seen[array[0] >= -1].all()


def test_leaving_out_nothing_changes_nothing():
    array = volume((19, 11, 14))
    tiling = Tiling(patch_size=(8,) * 3)
    skip = EmptyTiles(is_empty=lambda box: False, background=(0.0,) * HEADS)
    kept = gather_logits(stream_logits([network()], array, tiling, skip=skip), array.shape[1:])
    np.testing.assert_array_equal(kept, predict_logits([network()], array, tiling))


def test_memory_does_not_grow_with_the_length_of_the_scan():
    peaks = []
    for planes in (48, 384):
        array = np.zeros((1, planes, 24, 24), np.float32)
        tracemalloc.start()
        for slab in stream_logits([network(heads=40)], array, Tiling(patch_size=(16, 16, 16), batch_size=1)):
            del slab
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < 16 * 24 * 24 * 4 * (40 + 2 * FEATURES)
    assert SLAB_BYTES >= 2**20


def test_nothing_of_torch_is_changed_while_a_slab_is_out():
    def state():
        return (
            torch.get_num_threads(),
            torch.get_num_interop_threads(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            torch.are_deterministic_algorithms_enabled(),
            torch.random.get_rng_state().sum().item(),
        )

    before = state()
    slabs = stream_logits([network()], volume((20, 8, 8)), Tiling(patch_size=(8, 8, 8), precision="bfloat16"))
    for slab in slabs:
        assert state() == before
        slab += 1  # the slab is the caller's
    assert state() == before
