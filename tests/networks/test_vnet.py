from __future__ import annotations

import pytest
import torch
from architectures import isotropic, patch_of
from torch import nn

from delineate.networks.initialization import initialize
from delineate.networks.vnet import VNetOptions, VNetStage, vnet


@pytest.mark.parametrize("activation", ["prelu", "leaky_relu"])
@pytest.mark.parametrize("normalize", [True, False])
def test_options(activation, normalize) -> None:
    architecture = isotropic("vnet")
    network = vnet(architecture, 3, 2, VNetOptions(activation=activation, normalize=normalize))
    initialize(network, torch.Generator().manual_seed(0))
    kinds = {type(module) for module in network.modules()}
    assert (nn.PReLU in kinds) == (activation == "prelu")
    assert (nn.InstanceNorm3d in kinds) == normalize
    patch = patch_of(architecture)
    assert network(torch.ones(1, 3, *patch)).shape == (1, 2, *patch)


def test_a_stage_is_a_residual_function() -> None:
    """With zero weights, only the activated shortcut is left."""
    stage = VNetStage(1, 4, (3, 3, 3), depth=2, options=VNetOptions(activation="leaky_relu", normalize=False))
    for parameter in stage.parameters():
        nn.init.zeros_(parameter)
    x = torch.linspace(-1, 1, 8).reshape(1, 1, 2, 2, 2)
    expected = nn.functional.leaky_relu(x, 0.01).expand(1, 4, 2, 2, 2)
    torch.testing.assert_close(stage(x), expected)


@pytest.mark.parametrize(("channels_in", "width"), [(3, 4), (4, 3), (2, 4)])
def test_the_first_stage_tiles_its_channels(channels_in, width) -> None:
    stage = VNetStage(
        channels_in, width, (1, 1), depth=1, options=VNetOptions(activation="leaky_relu", normalize=False)
    )
    for parameter in stage.parameters():
        nn.init.zeros_(parameter)
    x = torch.arange(1.0, channels_in + 1).reshape(1, -1, 1, 1)
    assert stage(x).flatten().tolist() == [index % channels_in + 1.0 for index in range(width)]


def test_leaky_relu_behind_a_norm_is_part_of_the_fused_call() -> None:
    fused = vnet(isotropic("vnet"), 1, 2, VNetOptions(activation="leaky_relu"))
    down = fused.encoder.stages[1][0]
    assert down.negative_slope == 0.01
    assert isinstance(down.act, nn.Identity)
