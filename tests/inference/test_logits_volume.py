"""The volume while it is filled: both ways give the same, files vanish, a full disk is told before it kills."""

import errno
import gc
import os
import tempfile

import numpy as np
import pytest
import torch

from delineate.errors import ResourceError
from delineate.inference import logits_volume
from delineate.inference.logits_volume import InPlace, MovingWindow, new_volume, start_filling
from delineate.inference.tiling import Tiling, lay_tiles

CPU = torch.device("cpu")
SHAPES = [((20, 9, 7), (8, 8, 8)), ((5, 9, 12), (8, 8, 8)), ((6, 12, 9), (8, 8)), ((8, 8, 8), (8, 8, 8))]


def fill(filling, grid, heads=2):
    generator = torch.Generator().manual_seed(0)
    for tile in grid:
        filling.add(tile, torch.randn((heads, *grid.patch), generator=generator))
    return filling.finish()


@pytest.mark.parametrize(("shape", "patch"), SHAPES)
def test_the_moving_window_equals_adding_in_place(shape, patch):
    grid = lay_tiles(shape, Tiling(patch_size=patch))
    in_place = fill(InPlace(np.zeros((2, *shape), np.float32), grid), grid)
    moving = fill(MovingWindow(np.zeros((2, *shape), np.float32), grid, CPU), grid)
    np.testing.assert_allclose(moving, in_place, atol=1e-6)


def test_half_precision_is_rounded_once():
    grid = lay_tiles((20, 9, 7), Tiling(patch_size=(8, 8, 8)))
    exact = fill(InPlace(np.zeros((2, 20, 9, 7), np.float32), grid), grid)
    filling = start_filling(grid, 2, "float16", CPU, 2**20)
    assert isinstance(filling, MovingWindow)
    half = fill(filling, grid)
    assert half.dtype == np.float16
    assert np.mean(half == exact.astype(np.float16)) > 0.999


def test_a_window_beyond_the_limit_is_not_made():
    grid = lay_tiles((20, 9, 7), Tiling(patch_size=(8, 8, 8)))
    filling = start_filling(grid, 2, "float16", CPU, 100)
    assert isinstance(filling, InPlace)
    volume = fill(filling, grid)
    exact = fill(InPlace(np.zeros((2, 20, 9, 7), np.float32), grid), grid)
    np.testing.assert_allclose(volume, exact, atol=5e-3)


def test_a_large_volume_is_a_file_without_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    volume = new_volume((2, 30, 40, 50), "float32", 1000)
    assert isinstance(volume, np.memmap)
    assert volume.shape == (2, 30, 40, 50)
    assert not volume.any()
    volume[1, 2] = 3
    logits_volume._let_go(volume)
    assert volume[1, 2].min() == 3
    del volume
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_small_volume_is_an_array():
    assert not isinstance(new_volume((2, 3, 4, 5), "float32", 2 * 3 * 4 * 5 * 4), np.memmap)


def test_a_full_disk_is_told(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(ResourceError, match=r"need .* GiB.*float16"):
        new_volume((2, 30, 40, 50), "float32", 1000)


def test_without_fallocate_the_free_space_is_asked_for(monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    assert isinstance(new_volume((1, 4, 4, 4), "float32", 10), np.memmap)
    with pytest.raises(ResourceError, match="TMPDIR"):
        new_volume((1, 2**20, 2**20, 2**20), "float32", 10)
