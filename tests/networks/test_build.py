from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from architectures import anisotropic, isotropic, patch_of, planar

from delineate.errors import ModelError, PlanError
from delineate.networks import (
    SegmentationNetwork,
    build_network,
    check_architecture,
    check_patch,
    check_weights,
    describe,
    load_weights,
    parameter_count,
)
from delineate.planning.plan import Architecture

KINDS = ("plain_unet", "residual_unet", "vnet")
SHAPES = (isotropic, anisotropic, planar)


def six_stages(kind: str, encoder_blocks: tuple[int, ...], decoder_convs: int) -> Architecture:
    return replace(
        isotropic(kind, features=(32, 64, 128, 256, 320, 320)),
        encoder_blocks=encoder_blocks,
        decoder_convs=(decoder_convs,) * 5,
    )


# numbers of parameters of nnU-Net's own classes (nnunet-compatibility.md, conformance vectors), with three heads
@pytest.mark.parametrize(
    ("architecture", "millions"),
    [
        (six_stages("plain_unet", (2,) * 6, 2), 31.196),
        (six_stages("residual_unet", (1, 3, 4, 6, 6, 6), 1), 102.351),
        (isotropic(features=(32, 64, 128, 256)), 5.603),
    ],
    ids=["plain", "resenc", "hippocampus"],
)
def test_golden_parameter_counts(architecture: Architecture, millions: float) -> None:
    assert parameter_count(architecture, in_channels=1, heads=3) / 1e6 == pytest.approx(millions, abs=5e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
class TestEveryNetwork:
    def test_logits_have_the_patchs_size(self, kind, shape) -> None:
        architecture = shape(kind)
        network = build_network(architecture, in_channels=2, heads=3, seed=0)
        patch = patch_of(architecture)
        logits = network(torch.zeros(2, 2, *patch))
        assert logits.shape == (2, 3, *patch)

    def test_deep_supervision_is_a_switch(self, kind, shape) -> None:
        architecture = shape(kind)
        network = build_network(architecture, in_channels=1, heads=2, seed=0)
        patch = patch_of(architecture)
        x = torch.randn(1, 1, *patch, generator=torch.Generator().manual_seed(1))
        alone = network(x)
        network.deep_supervision = True
        logits = network(x)
        assert torch.equal(logits[0], alone)
        size, expected = list(patch), []
        for stride in architecture.strides[:-1]:
            size = [n // s for n, s in zip(size, stride, strict=True)]
            expected.append((1, 2, *size))
        assert [tuple(level.shape) for level in logits] == expected

    def test_seed_decides_the_weights_and_nothing_else_does(self, kind, shape) -> None:
        before = torch.get_rng_state()
        first = build_network(shape(kind), in_channels=1, heads=2, seed=7).state_dict()
        again = build_network(shape(kind), in_channels=1, heads=2, seed=torch.Generator().manual_seed(7)).state_dict()
        other = build_network(shape(kind), in_channels=1, heads=2, seed=8).state_dict()
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert any(not torch.equal(first[name], other[name]) for name in first)
        assert torch.equal(before, torch.get_rng_state())

    def test_every_weight_learns(self, kind, shape) -> None:
        architecture = shape(kind)
        network = build_network(architecture, in_channels=1, heads=2, seed=0)
        network.deep_supervision = True
        x = torch.randn(1, 1, *patch_of(architecture), generator=torch.Generator().manual_seed(1))
        sum(level.square().sum() for level in network(x)).backward()
        # a bias before an instance norm has no effect; all else must get a gradient, unless a zero scale blocks it
        missing = [name for name, p in network.named_parameters() if p.grad is None and not name.endswith("conv.bias")]
        assert missing == []


def test_weights_follow_he() -> None:
    architecture = isotropic(features=(32, 64))
    weights = build_network(architecture, in_channels=1, heads=2, seed=0).state_dict()
    weight = weights["encoder.stages.1.0.convs.1.conv.weight"]
    expected = (2 / (1 + 0.01**2) / (64 * 27)) ** 0.5
    assert weight.std().item() == pytest.approx(expected, rel=0.01)
    assert weight.mean().abs().item() < 0.01 * expected
    assert not weights["encoder.stages.1.0.convs.1.conv.bias"].any()
    assert (weights["encoder.stages.1.0.convs.1.norm.weight"] == 1).all()


def test_residual_blocks_start_as_their_shortcut() -> None:
    weights = build_network(isotropic("residual_unet"), in_channels=1, heads=2, seed=0).state_dict()
    last = [name for name in weights if ".conv2.norm." in name]
    assert len(last) == 2 * sum(isotropic("residual_unet").encoder_blocks)
    assert not any(weights[name].any() for name in last)


def test_network_is_usable_after_copying_weights() -> None:
    one = build_network(planar(), in_channels=1, heads=2, seed=1)
    two = build_network(planar(), in_channels=1, heads=2, seed=2)
    load_weights(two, one.state_dict())
    x = torch.ones(1, 1, *patch_of(planar()))
    x[..., 0] = 0
    assert torch.equal(one(x), two(x))


def test_foreign_weights_are_refused_with_names() -> None:
    network = build_network(planar(), in_channels=1, heads=2, seed=0)
    weights = build_network(planar(), in_channels=2, heads=2, seed=0).state_dict()
    weights["stranger"] = weights.pop("decoder.seg_layers.0.bias")
    with pytest.raises(ModelError) as caught:
        load_weights(network, weights)
    text = str(caught.value)
    assert "decoder.seg_layers.0.bias is missing" in text
    assert "stranger is unknown" in text
    assert "encoder.stages.0.0.convs.0.conv.weight has shape (4, 2, 5, 3) instead of (4, 1, 5, 3)" in text


def test_weights_are_checked_without_a_network() -> None:
    weights = build_network(planar(), in_channels=1, heads=2, seed=0).state_dict()
    check_weights(planar(), weights, in_channels=1, heads=2)
    with pytest.raises(ModelError, match=r"decoder\.seg_layers\.0\.weight has shape"):
        check_weights(planar(), weights, in_channels=1, heads=3)


def test_many_faults_are_counted() -> None:
    network = build_network(planar(), in_channels=1, heads=2, seed=0)
    with pytest.raises(ModelError, match=r"and \d+ more"):
        load_weights(network, {})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"kind": "transformer"}, "transformer"),
        ({"dims": 4}, "`dims`"),
        ({"features": (4,), "kernel_sizes": ((3, 3, 3),), "strides": ((1, 1, 1),)}, "at least 2 stages"),
        ({"strides": ((1, 1, 1), (2, 2, 2))}, r"`strides` needs 3 entries"),
        ({"kernel_sizes": ((3, 3),) * 3}, r"`kernel_sizes` needs 3 numbers"),
        ({"kernel_sizes": ((2, 3, 3),) * 3}, "must be odd"),
        ({"strides": ((2, 2, 2),) * 3}, "first all ones"),
        ({"strides": ((1, 1, 1), (0, 2, 2), (2, 2, 2))}, "must be positive"),
        ({"features": (4, 0, 8)}, "`features`"),
        ({"decoder_convs": (1, 0)}, "`decoder_convs`"),
        ({"features": (4, 10**9, 8)}, "`features` must lie between 1 and"),
        ({"encoder_blocks": (1, 10**9, 1)}, "`encoder_blocks` must lie between 1 and"),
        ({"kernel_sizes": ((3, 3, 10**9 + 1),) * 3}, "`kernel_sizes` must be odd and at most"),
    ],
)
def test_impossible_architectures_are_refused(change, named) -> None:
    with pytest.raises(PlanError, match=named):
        check_architecture(replace(isotropic(), **change))


def test_all_contradictions_are_told_at_once() -> None:
    broken = replace(isotropic(), encoder_blocks=(1,), decoder_convs=(1,))
    with pytest.raises(PlanError, match=r"(?s)encoder_blocks.*decoder_convs"):
        build_network(broken, in_channels=1, heads=2, seed=0)


@pytest.mark.parametrize(("in_channels", "heads"), [(0, 2), (1, 0)])
def test_channels_and_heads_must_be_positive(in_channels, heads) -> None:
    with pytest.raises(PlanError, match="at least 1 channel and 1 head"):
        build_network(isotropic(), in_channels=in_channels, heads=heads, seed=0)


def test_a_fitting_patch_passes() -> None:
    check_patch(anisotropic(), patch_of(anisotropic()))
    check_patch(isotropic(), [4, 4, 8])


@pytest.mark.parametrize(
    ("patch", "named"),
    [
        ((4, 8), "3 axes"),
        ((4, 8, 9), r"fits is \(4, 8, 12\)"),
        ((0, 8, 8), r"fits is \(4, 8, 8\)"),
        ((4, 4, 4), "single voxel"),
    ],
)
def test_a_patch_that_does_not_fit_is_explained(patch, named) -> None:
    with pytest.raises(PlanError, match=named):
        check_patch(isotropic(), patch)


def test_describe() -> None:
    assert describe(isotropic("vnet")).startswith("V-Net, 3-D, 3 stages of 4-6-8 features with 2-2-2 convolutions")
    line = describe(anisotropic("residual_unet"))
    assert "1-2-3-1 residual blocks, kernels 1x3x3 (2 stages), 3x3x3 (2 stages), downsampled by 2x12x8" in line
    assert "\n" not in line
    assert "31.20 M parameters" in describe(six_stages("plain_unet", (2,) * 6, 2))


def test_networks_survive_channels_last_and_bfloat16() -> None:
    network: SegmentationNetwork = build_network(isotropic(), in_channels=1, heads=2, seed=0)
    x = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    reference = network(x)
    network = network.to(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(x.to(memory_format=torch.channels_last_3d))
    assert logits.shape == reference.shape
    assert torch.nn.functional.cosine_similarity(logits.float().flatten(), reference.flatten(), dim=0) > 0.99
