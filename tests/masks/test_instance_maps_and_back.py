"""Targets of instances and the instances decoded from them, in one piece and in tiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from delineate.errors import GeometryError, UsageError
from delineate.inference.instance_maps import owned_instances
from delineate.masks import distance
from delineate.masks.distance import distances_to_rim
from delineate.masks.instance_decoding import Decoding, decode_instances
from delineate.masks.instance_targets import instance_targets
from instance_models import random_scorer

SMALL = Decoding(reach=10, grow=3, largest=30, least_pixels=3)
SCORED = replace(SMALL, foreground=0.4, prominence=0.02, scorer=random_scorer())


def discs(generator: np.random.Generator, count: int = 12, size: int = 96) -> NDArray[np.int32]:
    """Discs that touch and hide each other."""
    y, x = np.mgrid[:size, :size]
    instances = np.zeros((size, size), dtype=np.int32)
    for number in range(1, count + 1):
        cy, cx, radius = *generator.uniform(0, size, 2), generator.uniform(4, 12)
        instances[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = number
    return instances


def blobs(seed: int) -> NDArray[np.uint8]:
    """Smooth random maps with merged, small and large objects, as bytes; wider than a tile sees."""
    generator = np.random.default_rng(seed)
    shape = generator.integers(SMALL.halo, 3 * SMALL.halo, 2)
    noise = ndimage.gaussian_filter(generator.standard_normal((2, *shape)), (0, 2.5, 2.5))
    soft = 1 / (1 + np.exp(-2 * noise / noise.std() - 0.5))
    return (soft[[0, 1, 1]] * 255).astype(np.uint8)


def tiled(maps: NDArray[np.uint8], tile: int, shift: int, decoding: Decoding) -> NDArray[np.int32]:
    """The instances of all tiles in one plane; tiles begin at ``-shift``."""
    rows, columns = maps.shape[1:]
    joined, count = np.zeros((rows, columns), dtype=np.int32), 0
    for top in range(-shift, rows, tile):
        for left in range(-shift, columns, tile):
            r = slice(max(0, top - SMALL.halo), min(rows, max(0, top + tile + SMALL.halo)))
            c = slice(max(0, left - SMALL.halo), min(columns, max(0, left + tile + SMALL.halo)))
            core = (slice(top - r.start, top + tile - r.start), slice(left - c.start, left + tile - c.start))
            found, _ = owned_instances(decode_instances(maps[:, r, c].astype(np.float32) / 255, decoding), core)
            assert not joined[r, c][found > 0].any(), "a pixel belongs to instances of two tiles"
            joined[r, c][found > 0] = found[found > 0] + count
            count += int(found.max(initial=0))
    return joined


@pytest.mark.parametrize("decoding", [SMALL, SCORED], ids=["summits", "scored"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), tile=st.integers(40, 200), shift=st.integers(0, 39))
def test_no_tiling_changes_an_instance(decoding: Decoding, seed: int, tile: int, shift: int) -> None:
    maps = blobs(seed)
    whole = decode_instances(maps.astype(np.float32) / 255, decoding)
    joined = tiled(maps, tile, shift, decoding)
    pairs = {(a, b) for a, b in zip(whole.ravel().tolist(), joined.ravel().tolist(), strict=True)}
    assert len(pairs) == len(np.unique(whole)) == len(np.unique(joined))
    assert ((whole > 0) == (joined > 0)).all()


def test_perfect_maps_give_the_instances_back() -> None:
    instances = discs(np.random.default_rng(3))
    pieces = {n: ndimage.label(instances == n)[1] for n in np.unique(instances[instances > 0])}
    found = decode_instances(instance_targets(instances).stacked(), Decoding(least_pixels=1))
    shares = []
    for number, count in pieces.items():
        own = instances == number
        if count > 1 or own.sum() < 30:
            continue  # a disc that others cut in two is two objects to any decoder
        values, counts = np.unique(found[own], return_counts=True)
        same = found == values[counts.argmax()]
        shares.append((own & same).sum() / (own | same).sum())
    assert len(shares) > 5
    assert min(shares) > 0.6
    assert np.mean(shares) > 0.9


def test_distances_do_not_depend_on_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("edt")
    instances = discs(np.random.default_rng(5))
    fast = distances_to_rim(instances)
    monkeypatch.setattr(distance.importlib, "import_module", _absent)
    slow = distances_to_rim(instances)
    inner = (slice(15, -15), slice(15, -15))  # at the end of the array scipy sees no rim and edt neither
    assert np.allclose(fast[inner], slow[inner], atol=1e-4)


def _absent(name: str) -> None:
    raise ImportError(name)


def test_targets_lie_between_zero_and_one_and_every_instance_has_an_interior() -> None:
    instances = discs(np.random.default_rng(7))
    instances[0, 0] = 99  # a single pixel
    targets = instance_targets(instances)
    assert targets.stacked().min() >= 0
    assert targets.stacked().max() <= 1
    assert set(np.unique(instances)) - {0} == set(np.unique(instances[targets.interior > 0]))
    assert not targets.interior[instances == 0].any()


def test_instances_that_are_too_small_or_too_large_are_left_out() -> None:
    maps = np.zeros((3, 40, 80), dtype=np.float32)
    maps[:, 5:15, 5:75] = 1  # 70 pixels wide
    maps[:, 25:35, 5:15] = 1
    maps[:, 30, 40] = 1
    assert decode_instances(maps, SMALL).max() == 1


@pytest.mark.parametrize("wrong", [{"foreground": 1.5}, {"reach": 0}, {"least_pixels": 0}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="Shares"):
        Decoding(**wrong)  # type: ignore[arg-type]


def test_other_arrays_are_refused() -> None:
    with pytest.raises(GeometryError, match="Three maps"):
        decode_instances(np.zeros((2, 4, 4)), Decoding())
    with pytest.raises(GeometryError, match="plane"):
        instance_targets(np.zeros((2, 4, 4), dtype=np.int32))


def test_nothing_gives_nothing() -> None:
    assert not decode_instances(np.zeros((3, 5, 6)), Decoding()).any()
