"""The compiled sum against the plain one, in every format and layout of the tile."""

import numpy as np
import pytest
import torch

from delineate.networks import weighted_sum
from delineate.networks.weighted_sum import add_weighted


def question(dtype, layout):
    generator = torch.Generator().manual_seed(0)
    tile = torch.randn((5, 4, 6, 7), generator=generator).to(dtype)
    if layout == "channels last":
        tile = tile[None].to(memory_format=torch.channels_last_3d)[0]
    along_z, in_plane = torch.rand(4, generator=generator), torch.rand((6, 7), generator=generator)
    return tile, along_z, in_plane


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("layout", ["channels first", "channels last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_weighed_tile_is_added_into_a_part_of_the_sums(dtype, layout, kernels, monkeypatch):
    monkeypatch.setattr(weighted_sum, "HAVE_KERNELS", kernels and weighted_sum.HAVE_KERNELS)
    tile, along_z, in_plane = question(dtype, layout)
    sums = torch.ones((6, 9, 9, 5))
    add_weighted(sums[1:5, 2:8, 1:8], tile, along_z, in_plane)
    expected = np.ones((6, 9, 9, 5))
    weight = along_z.double().numpy()[:, None, None] * in_plane.double().numpy()
    expected[1:5, 2:8, 1:8] += np.moveaxis(tile.double().numpy(), 0, -1) * weight[..., None]
    np.testing.assert_allclose(sums.numpy(), expected, atol=1e-6)


def test_tiles_made_in_inference_mode_are_taken():
    tile, along_z, in_plane = question(torch.float32, "channels last")
    with torch.inference_mode():
        made = tile * 1
    sums = torch.zeros((4, 6, 7, 5))
    add_weighted(sums, made, along_z, in_plane)
    assert sums.abs().sum() > 0
