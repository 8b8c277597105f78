"""The network of instances for prediction and for training that keeps its statistics."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
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


@given(
    stages=st.integers(1, 4),
    ends=st.lists(st.integers(0, 96), min_size=2, max_size=2, unique=True).map(sorted),
    sides=st.lists(st.integers(0, 64), min_size=2, max_size=2, unique=True).map(sorted),
    last=st.booleans(),
)
def test_a_part_is_answered_as_in_the_whole(stages: int, ends: list[int], sides: list[int], last: bool) -> None:
    network = fused(random_network(1, widths=(6, 8, 10, 12)[:stages]))
    image = torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    image = image.to(memory_format=torch.channels_last if last else torch.contiguous_format)
    part = (slice(*ends), slice(*sides))
    with torch.inference_mode():
        torch.testing.assert_close(network(image, part), network(image)[..., part[0], part[1]])


def test_the_way_up_sees_little_more_than_the_part() -> None:
    network = random_network(1, widths=(6, 8, 10)).eval()
    seen: list[torch.Size] = []
    for stage in network.decoder:
        stage.register_forward_hook(lambda _module, inputs, _answer: seen.append(inputs[0].shape[2:]))
    network(torch.zeros(1, 3, 256, 256), (slice(120, 136), slice(0, 16)))
    assert seen == [(12, 8), (12, 10)]  # of 64 x 64 and 128 x 128: 16 pixels, and what two convolutions reach
