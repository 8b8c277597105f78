"""Quantised convolutions against rounding by hand, and on OpenVINO against torch."""

import importlib.util

import numpy as np
import pytest
import torch
from torch import nn

from delineate.errors import ModelError
from delineate.inference.openvino_backend import OpenVinoBackend
from delineate.inference.quantised import QuantisedConvolution, observed_ranges, quantisable, quantised
from delineate.networks import build_network
from delineate.planning.plan import Architecture


def network(dims=3, kind="plain_unet"):
    architecture = Architecture(
        kind=kind,
        dims=dims,
        features=(8, 12),
        kernel_sizes=((3,) * dims,) * 2,
        strides=((1,) * dims, (2,) * dims),
        encoder_blocks=(2, 2),
        decoder_convs=(2,),
    )
    made = build_network(architecture, in_channels=1, heads=3, seed=0).eval()
    made.deep_supervision = False
    return made


def batch(dims=3, seed=0):
    return torch.randn(2, 1, *(16,) * dims, generator=torch.Generator().manual_seed(seed))


def rounded(values, step, zero, low, high):
    """Round by hand, in float64."""
    return (np.clip(np.rint(values / step) + zero, low, high) - zero) * step


@pytest.mark.parametrize("span", [(-0.3, 2.0), (0.1, 2.0), (-2.0, -0.5)])
def test_a_convolution_rounds_its_input_and_its_weights(span):
    convolution = nn.Conv2d(3, 4, 3, padding=1, stride=2)
    x = torch.randn(1, 3, 9, 8, generator=torch.Generator().manual_seed(1))
    low, high = min(span[0], 0), max(span[1], 0)
    step = (high - low) / 255
    inputs = rounded(x.double().numpy(), step, round(-low / step), 0, 255)
    weight = convolution.weight.detach().double().numpy()
    steps = np.abs(weight).max((1, 2, 3), keepdims=True) / 127
    exact = nn.functional.conv2d(
        torch.from_numpy(inputs),
        torch.from_numpy(rounded(weight, steps, 0, -127, 127)),
        convolution.bias.detach().double(),
        stride=2,
        padding=1,
    )
    with torch.no_grad():
        found = QuantisedConvolution(convolution, span)(x)
    torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=1e-5)


def test_ranges_are_means_over_the_batches():
    net, batches = network(), [batch(seed=seed) for seed in (0, 1)]
    one, other = (observed_ranges(net, [b]) for b in batches)
    both = observed_ranges(net, iter(batches))
    assert both.keys() == set(quantisable(net))
    for name in both:
        np.testing.assert_allclose(both[name], np.mean([one[name], other[name]], axis=0), rtol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_all_but_the_first_layer_and_the_heads_is_quantised_and_the_answer_stays_close(dims):
    net = network(dims)
    twin = quantised(net, observed_ranges(net, [batch(dims)]))
    kinds = {name: type(module) for name, module in twin.named_modules()}
    assert sum(kind is QuantisedConvolution for kind in kinds.values()) == len(quantisable(net)) == 5
    assert kinds["decoder.seg_layers.0"] in (nn.Conv2d, nn.Conv3d)
    assert not any(isinstance(module, QuantisedConvolution) for module in net.modules())  # itself stays as it is
    with torch.no_grad():
        expected, found = net(batch(dims)), twin(batch(dims))
    assert 0 < (expected - found).abs().max() < 0.15 * expected.abs().max()
    assert {id(p) for p in twin.parameters()} == {id(p) for p in net.parameters()}


def test_ranges_of_another_network_are_refused():
    ranges = observed_ranges(network(), [batch()])
    with pytest.raises(ModelError, match="of another network"):
        quantised(network(kind="residual_unet"), ranges)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dims", [2, 3])
def test_openvino_computes_the_same_in_integers(dims):
    net = network(dims)
    twin = quantised(net, observed_ranges(net, [batch(dims)]))
    backend = OpenVinoBackend(bfloat16=False, threads=1)
    with torch.no_grad():
        expected, floating = twin(batch(dims)), net(batch(dims))
    found = backend(twin, batch(dims))
    error = float((found - expected).square().mean().sqrt())
    assert error < 0.5 * float((floating - expected).square().mean().sqrt())  # near the rounded net, not the exact one
    ((request, _),) = backend._compiled.values()
    layers = [op.get_rt_info() for op in request.get_compiled_model().get_runtime_model().get_ops()]
    kinds = [info["runtimePrecision"].astype(str) for info in layers if info["layerType"].astype(str) == "Convolution"]
    assert kinds.count("u8") >= 4
