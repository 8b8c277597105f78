"""A network's instances do not depend on the tiles: maps are those of one pass, instances those of one decoding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from delineate.errors import Interrupted
from delineate.execution import Cancellation
from delineate.inference import instance_maps
from delineate.inference.instance_maps import InstancePredictor, stream_instances, whole_maps
from delineate.masks.instance_decoding import Decoding, decode_instances
from instance_models import SCORED, SMALL, random_network

NETWORKS = [random_network(seed) for seed in range(3)]


def predictor(index: int, decoding: Decoding = SMALL) -> InstancePredictor:
    return InstancePredictor(
        network=NETWORKS[index], decoding=decoding, device=torch.device("cpu"), precision="float32", channels_last=False
    )


def picture(seed: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(generator.standard_normal((*shape, 3)), (1.5, 1.5, 0))
    return np.clip(0.5 + smooth / smooth.std() / 4, 0, 1).astype(np.float32)


def in_one_pass(network: InstancePredictor, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return network.maps(values, slice(0, values.shape[0]), slice(0, values.shape[1]))


def joined(values: NDArray[np.float32], tile: int, index: int, decoding: Decoding = SMALL) -> NDArray[np.int32]:
    labels, count = np.zeros(values.shape[:2], dtype=np.int32), 0
    read = lambda rows, columns: values[rows, columns]  # noqa: E731
    rows_done = 0
    for found in stream_instances(read, values.shape[:2], predictor(index, decoding), tile=tile):
        y, x = found.origin
        box = labels[y : y + found.labels.shape[0], x : x + found.labels.shape[1]]
        own = found.labels > 0
        assert not box[own].any(), "a pixel belongs to instances of two tiles"
        assert not own[: max(0, rows_done - y)].any(), "a row changed after it was called done"
        box[own] = found.labels[own] + count
        count, rows_done = count + found.count, found.rows_done
    assert rows_done == values.shape[0]
    return labels


@settings(max_examples=12, deadline=None)
@given(
    index=st.integers(0, 2),
    decoding=st.sampled_from([SMALL, SCORED]),
    seed=st.integers(0, 1000),
    tile=st.integers(40, 200),
    rows=st.integers(30, 450),
    columns=st.integers(30, 450),
)
def test_the_same_nuclei_in_every_tiling(
    index: int, decoding: Decoding, seed: int, tile: int, rows: int, columns: int
) -> None:
    values = picture(seed, (rows, columns))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instance_maps, "ROWS", 48)
        patch.setattr(instance_maps, "COLUMNS", 64)
        one, other = joined(values, 500, index, decoding), joined(values, tile, index, decoding)
        maps = whole_maps(lambda r, c: values[r, c], (rows, columns), predictor(index))
    whole = decode_instances(maps[:3].astype(np.float32) / 255, decoding)
    for labels in (one, other):
        pairs = set(zip(whole.ravel().tolist(), labels.ravel().tolist(), strict=True))
        assert len(pairs) == len(np.unique(whole)) == len(np.unique(labels))
        assert ((whole > 0) == (labels > 0)).all()


def test_the_networks_of_these_tests_find_many_instances() -> None:
    counts = [len(np.unique(joined(picture(1, (160, 160)), 64, index))) for index in range(3)]
    assert min(counts) > 10


@pytest.mark.parametrize("index", [0, 1, 2])
def test_maps_of_tiles_are_those_of_one_pass(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = picture(index, (150, 202))
    once = in_one_pass(predictor(index), values)
    monkeypatch.setattr(instance_maps, "ROWS", 32)
    monkeypatch.setattr(instance_maps, "COLUMNS", 64)
    tiled = whole_maps(lambda rows, columns: values[rows, columns], values.shape[:2], predictor(index))
    difference = np.abs(once.astype(int) - tiled.astype(int))
    assert difference.max() <= 1  # rounding of sums in another order
    assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize("index", [0, 1])
def test_with_tta_a_turned_picture_has_turned_maps_and_tiles_change_nothing(
    index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    averaged = replace(predictor(index), tta=True)
    values = picture(index, (96, 128))
    once = in_one_pass(averaged, values).astype(int)
    assert np.abs(once - in_one_pass(predictor(index), values)).max() > 3
    for turned, back in (
        (np.rot90(values), lambda maps: np.rot90(maps, -1, (1, 2))),
        (values[:, ::-1], lambda maps: maps[:, :, ::-1]),
    ):
        assert np.abs(back(in_one_pass(averaged, np.ascontiguousarray(turned)).astype(int)) - once).max() <= 1
    odd = picture(index, (101, 150))
    whole = in_one_pass(averaged, odd).astype(int)
    monkeypatch.setattr(instance_maps, "ROWS", 32)
    monkeypatch.setattr(instance_maps, "COLUMNS", 64)
    tiled = whole_maps(lambda rows, columns: odd[rows, columns], odd.shape[:2], averaged).astype(int)
    assert np.abs(tiled - whole).max() <= 1


@pytest.mark.parametrize("index", [0, 1])
def test_the_reach_is_enough_and_not_generous(index: int) -> None:
    """What lies farther away than the reach changes nothing; what lies within half of it does."""
    network = NETWORKS[index]
    size = 4 * network.reach
    values = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(index))
    middle = size // 2
    with torch.inference_mode():
        base = network(values)[0, :, middle, middle]
        far, near = values.clone(), values.clone()
        far[..., : middle - network.reach] += 1
        far[..., middle + network.reach + 1 :] += 1
        near[..., middle + 1] += 1
        assert torch.allclose(network(far)[0, :, middle, middle], base, atol=1e-4)
        assert not torch.allclose(network(near)[0, :, middle, middle], base, atol=1e-2)


def test_it_can_be_stopped() -> None:
    values, stop = picture(0, (60, 60)), Cancellation()
    stop.request()
    with pytest.raises(Interrupted):
        list(stream_instances(lambda r, c: values[r, c], (60, 60), predictor(0), tile=30, cancellation=stop))
