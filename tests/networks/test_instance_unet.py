"""The network of instances for prediction and for training that keeps its statistics."""

from __future__ import annotations

import torch
from torch import nn

from delineate.networks.instance_unet import fused
from instance_models import random_network


def test_a_fused_network_says_the_same_and_leaves_the_other_alone() -> None:
    network = random_network(1, widths=(8, 12, 16)).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    twin = fused(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in twin.modules())
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(twin(image), network(image), atol=1e-4, rtol=1e-4)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert (twin.reach, twin.stride, twin.maps) == (network.reach, network.stride, network.maps)


def test_statistics_that_are_fixed_stay_in_training() -> None:
    network = random_network(1)
    network.fixed_statistics = True
    before = {name: tensor.clone() for name, tensor in network.state_dict().items() if "running" in name}
    network.train()(torch.rand(2, 3, 32, 32))
    assert all(torch.equal(before[name], network.state_dict()[name]) for name in before)
    assert network.training
    network.fixed_statistics = False
    network.train()(torch.rand(2, 3, 32, 32))
    assert not any(torch.equal(before[name], network.state_dict()[name]) for name in before)
