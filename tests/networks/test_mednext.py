from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from delineate.errors import PlanError
from delineate.networks import build_network, check_architecture, describe, load_weights, parameter_count
from delineate.networks.mednext import DUMMY, from_published, to_published
from delineate.planning.plan import Architecture
from delineate.planning.presets import PRESETS
from delineate.planning.rules import cost
from delineate.planning.rules.mednext import mednext_architecture
from delineate.planning.rules.memory import feature_map_voxels
from delineate.planning.rules.topology import pooling

WIDTH = 32


def published(preset: str) -> Architecture:
    found = pooling((1.0, 1.0, 1.0), (128, 128, 128), 5)
    chosen = PRESETS[preset]
    return mednext_architecture(
        found, width=WIDTH, blocks=chosen.encoder_blocks, ratios=chosen.expansion_ratios, kernel=chosen.kernel
    )


def tiny(**changes) -> Architecture:
    architecture = Architecture(
        kind="mednext",
        dims=3,
        features=(4, 8, 16),
        kernel_sizes=((3, 3, 3),) * 3,
        strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
        encoder_blocks=(1, 2, 1),
        decoder_convs=(2, 1),
        expansion_ratios=(2, 3, 2),
    )
    return replace(architecture, **changes)


TINY = {
    "isotropic": tiny(),
    "anisotropic": tiny(
        kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 3)), strides=((1, 1, 1), (1, 2, 2), (2, 3, 2)), features=(4, 6, 8)
    ),
    "large_kernels": tiny(kernel_sizes=((5, 5, 5),) * 3),
    "planar": tiny(dims=2, kernel_sizes=((3, 3),) * 3, strides=((1, 1), (2, 2), (2, 1))),
}


def patch_of(architecture: Architecture) -> tuple[int, ...]:
    return tuple(2 * step for step in architecture.divisor)


def published_shapes(channels: int, heads: int, kernel: int) -> dict[str, tuple[int, ...]]:
    """All names and shapes of the published class for size B, written out from its definition."""
    n, k = WIDTH, (kernel,) * 3
    shapes: dict[str, tuple[int, ...]] = {"stem.weight": (n, channels, 1, 1, 1), "stem.bias": (n,), DUMMY: (1,)}

    def block(name, c_in, c_out, ratio, resampling=None):
        shapes.update(
            {
                f"{name}.conv1.weight": (c_in, 1, *k),
                f"{name}.conv1.bias": (c_in,),
                f"{name}.norm.weight": (c_in,),
                f"{name}.norm.bias": (c_in,),
                f"{name}.conv2.weight": (ratio * c_in, c_in, 1, 1, 1),
                f"{name}.conv2.bias": (ratio * c_in,),
                f"{name}.conv3.weight": (c_out, ratio * c_in, 1, 1, 1),
                f"{name}.conv3.bias": (c_out,),
            }
        )
        if resampling:
            outer = (c_in, c_out) if resampling == "up" else (c_out, c_in)
            shapes.update({f"{name}.res_conv.weight": (*outer, 1, 1, 1), f"{name}.res_conv.bias": (c_out,)})

    ratios = [2, 3, 4, 4, 4, 4, 4, 3, 2]
    for i in range(4):
        for index in range(2):
            block(f"enc_block_{i}.{index}", n * 2**i, n * 2**i, ratios[i])
            block(f"dec_block_{i}.{index}", n * 2**i, n * 2**i, ratios[8 - i])
        block(f"down_{i}", n * 2**i, n * 2 ** (i + 1), ratios[i + 1], "down")
        block(f"up_{i}", n * 2 ** (i + 1), n * 2**i, ratios[8 - i], "up")
    for index in range(2):
        block(f"bottleneck.{index}", 16 * n, 16 * n, ratios[4])
    for i in range(5):
        shapes.update({f"out_{i}.conv_out.weight": (n * 2**i, heads, 1, 1, 1), f"out_{i}.conv_out.bias": (heads,)})
    return shapes


@pytest.mark.parametrize(("preset", "kernel"), [("mednext-b", 3), ("mednext-b-k5", 5)])
def test_names_and_shapes_are_the_published_ones(preset, kernel) -> None:
    network = build_network(published(preset), in_channels=2, heads=3, seed=0)
    state = to_published(network.state_dict())
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == published_shapes(2, 3, kernel)
    load_weights(network, from_published(state))


# the table in the README of MIC-DKFZ/MedNeXt, in millions
@pytest.mark.parametrize(
    ("size", "small", "large"), [("s", 5.6, 5.9), ("b", 10.5, 11.0), ("m", 17.6, 18.3), ("l", 61.8, 63.0)]
)
def test_parameters_are_as_many_as_published(size, small, large) -> None:
    for preset, millions in ((f"mednext-{size}", small), (f"mednext-{size}-k5", large)):
        count = parameter_count(published(preset), in_channels=1, heads=14)
        assert count / 1e6 == pytest.approx(millions, abs=0.1)


def reference(x: torch.Tensor, w: dict[str, torch.Tensor], architecture: Architecture) -> list[torch.Tensor]:
    """The published forward pass on bare tensors, finest logits first; strides of 2 on all axes."""
    deepest = architecture.stages - 1

    def block(x, name, stride=1, up=False):
        kernel = w[f"{name}.conv1.weight"].shape[-1]
        convolve = F.conv_transpose3d if up else F.conv3d
        settings = {"stride": stride, "padding": kernel // 2, "groups": x.shape[1]}
        y = convolve(x, w[f"{name}.conv1.weight"], w[f"{name}.conv1.bias"], **settings)
        y = F.group_norm(y, y.shape[1], w[f"{name}.norm.weight"], w[f"{name}.norm.bias"])
        y = F.gelu(F.conv3d(y, w[f"{name}.conv2.weight"], w[f"{name}.conv2.bias"]))
        y = F.conv3d(y, w[f"{name}.conv3.weight"], w[f"{name}.conv3.bias"])
        if stride == 1:
            return x + y
        beside = convolve(x, w[f"{name}.res_conv.weight"], w[f"{name}.res_conv.bias"], stride=stride)
        return F.pad(y, (1, 0) * 3) + F.pad(beside, (1, 0) * 3) if up else y + beside

    def stage(x, name, count):
        for index in range(count):
            x = block(x, f"{name}.{index}")
        return x

    def out(x, level):
        return F.conv_transpose3d(x, w[f"out_{level}.conv_out.weight"], w[f"out_{level}.conv_out.bias"])

    x, skips = F.conv3d(x, w["stem.weight"], w["stem.bias"]), []
    for level in range(deepest):
        skips.append(stage(x, f"enc_block_{level}", architecture.encoder_blocks[level]))
        x = block(skips[-1], f"down_{level}", stride=2)
    x = stage(x, "bottleneck", architecture.encoder_blocks[deepest])
    logits = [out(x, deepest)]
    for level, count in zip(reversed(range(deepest)), architecture.decoder_convs, strict=True):
        x = stage(skips[level] + block(x, f"up_{level}", stride=2, up=True), f"dec_block_{level}", count)
        logits.insert(0, out(x, level))
    return logits


@pytest.mark.parametrize("name", ["isotropic", "large_kernels"])
def test_forward_is_the_published_one(name) -> None:
    architecture = TINY[name]
    network = build_network(architecture, in_channels=2, heads=3, seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():  # biases and scales that count
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    network.deep_supervision = True
    x = torch.randn(2, 2, *patch_of(architecture), generator=generator)
    for ours, theirs in zip(network(x), reference(x, network.state_dict(), architecture), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(TINY))
def test_every_scale_has_logits_and_every_weight_learns(name) -> None:
    architecture = TINY[name]
    network = build_network(architecture, in_channels=1, heads=2, seed=0)
    patch = patch_of(architecture)
    x = torch.randn(1, 1, *patch, generator=torch.Generator().manual_seed(1))
    alone = network(x)
    assert alone.shape == (1, 2, *patch)
    network.deep_supervision = True
    logits = network(x)
    assert torch.equal(logits[0], alone)
    size, expected = list(patch), []
    for stride in architecture.strides:
        size = [n // s for n, s in zip(size, stride, strict=True)]
        expected.append((1, 2, *size))
    assert [tuple(level.shape) for level in logits] == expected
    sum(level.square().sum() for level in logits).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_first_weights_are_seeded_with_torchs_variance() -> None:
    first = build_network(published("mednext-s"), in_channels=1, heads=2, seed=3).state_dict()
    again = build_network(published("mednext-s"), in_channels=1, heads=2, seed=3).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert first["bottleneck.0.conv2.weight"].std().item() == pytest.approx((1 / (3 * 512)) ** 0.5, rel=0.01)


def test_bfloat16_and_channels_last_agree_with_float32() -> None:
    architecture = tiny(features=(8, 16, 32))
    network = build_network(architecture, in_channels=1, heads=3, seed=0)
    x = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = network(x)
    network = network.to(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(x.to(memory_format=torch.channels_last_3d)).float()
    torch.testing.assert_close(logits, expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", list(TINY))
def test_the_planners_figures_are_the_networks(name) -> None:
    """Parameters exactly; memory as the sum over outputs of convolutions, seen by hooks."""
    architecture, counted = TINY[name], 0
    network = build_network(architecture, in_channels=2, heads=3, seed=0)
    assert cost.parameter_count(architecture, 2, 3) == sum(p.numel() for p in network.parameters())

    def count(name, output):
        nonlocal counted
        # what runs in an upsampling block ends one step short of the size, which the planner counts in full
        short = architecture.strides[int(name[3]) + 1] if name.startswith("up_") else (1,) * architecture.dims
        voxels = math.prod(n + step - 1 for n, step in zip(output.shape[2:], short, strict=True))
        counted += output.shape[1] * voxels

    network.deep_supervision = True
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.modules.conv._ConvNd):
            module.register_forward_hook(lambda _, inputs, output, name=name: count(name, output))
    network(torch.zeros(1, 2, *patch_of(architecture)))
    assert feature_map_voxels(architecture, patch_of(architecture), 3) == counted


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"expansion_ratios": (2, 2)}, "expansion_ratios"),
        ({"expansion_ratios": (2, 0, 2)}, "`expansion_ratios` must lie between 1 and"),
        ({"kind": "plain_unet"}, "expansion_ratios"),
    ],
)
def test_impossible_expansions_are_refused(change, named) -> None:
    with pytest.raises(PlanError, match=named):
        check_architecture(tiny(**change))


def test_describe() -> None:
    line = describe(published("mednext-l"), heads=3)
    assert line.startswith("MedNeXt, 3-D, 5 stages of 32-64-128-256-512 features with 3-4-8-8-8 blocks")
    assert "61.78 M parameters" in line
