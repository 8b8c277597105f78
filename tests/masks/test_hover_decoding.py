"""HoVer-Net's decoding: what it learns, and nuclei from perfect maps."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from delineate.errors import GeometryError
from delineate.masks.hover_decoding import HoverDecoding, corrected, decode_hover, hover_targets
from delineate.metrics import average_precision, instance_overlap


def touching_discs(radius: float, seed: int = 0) -> NDArray[np.int32]:
    """Discs on a jittered lattice, so close that most of them touch."""
    generator = np.random.default_rng(seed)
    step = 2 * radius * 0.97
    y, x = np.mgrid[:200, :200]
    instances = np.zeros((200, 200), dtype=np.int32)
    number = 0
    for row in np.arange(radius, 200 - radius, step):
        for column in np.arange(radius, 200 - radius, step):
            number += 1
            jitter = generator.uniform(-0.5, 0.5, 2)
            inside = (y - row - jitter[0]) ** 2 + (x - column - jitter[1]) ** 2 <= radius**2
            instances[inside & (instances == 0)] = number
    return instances


def precision(instances: NDArray[np.int32], decoding: HoverDecoding | None) -> float:
    horizontal, vertical = hover_targets(instances)
    found = decode_hover((instances > 0).astype(float), horizontal, vertical, decoding)
    return float(average_precision([instance_overlap(found, instances)], thresholds=(0.5,))[0])


def test_offsets_run_from_minus_one_to_one_from_left_to_right() -> None:
    instances = np.zeros((9, 11), dtype=np.int32)
    instances[2:7, 3:8] = 1
    horizontal, vertical = hover_targets(instances)
    assert horizontal[4, 3:8].tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert vertical[2:7, 5].tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert not horizontal[instances == 0].any()


def test_the_published_decoding_finds_nuclei_of_its_size() -> None:
    assert precision(touching_discs(16), None) > 0.95


def test_the_corrected_decoding_also_finds_small_ones() -> None:
    small = touching_discs(5)
    assert precision(small, None) < 0.5
    assert precision(small, corrected(10)) > 0.9


def test_nuclei_of_less_than_half_the_typical_diameter_are_kept() -> None:
    assert precision(touching_discs(5), corrected(24)) > 0.95
    assert corrected(24).least_pixels == HoverDecoding().least_pixels  # the published constant at the published size


def test_the_corrected_decoding_does_not_depend_on_the_tile() -> None:
    instances = touching_discs(8)
    horizontal, vertical = hover_targets(instances)
    horizontal[150:, 150:] *= 3  # an outlier far away stretches the published gradient of the whole tile
    foreground = (instances > 0).astype(float)
    decoding = corrected(16)
    whole = decode_hover(foreground, horizontal, vertical, decoding)
    part = decode_hover(foreground[:120, :120], horizontal[:120, :120], vertical[:120, :120], decoding)
    inner = (slice(20, 90), slice(20, 90))
    pairs = set(zip(whole[inner].ravel().tolist(), part[inner].ravel().tolist(), strict=True))
    assert len(pairs) == len(np.unique(whole[inner])) == len(np.unique(part[inner]))


def test_maps_must_have_one_shape() -> None:
    with pytest.raises(GeometryError, match="one plane"):
        decode_hover(np.zeros((4, 4)), np.zeros((4, 5)), np.zeros((4, 4)))
