"""The decoding is chosen by a search whose cost does not depend on how bad the network is."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from delineate.errors import UsageError
from delineate.masks.instance_targets import instance_targets
from delineate.metrics import decoding_choice
from delineate.metrics.decoding_choice import (
    MOST_SETTINGS,
    START,
    HeldOutMaps,
    choose_decoding,
    pooled_quality,
    quality_of,
)


def lattice(size: int, step: int, radius: float) -> NDArray[np.int32]:
    y, x = np.mgrid[:size, :size]
    inside = np.hypot(y % step - step / 2, x % step - step / 2) <= radius
    return np.where(inside, (y // step) * (size // step + 1) + x // step + 1, 0).astype(np.int32)


def as_bytes(maps: NDArray[np.float32]) -> NDArray[np.uint8]:
    return (maps * 255).astype(np.uint8)


def test_maps_that_are_too_low_get_lower_thresholds() -> None:
    instances = lattice(200, 20, 8)
    weak = instance_targets(instances).stacked() * np.array([0.45, 0.4, 0.7], dtype=np.float32)[:, None, None]
    held = [HeldOutMaps(group="a", maps=as_bytes(weak), instances=instances)]
    chosen = choose_decoding(held)
    assert quality_of(held, START) < 0.1
    assert chosen.decoding.foreground == 0.35
    assert chosen.quality > 0.9
    assert chosen.quality > 0.8
    assert chosen.quality == max(score for _, score in chosen.tried)


def test_few_settings_are_tried_and_worse_ones_on_half_of_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    instances = lattice(120, 20, 8)
    held = [HeldOutMaps(group="a", maps=instance_targets(instances).stacked(), instances=instances) for _ in range(4)]
    seen = []
    real = decoding_choice.decode_instances
    monkeypatch.setattr(
        decoding_choice, "decode_instances", lambda maps, decoding: seen.append(decoding) or real(maps, decoding)
    )
    chosen = choose_decoding(held)
    assert 8 <= len(chosen.tried) <= MOST_SETTINGS
    assert len(seen) <= MOST_SETTINGS * 6  # a half of two and all four


def test_a_group_is_thinned_out_and_large_pictures_are_cut() -> None:
    small = np.zeros((400, 400), dtype=np.int32)
    small[:9, :9] = 1
    maps = instance_targets(small).stacked()
    held = [HeldOutMaps(group="small", maps=maps, instances=small) for _ in range(30)]
    large = np.zeros((3, 1500, 1200), dtype=np.float32)
    held.append(HeldOutMaps(group="large", maps=large, instances=np.zeros((1500, 1200), dtype=np.int32)))
    assert choose_decoding(held).n_pictures == (1 << 22) // 400**2 + 1


def test_noise_costs_seconds() -> None:
    generator = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(generator.standard_normal((3, 256, 256)), (0, 1, 1))
    maps = as_bytes((noise - noise.min()) / (noise.max() - noise.min()))
    held = [HeldOutMaps(group="a", maps=maps, instances=lattice(256, 20, 8)) for _ in range(4)]
    began = time.process_time()
    assert choose_decoding(held).quality < 0.2
    assert time.process_time() - began < 10


def test_without_instances_the_start_is_kept() -> None:
    empty = HeldOutMaps(group="a", maps=np.zeros((3, 30, 30), np.float32), instances=np.zeros((30, 30), np.int32))
    for held in ([], [empty]):
        chosen = choose_decoding(held)
        assert chosen.decoding == START
        assert math.isnan(chosen.quality)
    with pytest.raises(UsageError, match="no picture"):
        pooled_quality([])


def test_kinds_count_the_same_and_groups_within_them() -> None:
    instances = lattice(120, 20, 8)
    perfect, nothing = instance_targets(instances).stacked(), np.zeros((3, 120, 120), dtype=np.float32)
    held = [
        HeldOutMaps(group=group, kind=kind, maps=maps, instances=instances)
        for group, kind, maps in (("a", "grey", perfect), ("b", "coloured", nothing), ("c", "coloured", perfect))
    ]
    assert quality_of(held, START) == pytest.approx(0.75)
    assert quality_of([replace(one, kind="") for one in held], START) == pytest.approx(2 / 3)
