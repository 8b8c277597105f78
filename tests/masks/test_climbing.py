"""Compiled climbing gives what numpy gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from delineate.masks import instance_decoding
from delineate.masks.instance_decoding import Decoding, decode_instances

climbing = pytest.importorskip("delineate.masks.climbing_kernels", reason="numba is not installed")


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    levels=st.sampled_from([3, 8, 1000]),  # few levels: many neighbours of equal height
    reach=st.integers(1, 20),
    prominence=st.sampled_from([0.02, 0.1, 0.3]),
)
def test_the_same_instances(seed: int, shape: tuple[int, int], levels: int, reach: int, prominence: float) -> None:
    generator = np.random.default_rng(seed)
    maps = ndimage.gaussian_filter(generator.random((3, *shape)), (0, 2, 2))
    maps = np.round((maps - maps.min()) / np.ptp(maps) * levels) / levels
    decoding = Decoding(foreground=0.4, prominence=prominence, smooth=0, reach=reach, least_pixels=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instance_decoding, "kernels", lambda *_: None)
        expected = decode_instances(maps, decoding)
        patch.setattr(instance_decoding, "kernels", lambda *_: climbing)
        found = decode_instances(maps, decoding)
    assert np.array_equal(found, expected)


@given(seed=st.integers(0, 1000), size=st.integers(1, 40))
def test_first_places_are_those_of_numpy(seed: int, size: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 9, (size, 7)).astype(np.int32)
    values, first = np.unique(labels, return_index=True)
    places = instance_decoding.first_places(labels, 9)
    assert places[values].tolist() == first.tolist()
    assert set(np.flatnonzero(places < 0)) == set(range(10)) - set(values.tolist())
