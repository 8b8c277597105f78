"""HoVer-Net's graph: sizes, names and counts of the published checkpoints."""

from __future__ import annotations

import pytest
import torch

from delineate.errors import ModelError
from delineate.networks.hovernet import SIZES, HoVerNet, Mode, load_hovernet


@pytest.mark.parametrize(
    ("types", "mode", "millions", "entries"),
    [(0, "original", 45.0, 632), (5, "original", 54.7, 798), (6, "fast", 37.6, 798)],
)
def test_parameters_are_those_of_the_published_networks(types: int, mode: Mode, millions: float, entries: int) -> None:
    with torch.device("meta"):
        network = HoVerNet(types=types, mode=mode)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == millions
    assert len(network.state_dict()) == entries


def test_names_are_the_published_ones() -> None:
    with torch.device("meta"):
        names = set(HoVerNet(types=5, mode="original").state_dict())
    assert {
        "conv0./.weight",
        "conv0.bn.running_mean",
        "d0.units.0.conv1/bn.weight",
        "d0.units.2.preact/bn.bias",
        "d3.shortcut.weight",
        "d1.blk_bna.bn.running_var",
        "conv_bot.weight",
        "decoder.hv.u3.dense.units.7.preact_bna/bn.weight",
        "decoder.np.u2.dense.blk_bna.bn.weight",
        "decoder.tp.u1.conva.weight",
        "decoder.tp.u0.conv.bias",
        "upsample2x.unpool_mat",
    } <= names
    assert "d0.units.0.preact/bn.weight" not in names


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["original", "fast"])
def test_the_answer_is_smaller_than_the_image(mode: Mode) -> None:
    seen, answered = SIZES[mode]
    with torch.inference_mode():
        found = HoVerNet(types=5, mode=mode).eval()(torch.rand(1, 3, seen, seen) * 255)
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "tp": (1, 5, answered, answered),
        "np": (1, 2, answered, answered),
        "hv": (1, 2, answered, answered),
    }


def test_a_checkpoint_comes_back_by_its_names() -> None:
    network = HoVerNet(types=0, mode="fast")
    loaded = load_hovernet({f"module.{name}": tensor for name, tensor in network.state_dict().items()})
    assert (loaded.types, loaded.mode) == (0, "fast")
    assert torch.equal(loaded.conv_bot.weight, network.conv_bot.weight)


def test_other_weights_are_refused() -> None:
    with pytest.raises(ModelError, match="HoVer-Net"):
        load_hovernet({"a": torch.zeros(1)})
    partial = dict(HoVerNet(mode="fast").state_dict())
    del partial["conv_bot.weight"]
    with pytest.raises(ModelError, match=r"conv_bot\.weight"):
        load_hovernet(partial)
