from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from delineate.networks import UNet3D, initialize
from delineate.networks.teaching import DoubleConv

REPOSITORY = Path(__file__).parents[2]


def test_defaults() -> None:
    assert str(inspect.signature(UNet3D)).replace("'", "") == (
        "(in_ch: int = 1, out_ch: int = 3, features: Sequence[int] = (32, 64, 128, 256)) -> None"
    )
    network = UNet3D().eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 1, 16, 8, 24)).shape == (1, 3, 16, 8, 24)


@pytest.mark.parametrize(("in_ch", "out_ch", "features"), [(2, 5, (4, 8)), (1, 2, [3, 5, 7]), (1, 1, (4,))])
def test_any_width_and_depth(in_ch, out_ch, features) -> None:
    network = UNet3D(in_ch, out_ch, features)
    assert network(torch.zeros(2, in_ch, 8, 8, 8)).shape == (2, out_ch, 8, 8, 8)


def test_it_is_made_of_what_it_says() -> None:
    network = UNet3D()
    kinds = {type(module).__name__ for module in network.modules()}
    assert {"BatchNorm3d", "MaxPool3d", "ConvTranspose3d", "Conv3d", "ReLU"} <= kinds
    assert len([m for m in network.modules() if isinstance(m, DoubleConv)]) == 7


def test_ten_steps_on_a_ball_lower_the_loss() -> None:
    z, y, x = torch.meshgrid(*[torch.arange(16) - 7.5] * 3, indexing="ij")
    ball = (z**2 + y**2 + x**2 < 25).long()[None]
    generator = torch.Generator().manual_seed(0)
    image = ball[:, None].float() + 0.3 * torch.randn(1, 1, 16, 16, 16, generator=generator)
    network = UNet3D(1, 2, (4, 8))
    initialize(network, generator)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(10):
        loss = F.cross_entropy(network(image), ball)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
