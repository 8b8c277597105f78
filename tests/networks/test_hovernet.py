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


def published_names(typed: bool) -> set[str]:
    """Names of a published checkpoint, put together from the description of its parts."""

    def norm(place: str) -> set[str]:
        return {f"{place}.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}

    names = {"conv0./.weight", "conv_bot.weight", "upsample2x.unpool_mat", *norm("conv0.bn")}
    for stage, units in enumerate((3, 4, 6, 3)):
        names |= {f"d{stage}.shortcut.weight", *norm(f"d{stage}.blk_bna.bn")}
        for unit in range(units):
            place = f"d{stage}.units.{unit}"
            names |= (
                {f"{place}.conv{k}.weight" for k in (1, 2, 3)} | norm(f"{place}.conv1/bn") | norm(f"{place}.conv2/bn")
            )
            names |= norm(f"{place}.preact/bn") if unit else set()
    for branch in ("tp", "np", "hv") if typed else ("np", "hv"):
        own = f"decoder.{branch}"
        names |= {f"{own}.u1.conva.weight", f"{own}.u0.conv.weight", f"{own}.u0.conv.bias", *norm(f"{own}.u0.bn")}
        for step, units in (("u3", 8), ("u2", 4)):
            names |= {
                f"{own}.{step}.conva.weight",
                f"{own}.{step}.convf.weight",
                *norm(f"{own}.{step}.dense.blk_bna.bn"),
            }
            for unit in range(units):
                place = f"{own}.{step}.dense.units.{unit}"
                names |= {f"{place}.conv1.weight", f"{place}.conv2.weight"}
                names |= norm(f"{place}.preact_bna/bn") | norm(f"{place}.conv1/bn")
    return names


@pytest.mark.parametrize("types", [0, 5])
@pytest.mark.parametrize("mode", ["original", "fast"])
def test_names_are_the_published_ones(mode: Mode, types: int) -> None:
    with torch.device("meta"):
        state = HoVerNet(types=types, mode=mode).state_dict()
    assert set(state) == published_names(typed=types > 0)
    assert state["decoder.np.u3.conva.weight"].shape[-1] == {"original": 5, "fast": 3}[mode]
    if types:
        assert state["decoder.tp.u0.conv.weight"].shape[0] == types


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
