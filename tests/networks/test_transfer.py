from __future__ import annotations

import os
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from architectures import anisotropic, isotropic, patch_of, planar
from test_mednext import tiny

from delineate.errors import ModelError
from delineate.networks import build_network, from_nnunet, load_weights, to_nnunet
from delineate.networks.transfer import Interface, transfer

KINDS = ("plain_unet", "residual_unet", "vnet", "mednext")


def network_of(kind: str, channels: int = 1, heads: int = 3, seed: int = 0):
    architecture = tiny() if kind == "mednext" else isotropic(kind)
    return build_network(architecture, in_channels=channels, heads=heads, seed=seed)


def interface(channels=("CT",), structures=("liver", "spleen"), *, exclusive=True) -> Interface:
    heads = ("background", *structures) if exclusive else structures
    return Interface(channels=channels, heads=heads, exclusive=exclusive)


def is_head(name: str) -> bool:
    return "seg_layers" in name or name.startswith("out_")


def rows(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return a layer of logits with its heads along the first axis."""
    return tensor.transpose(0, 1) if name.startswith("out_") and name.endswith("weight") else tensor


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    def test_the_same_network_is_taken_over_whole(self, kind) -> None:
        trained, fresh = network_of(kind, seed=1).state_dict(), network_of(kind, seed=2).state_dict()
        weights, report = transfer(trained, fresh, source=interface(), target=interface())
        assert all(torch.equal(weights[name], trained[name]) for name in trained)
        assert len(report.copied) == len(fresh)
        assert report.known_heads == ("background", "liver", "spleen")
        assert report.new_heads == report.fresh == report.adapted == report.unused == ()

    def test_unknown_structures_start_at_random(self, kind) -> None:
        """nnU-Net's rule: all but the logits is taken over, the logits are left as they were."""
        trained, fresh = network_of(kind, seed=1).state_dict(), network_of(kind, seed=2, heads=5).state_dict()
        other = interface(structures=("a", "b", "c", "d"))
        weights, report = transfer(trained, fresh, source=interface(), target=other)
        for name, tensor in weights.items():
            assert torch.equal(tensor, fresh[name] if is_head(name) else trained[name]), name
        assert set(report.fresh) == {name for name in fresh if is_head(name)}
        assert report.new_heads == other.heads

    def test_rows_of_known_structures_are_taken_over(self, kind) -> None:
        trained, fresh = network_of(kind, seed=1).state_dict(), network_of(kind, seed=2, heads=4).state_dict()
        target = interface(structures=("kidney", "Spleen", "heart"))
        weights, report = transfer(trained, fresh, source=interface(), target=target)
        for name in filter(is_head, weights):
            new, old, random = (rows(name, state[name]) for state in (weights, trained, fresh))
            assert torch.equal(new[0], old[0])
            assert torch.equal(new[2], old[2])
            assert torch.equal(new[[1, 3]], random[[1, 3]])
        assert report.known_heads == ("background", "Spleen")
        assert report.new_heads == ("kidney", "heart")

    def test_a_second_channel_leaves_the_response_as_it_was(self, kind) -> None:
        network, wide = network_of(kind, seed=1), network_of(kind, channels=2, seed=2)
        if kind == "vnet":
            pytest.skip("a V-Net adds its input channels to its first features")
        weights, report = transfer(
            network.state_dict(), wide.state_dict(), source=interface(), target=interface(("ct", "PET"))
        )
        load_weights(wide, weights)
        generator = torch.Generator().manual_seed(0)
        patch = patch_of(tiny() if kind == "mednext" else isotropic(kind))
        x, other = (torch.randn(1, 1, *patch, generator=generator) for _ in range(2))
        torch.testing.assert_close(wide(torch.cat([x, other], 1)), network(x))
        assert len(report.adapted) == 1
        assert "PET start at 0" in " ".join(report.sentences())

    def test_another_network_is_refused_with_advice(self, kind) -> None:
        trained = network_of(kind).state_dict()
        architecture = tiny(features=(4, 8, 24)) if kind == "mednext" else isotropic(kind, features=(4, 6, 12))
        fresh = build_network(architecture, in_channels=1, heads=3, seed=0).state_dict()
        with pytest.raises(ModelError, match=r"(?s)has shape .* more\. Plan with .*--from"):
            transfer(trained, fresh, source=interface(), target=interface())


STEM = "encoder.stages.0.0.convs.0.conv.weight"


def stem_after(source: tuple[str, ...], target: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    trained = network_of("plain_unet", channels=len(source), seed=1).state_dict()
    fresh = network_of("plain_unet", channels=len(target), seed=2).state_dict()
    weights, _ = transfer(trained, fresh, source=interface(source), target=interface(target))
    return trained[STEM], weights[STEM]


def test_channels_are_met_by_name() -> None:
    old, new = stem_after(("T1", "T2", "FLAIR"), ("flair", "T1", "T2"))
    assert torch.equal(new, old[:, [2, 0, 1]])


def test_as_many_channels_of_other_names_keep_the_weights() -> None:
    old, new = stem_after(("T1", "T2"), ("ADC", "DWI"))
    assert torch.equal(new, old)


@pytest.mark.parametrize(
    ("source", "target"),
    [(("T1", "T2", "FLAIR"), ("MRI",)), (("MRI",), ("T1", "T2", "FLAIR")), (("T1", "T2"), ("T2", "ADC", "DWI"))],
)
def test_equal_values_in_all_channels_get_the_response_of_the_model(source, target) -> None:
    old, new = stem_after(source, target)
    torch.testing.assert_close(new.sum(1), old.sum(1))


def test_a_known_channel_among_strangers_keeps_its_weights() -> None:
    old, new = stem_after(("T1", "T2"), ("T2", "ADC", "DWI"))
    assert torch.equal(new[:, 0], old[:, 1])
    torch.testing.assert_close(new[:, 1], old[:, 0] / 2)


def test_logits_of_another_kind_are_not_taken_over() -> None:
    trained, fresh = network_of("plain_unet", seed=1).state_dict(), network_of("plain_unet", seed=2).state_dict()
    regions = interface(structures=("background", "liver", "spleen"), exclusive=False)
    weights, report = transfer(trained, fresh, source=interface(), target=regions)
    assert report.known_heads == ()
    assert all(torch.equal(weights[name], fresh[name]) for name in weights if is_head(name))


def test_small_depthwise_kernels_grow() -> None:
    """UpKern: kernels are interpolated, all else is equal."""
    small = build_network(tiny(), in_channels=1, heads=3, seed=1).state_dict()
    large = build_network(tiny(kernel_sizes=((5, 5, 5),) * 3), in_channels=1, heads=3, seed=2).state_dict()
    weights, report = transfer(small, large, source=interface(), target=interface())
    depthwise = [name for name in large if name.endswith("conv1.weight")]
    assert set(report.adapted) == set(depthwise)
    for name in depthwise:
        assert weights[name].shape[2:] == (5, 5, 5)
        torch.testing.assert_close(weights[name][..., 2, 2, 2], small[name][..., 1, 1, 1])
    assert all(torch.equal(weights[name], small[name]) for name in small if name not in depthwise)
    with pytest.raises(ModelError, match="has shape"):
        transfer(large, small, source=interface(), target=interface())


def test_large_kernels_of_a_u_net_do_not_grow() -> None:
    wide = replace(isotropic(), kernel_sizes=((5, 5, 5),) * 3)
    small, large = network_of("plain_unet").state_dict(), build_network(wide, in_channels=1, heads=3, seed=0)
    with pytest.raises(ModelError, match="has shape"):
        transfer(small, large.state_dict(), source=interface(), target=interface())


def test_what_is_missing_and_what_is_left_over_is_told() -> None:
    trained = network_of("plain_unet").state_dict()
    fresh = network_of("plain_unet", seed=2).state_dict()
    lacking = {name: tensor for name, tensor in trained.items() if name != STEM}
    with pytest.raises(ModelError, match=f"{STEM} is missing"):
        transfer(lacking, fresh, source=interface(), target=interface())
    _, report = transfer({**trained, "projector": torch.ones(2)}, fresh, source=interface(), target=interface())
    assert report.unused == ("projector",)
    headless = {name: tensor for name, tensor in trained.items() if not is_head(name)}
    weights, report = transfer(headless, fresh, source=interface(), target=interface())
    assert set(report.fresh) == {name for name in fresh if is_head(name)}
    assert torch.equal(weights[STEM], trained[STEM])


ORACLE = os.environ.get("DELINEATE_ORACLE_PYTHON")
LOADED = {
    "plain": isotropic(),
    "residual": isotropic("residual_unet"),
    "anisotropic": anisotropic("residual_unet"),
    "planar": planar(),
}


@pytest.fixture(scope="module")
def nnunets(tmp_path_factory) -> dict:
    """What nnU-Net's own loading of pretrained weights leaves in its networks."""
    if not ORACLE:
        pytest.skip("DELINEATE_ORACLE_PYTHON is not set")
    folder = tmp_path_factory.mktemp("pretrained")
    questions = {}
    for name, architecture in LOADED.items():
        trained = build_network(architecture, in_channels=2, heads=3, seed=1)
        fresh = build_network(architecture, in_channels=2, heads=4, seed=2)
        questions[name] = asdict(architecture) | {
            "in_channels": 2,
            "heads": 4,
            "trained": to_nnunet(trained.state_dict()),
            "fresh": to_nnunet(fresh.state_dict()),
        }
    other = build_network(isotropic(features=(4, 6, 12)), in_channels=2, heads=3, seed=1)
    questions["mismatch"] = questions["plain"] | {"trained": to_nnunet(other.state_dict())}
    torch.save(questions, folder / "ours.pt")
    script = Path(__file__).with_name("pretrained_oracle_script.py")
    subprocess.run([ORACLE, "-W", "ignore", str(script), str(folder)], check=True, capture_output=True, text=True)
    return torch.load(folder / "theirs.pt", weights_only=True)


@pytest.mark.oracle
@pytest.mark.parametrize("name", LOADED)
def test_the_weights_are_those_that_nnunet_leaves(nnunets, name) -> None:
    trained = build_network(LOADED[name], in_channels=2, heads=3, seed=1).state_dict()
    fresh = build_network(LOADED[name], in_channels=2, heads=4, seed=2).state_dict()
    channels = ("T1", "T2")
    target = interface(channels, ("kidney", "heart", "aorta"))
    weights, _ = transfer(trained, fresh, source=interface(channels), target=target)
    theirs = from_nnunet(nnunets[name]["weights"])
    assert weights.keys() == theirs.keys()
    assert all(torch.equal(weights[key], theirs[key]) for key in weights)


@pytest.mark.oracle
def test_nnunet_refuses_what_we_refuse(nnunets) -> None:
    assert "encoder" in nnunets["mismatch"]["error"]
    trained = build_network(isotropic(features=(4, 6, 12)), in_channels=2, heads=3, seed=1).state_dict()
    fresh = build_network(isotropic(), in_channels=2, heads=4, seed=2).state_dict()
    with pytest.raises(ModelError):
        transfer(trained, fresh, source=interface(("a", "b")), target=interface(("a", "b")))
