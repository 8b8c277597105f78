"""What the observer counts on the way, against predictions that are made one by one."""

import itertools

import numpy as np
import pytest
import torch

from delineate.inference import Tiling, make_ensemble, stream_logits
from delineate.inference import observer as observers
from delineate.inference.mirroring import flip_sets
from delineate.inference.observer import observed
from delineate.inference.sliding_window import cut_tile
from delineate.inference.tiling import lay_tiles
from delineate.networks import build_network
from delineate.planning.plan import Architecture


def network(seed, dims=3, heads=3):
    architecture = Architecture(
        kind="plain_unet",
        dims=dims,
        features=(4, 8),
        kernel_sizes=((3,) * dims,) * 2,
        strides=((1,) * dims, (2,) * dims),
        encoder_blocks=(1, 1),
        decoder_convs=(1,),
    )
    return build_network(architecture, in_channels=1, heads=heads, seed=seed)


def volume(shape=(10, 14, 11)):
    return np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)


def watched(networks, array, tiling, *, regions=False):
    ensemble = make_ensemble(networks)
    with observed(ensemble, regions=regions) as observer:
        logits = np.concatenate(list(stream_logits(ensemble, array, tiling, observer=observer)), 1)
    return observer, logits


def masks_of(net, tile, flip, *, regions):
    axes = [a + 2 for a in flip]
    with torch.inference_mode():
        logits = net(torch.from_numpy(tile[None]).flip(axes))
    logits = logits.flip(axes)[0].numpy()
    return logits > 0 if regions else logits.argmax(0) == np.arange(1, len(logits)).reshape(-1, *[1] * (tile.ndim - 1))


def brute_force(networks, array, tiling, pairs_of, *, regions):
    """Return the weighted Dice of pairs (network, flip), per head."""
    grid = lay_tiles(array.shape[1:], tiling)
    members = list(itertools.product(range(len(networks)), flip_sets(tiling.mirror_axes)))
    both, sizes = 0.0, 0.0
    for tile in grid:
        cut = cut_tile(array, grid, tile)
        wz, wyx = grid.plane_weight(tile)
        weight = np.zeros(grid.patch)
        inside = grid.boxes(tile)[1]
        weight[inside] = (wz[:, None, None] * wyx)[inside]
        if tiling.dims == 2:
            cut, weight = cut[:, 0], weight[0]
        found = {m: masks_of(networks[m[0]], cut, m[1], regions=regions) for m in members}
        for a, b in itertools.combinations(members, 2):
            if pairs_of(a, b):
                axes = tuple(range(1, cut.ndim))
                both = both + (weight * (found[a] & found[b])).sum(axes)
                sizes = sizes + (weight * found[a]).sum(axes) + (weight * found[b]).sum(axes)
    return 2 * both / sizes


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("patch", [(8, 8, 8), (16, 16, 16), (8, 8)])
def test_agreement_is_the_dice_of_all_pairs(patch, regions):
    networks = [network(s, dims=len(patch)) for s in (1, 2, 3)]
    tiling = Tiling(patch_size=patch, mirror_axes=(0, 1), batch_size=3)
    array = volume()
    observer, _ = watched(networks, array, tiling, regions=regions)
    flips = brute_force(networks, array, tiling, lambda a, b: a[0] == b[0], regions=regions)
    folds = brute_force(networks, array, tiling, lambda a, b: a[1] == b[1], regions=regions)
    np.testing.assert_allclose(observer.agreement("flips"), flips, rtol=1e-4)
    np.testing.assert_allclose(observer.agreement("folds"), folds, rtol=1e-4)


def test_watching_changes_no_logit():
    networks, array = [network(1), network(2)], volume()
    tiling = Tiling(patch_size=(8, 8, 8), mirror_axes=(0, 2))
    _, logits = watched(networks, array, tiling)
    expected = np.concatenate(list(stream_logits(networks, array, tiling)), 1)
    np.testing.assert_array_equal(logits, expected)


def test_features_are_those_of_the_encoder_on_unflipped_tiles():
    net, array = network(4), volume((8, 8, 8))
    observer, _ = watched([net], array, Tiling(patch_size=(8, 8, 8), mirror_axes=(0, 1, 2)))
    with torch.inference_mode():
        stages = net.encoder(torch.from_numpy(array[None]))
    for found, stage in zip(observer.features(0), stages, strict=True):
        np.testing.assert_allclose(found, stage[0].flatten(1).mean(1).numpy(), rtol=1e-4, atol=1e-6)
    assert not net.encoder._forward_hooks


def test_one_answer_agrees_with_nothing():
    observer, _ = watched([network(1)], volume(), Tiling(patch_size=(8, 8, 8)))
    assert np.isnan(observer.agreement("flips")).all()
    assert np.isnan(observer.agreement("folds")).all()


def test_with_little_memory_every_third_voxel_is_counted(monkeypatch):
    networks, array = [network(1), network(2)], volume((24, 24, 24))
    tiling = Tiling(patch_size=(24, 24, 24), mirror_axes=(0,))
    exact, _ = watched(networks, array, tiling)
    monkeypatch.setattr(observers, "VOTE_BYTES", 20_000)
    thin, _ = watched(networks, array, tiling)
    for which in ("flips", "folds"):
        assert thin.agreement(which) != exact.agreement(which)
        np.testing.assert_allclose(thin.agreement(which), exact.agreement(which), atol=0.06)


class Stumbling(torch.nn.Module):
    """Runs out of memory once, at the second forward pass."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.calls = []

    def forward(self, x):
        self.calls.append(len(x))
        if len(self.calls) == 2:
            raise MemoryError
        return self.inner(x)


def test_what_is_predicted_again_counts_once():
    array, tiling = volume(), Tiling(patch_size=(8, 8, 8), mirror_axes=(0, 1), batch_size=4)
    plain, _ = watched([network(1)], array, tiling)
    again, _ = watched([Stumbling(network(1))], array, tiling)
    np.testing.assert_allclose(again.agreement("flips"), plain.agreement("flips"), rtol=1e-6)
