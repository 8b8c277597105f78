from __future__ import annotations

import os
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from architectures import anisotropic, isotropic, patch_of, planar

from delineate.errors import ModelError
from delineate.networks import build_network, from_nnunet, load_weights, to_nnunet

ORACLE = os.environ.get("DELINEATE_ORACLE_PYTHON")
CASES = {
    f"{shape.__name__}-{kind}": shape(kind)
    for shape in (isotropic, anisotropic, planar)
    for kind in ("plain_unet", "residual_unet")
}
TOLERANCE = 1e-5
"""Largest difference relative to the largest logit: float32 sums in another order."""


def shaken(network: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Give every weight, zeros and ones included, a value of its own, so that no mix-up stays hidden."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


def example(architecture) -> torch.Tensor:
    return torch.randn(2, 2, *patch_of(architecture), generator=torch.Generator().manual_seed(3))


def small_network(name: str = "planar-plain_unet"):
    return shaken(build_network(CASES[name], in_channels=2, heads=3, seed=0), 1)


@pytest.mark.parametrize("name", CASES)
def test_round_trip_without_the_oracle(name) -> None:
    own = small_network(name).state_dict()
    theirs = to_nnunet(own)
    assert list(from_nnunet(theirs)) == list(own)
    assert all(torch.equal(tensor, own[key]) for key, tensor in from_nnunet(theirs).items())
    assert set(own) < set(theirs)
    assert {k.removeprefix("decoder.") for k in theirs if k.startswith("decoder.encoder.")} == {
        k for k in theirs if k.startswith("encoder.")
    }


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_wrappers_are_taken_off(prefix) -> None:
    own = small_network().state_dict()
    wrapped = {prefix + name: tensor for name, tensor in to_nnunet(own).items()}
    assert list(from_nnunet(wrapped)) == list(own)


def test_aliases_alone_suffice() -> None:
    """A file that keeps each shared tensor once may keep it under its second name."""
    own = small_network().state_dict()
    aliases = {name: tensor for name, tensor in to_nnunet(own).items() if name not in own or "seg" in name}
    aliases |= {name: tensor for name, tensor in own.items() if "transpconvs" in name}
    assert from_nnunet(aliases).keys() == own.keys()


def test_contradicting_duplicates_are_refused() -> None:
    theirs = to_nnunet(small_network().state_dict())
    name = "decoder.encoder.stages.0.0.convs.0.all_modules.1.bias"
    theirs[name] = theirs[name] + 1
    with pytest.raises(ModelError, match=name):
        from_nnunet(theirs)


def test_equal_copies_are_accepted() -> None:
    own = small_network().state_dict()
    copies = {name: tensor.clone() for name, tensor in to_nnunet(own).items()}
    assert from_nnunet(copies).keys() == own.keys()


def test_what_is_no_tensor_is_refused() -> None:
    with pytest.raises(ModelError, match="'epoch' is a int"):
        from_nnunet({"epoch": 3})


def test_a_vnet_has_no_nnunet_names() -> None:
    with pytest.raises(ModelError, match=r"Only the plain and the residual-encoder U-Net"):
        to_nnunet(build_network(isotropic("vnet"), in_channels=1, heads=2, seed=0).state_dict())


def relative_difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> dict:
    if not ORACLE:
        pytest.skip("DELINEATE_ORACLE_PYTHON is not set")
    folder = tmp_path_factory.mktemp("oracle")
    questions = {
        name: asdict(architecture)
        | {
            "in_channels": 2,
            "heads": 3,
            "x": example(architecture),
            "weights": to_nnunet(small_network(name).state_dict()),
        }
        for name, architecture in CASES.items()
    }
    torch.save(questions, folder / "ours.pt")
    script = Path(__file__).with_name("nnunet_oracle.py")
    subprocess.run([ORACLE, "-W", "ignore", str(script), str(folder)], check=True, capture_output=True, text=True)
    return torch.load(folder / "theirs.pt", weights_only=True)


@pytest.mark.oracle
@pytest.mark.parametrize("name", CASES)
class TestAgainstNnunet:
    def test_our_weights_give_the_same_outputs_there(self, theirs, name) -> None:
        network = small_network(name)
        network.deep_supervision = True
        with torch.no_grad():
            ours = network(example(CASES[name]))
        answer = theirs[name]
        assert len(ours) == len(answer["outputs"])
        for mine, other in zip(ours, answer["outputs"], strict=True):
            assert mine.shape == other.shape
            assert relative_difference(mine, other) < TOLERANCE

    def test_without_deep_supervision(self, theirs, name) -> None:
        with torch.no_grad():
            assert relative_difference(small_network(name)(example(CASES[name])), theirs[name]["single"]) < TOLERANCE

    def test_their_weights_give_the_same_outputs_here(self, theirs, name) -> None:
        network = build_network(CASES[name], in_channels=2, heads=3, seed=5)
        load_weights(network, from_nnunet(theirs[name]["own_weights"]))
        network.deep_supervision = True
        with torch.no_grad():
            ours = network(example(CASES[name]))
        for mine, other in zip(ours, theirs[name]["own_outputs"], strict=True):
            assert relative_difference(mine, other) < TOLERANCE

    def test_state_dicts_have_the_same_names(self, theirs, name) -> None:
        assert to_nnunet(small_network(name).state_dict()).keys() == theirs[name]["own_weights"].keys()

    def test_parameters_come_in_the_same_order(self, theirs, name) -> None:
        """Optimiser states are kept by position."""
        assert [n for n, _ in small_network(name).named_parameters()] == theirs[name]["parameter_names"]
