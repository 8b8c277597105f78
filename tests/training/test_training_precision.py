from __future__ import annotations

import pytest
import torch

from delineate.errors import ResourceError, UsageError
from delineate.training.precision import (
    forward,
    forward_with_cast_weights,
    place_images,
    place_network,
    resolve_device,
)
from training.toys import toy_network, toy_recipe


def quiet_network():
    network = toy_network(dropout=0.0)
    network.deep_supervision = False
    return network


@pytest.mark.parametrize("compute", [forward, forward_with_cast_weights])
def test_bfloat16_is_near_float32_and_gradients_are_float32(compute):
    network, images = quiet_network(), torch.randn(1, 1, 8, 8, 8)
    exact = forward(network, images, "float32")
    rough = compute(network, images, "bfloat16")
    assert exact.dtype == torch.float32
    assert rough.dtype == torch.bfloat16
    assert (exact - rough.float()).abs().max() < 0.05 * exact.abs().max()
    rough.float().square().mean().backward()
    assert all(p.dtype == torch.float32 for p in network.parameters())
    assert network.fine[0].weight.grad.dtype == torch.float32
    assert network.fine[0].weight.grad.abs().sum() > 0


def test_float32_is_the_plain_network():
    network, images = quiet_network(), torch.randn(1, 1, 8, 8, 8)
    assert torch.equal(forward(network, images, "float32"), network(images))
    assert torch.equal(forward_with_cast_weights(network, images, "float32"), network(images))


def test_channels_last_changes_the_layout_and_not_the_numbers():
    network, images, cpu = quiet_network(), torch.randn(1, 4, 8, 8, 8)[:, :1], torch.device("cpu")
    before = network(images)
    recipe = toy_recipe(channels_last=True)
    place_network(network, recipe, cpu)
    placed = place_images(images.expand(1, 4, 8, 8, 8), recipe, cpu)
    assert placed.is_contiguous(memory_format=torch.channels_last_3d)
    assert network.coarse[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(network(place_images(images, recipe, cpu)), before, atol=1e-5, rtol=1e-4)
    assert place_images(torch.zeros(1, 3, 8, 8), recipe, cpu).is_contiguous(memory_format=torch.channels_last)


def test_devices_are_checked():
    assert resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match="got 'gpu9'"):
        resolve_device("gpu9")
    with pytest.raises(ResourceError, match="CUDA devices"):
        resolve_device("cuda:63")
