"""The window hands out what adding by hand gives; files vanish, a full disk is told before it kills."""

import errno
import gc
import os
import tempfile

import numpy as np
import pytest
import torch

from delineate.errors import ResourceError
from delineate.inference import logits_volume
from delineate.inference.logits_volume import MovingWindow, new_volume
from delineate.inference.tiling import Tiling, lay_tiles

CPU = torch.device("cpu")
SHAPES = [
    ((20, 9, 7), (8, 8, 8)),
    ((33, 9, 7), (7, 8, 8)),
    ((5, 9, 12), (8, 8, 8)),
    ((6, 12, 9), (8, 8)),
    ((8, 8, 8), (8, 8, 8)),
]


def answers(grid, heads=2):
    generator = torch.Generator().manual_seed(0)
    return {tile: torch.randn((heads, *grid.patch), generator=generator) for tile in grid}


def first_plane(grid, tile):
    return grid.boxes(tile)[0][0].start


def fill(grid, given, *, most=3, limit_bytes=2**20, holes=False):
    """Return what the window hands out, as ``(channel, z, y, x)``, and the sums of the weights."""
    window = MovingWindow(grid, 2, device=CPU, limit_bytes=limit_bytes, holes=holes)
    planes, weights, thickest = [], [], 0
    for end in [*given, None]:
        for sums, weight in window.finished(grid.shape[0] if end is None else first_plane(grid, end), most):
            planes.append(sums.numpy().copy())
            weights.append(None if weight is None else weight.numpy().copy())
            thickest = max(thickest, len(sums))
        if end is not None:
            window.add(end, given[end])
    assert thickest <= most
    found = np.moveaxis(np.concatenate(planes), -1, 0)
    return found, None if weights[0] is None else np.concatenate(weights)


def by_hand(grid, given):
    """Add the weighed tiles in a whole volume, in double precision."""
    total, count = np.zeros((2, *grid.shape)), np.zeros(grid.shape)
    for tile, values in given.items():
        outside, inside = grid.boxes(tile)
        along_z, in_plane = grid.plane_weight(tile)
        weight = (along_z[:, None, None].astype(float) * in_plane)[inside]
        total[(slice(None), *outside)] += values.numpy()[(slice(None), *inside)] * weight
        count[outside] += weight
    return total, count


@pytest.mark.parametrize("most", [1, 3, 100])
@pytest.mark.parametrize(("shape", "patch"), SHAPES)
def test_the_window_hands_out_the_weighed_sums_plane_by_plane(shape, patch, most):
    grid = lay_tiles(shape, Tiling(patch_size=patch))
    found, weights = fill(grid, answers(grid), most=most)
    assert weights is None
    assert found.shape == (2, *shape)
    np.testing.assert_allclose(found, by_hand(grid, answers(grid))[0], atol=1e-6)


def test_a_window_in_a_file_gives_the_same():
    grid = lay_tiles((20, 9, 7), Tiling(patch_size=(8, 8, 8)))
    np.testing.assert_array_equal(fill(grid, answers(grid), limit_bytes=10)[0], fill(grid, answers(grid))[0])


@pytest.mark.parametrize(("shape", "patch"), SHAPES)
def test_weights_are_counted_where_tiles_are_missing(shape, patch):
    grid = lay_tiles(shape, Tiling(patch_size=patch))
    given = {tile: values for index, (tile, values) in enumerate(answers(grid).items()) if index % 3 == 0}
    found, weights = fill(grid, given, holes=True)
    total, count = by_hand(grid, given)
    np.testing.assert_allclose(found, total, atol=1e-6)
    np.testing.assert_allclose(weights, count, atol=1e-6)


def test_a_large_volume_is_a_file_without_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    volume = new_volume((2, 30, 40, 50), "float32", 1000)
    assert isinstance(volume, np.memmap)
    assert volume.shape == (2, 30, 40, 50)
    assert not volume.any()
    volume[1, 2] = 3
    logits_volume.let_go(volume)
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
