"""Tiles: they cover, they overlap as asked, their weights add up to one, wrong values are told."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import UsageError
from delineate.inference.tiling import Tiling, axis_weights, fit_patch, lay_tiles, tile_starts

LENGTHS = st.integers(1, 90)
STEPS = st.floats(0.1, 1.0)


@settings(deadline=None)
@given(size=LENGTHS, patch=LENGTHS, step=STEPS)
def test_starts_cover_the_axis_without_gaps(size, patch, step):
    size = max(size, patch)
    starts = tile_starts(size, patch, step)
    assert starts[0] == 0
    assert starts[-1] == size - patch
    assert all(b - a <= max(math.ceil(patch * step), 1) for a, b in itertools.pairwise(starts))


def test_starts_of_nnunets_own_example():
    assert tile_starts(110, 64, 0.5) == (0, 23, 46)


def test_an_axis_shorter_than_the_patch_is_refused():
    with pytest.raises(UsageError, match="got 5 voxels, patch 8"):
        tile_starts(5, 8, 0.5)


@settings(deadline=None)
@given(size=LENGTHS, patch=LENGTHS, step=STEPS, gaussian=st.booleans())
def test_weights_of_an_axis_sum_to_one(size, patch, step, gaussian):
    size = max(size, patch)
    starts = tile_starts(size, patch, step)
    total = np.zeros(size)
    for start, weight in zip(starts, axis_weights(starts, patch, size, gaussian), strict=True):
        total[start : start + patch] += weight
    np.testing.assert_allclose(total, 1, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(shape=st.tuples(*[st.integers(1, 14)] * 3), patch=st.tuples(*[st.integers(2, 9)] * 3))
def test_tiles_reach_every_voxel_with_weight_one(shape, patch):
    grid = lay_tiles(shape, Tiling(patch_size=patch))
    total = np.zeros(shape)
    for tile in grid:
        outside, inside = grid.boxes(tile)
        along_z, in_plane = grid.plane_weight(tile)
        total[outside] += (along_z[:, None, None] * in_plane)[inside]
    np.testing.assert_allclose(total, 1, atol=1e-5)
    assert len(list(grid)) == len(grid)


def test_padding_puts_the_odd_voxel_behind():
    grid = lay_tiles((5, 8, 9), Tiling(patch_size=(8, 8, 8)))
    assert grid.before == (1, 0, 0)
    outside, inside = grid.boxes((0, 0, 0))
    assert outside == (slice(0, 5), slice(0, 8), slice(0, 8))
    assert inside == (slice(1, 6), slice(0, 8), slice(0, 8))


def test_a_planar_network_sees_every_plane_once():
    grid = lay_tiles((7, 20, 16), Tiling(patch_size=(16, 16)))
    assert grid.patch == (1, 16, 16)
    assert [len(s) for s in grid.starts] == [7, 2, 1]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((36, 50, 35), (40, 56, 40)),
        ((33, 41, 30), (40, 48, 32)),
        ((3, 100, 40), (32, 56, 40)),
    ],
)
def test_a_cut_patch_is_the_smallest_that_covers(shape, expected):
    assert fit_patch((40, 56, 40), shape, (8, 8, 8)) == expected
    tiling = Tiling(patch_size=(40, 56, 40), fit_patch_to_image=True, divisor=(8, 8, 8))
    assert tiling.patch_for(shape) == expected
    assert Tiling(patch_size=(40, 56, 40)).patch_for(shape) == (40, 56, 40)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"patch_size": (4,)}, "patch_size"),
        ({"patch_size": (4, 0, 4)}, r"\(4, 0, 4\)"),
        ({"step": 0.0}, "step"),
        ({"step": 1.5}, r"1\.5"),
        ({"mirror_axes": (3,)}, r"\(3,\)"),
        ({"mirror_axes": (1, 1)}, r"\(1, 1\)"),
        ({"batch_size": 0}, "batch_size"),
        ({"fit_patch_to_image": True}, "divisor"),
    ],
)
def test_impossible_values_are_told(wrong, sentence):
    with pytest.raises(UsageError, match=sentence):
        Tiling(**{"patch_size": (8, 8, 8), **wrong})


def test_an_empty_volume_is_told():
    with pytest.raises(UsageError, match=r"\(0, 4, 4\)"):
        lay_tiles((0, 4, 4), Tiling(patch_size=(4, 4, 4)))
