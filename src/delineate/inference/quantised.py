"""A network whose convolutions see 8-bit integers: input and weights are rounded to 256 steps before each of them.

In torch this only rounds and is slower; a runtime that knows the pattern, such as OpenVINO, computes those convolutions
in integers. The first convolution, the heads and transposed convolutions stay floating: they are cheap, and the first
and last layers lose most. Knows no files.

References
----------
Jacob et al., Quantization and training of neural networks for efficient integer-arithmetic-only inference, CVPR 2018.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from delineate.errors import ModelError
from delineate.planning.quantisation import Range

STEPS = 255
"""An input lies on one of 0 to 255."""
WEIGHT_STEPS = 127
"""A weight lies on one of -127 to 127, so that 0 stays 0."""
HEADS: Final = "seg_layers"
_CONVOLVE = {2: functional.conv2d, 3: functional.conv3d}


class QuantisedConvolution(nn.Module):
    """A convolution of rounded inputs by rounded weights; the sums stay exact.

    Parameters
    ----------
    convolution
        Gives weights and geometry; its tensors are shared.
    span
        Least and greatest value of the input; what lies beyond is cut off.
    """

    weight_step: Tensor
    weight_zero: Tensor

    def __init__(self, convolution: nn.Conv2d | nn.Conv3d, span: Range) -> None:
        super().__init__()
        low, high = min(span[0], 0.0), max(span[1], 0.0)  # 0, the padding, must be one of the steps
        self.convolution = convolution
        self.step = max(high - low, 1e-12) / STEPS
        self.zero = round(-low / self.step)
        weight = convolution.weight.detach().float()
        largest = weight.abs().flatten(1).amax(1)
        self.register_buffer("weight_step", (largest / WEIGHT_STEPS).clamp_min(1e-12))
        self.register_buffer("weight_zero", torch.zeros(len(weight), dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution (B, C_out, *spatial) of ``x`` (B, C_in, *spatial)."""
        own = self.convolution
        rounded = torch.fake_quantize_per_tensor_affine(x, self.step, self.zero, 0, STEPS)
        weight = torch.fake_quantize_per_channel_affine(
            own.weight, self.weight_step, self.weight_zero, 0, -WEIGHT_STEPS, WEIGHT_STEPS
        )
        convolve = _CONVOLVE[own.weight.ndim - 2]
        return convolve(rounded, weight, own.bias, own.stride, own.padding, own.dilation)


def observed_ranges(network: nn.Module, batches: Iterable[Tensor]) -> dict[str, Range]:
    """Return the range of the input of every layer that can be quantised, by the layer's name.

    Parameters
    ----------
    network
        In evaluation mode, float32 on the CPU.
    batches
        ``(B, C, *patch)`` each, at least one. Least and greatest values are averaged over the batches, so that one odd
        patch does not make the steps coarse.
    """
    seen: dict[str, list[Range]] = {}

    def watch(name: str) -> torch.utils.hooks.RemovableHandle:
        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.setdefault(name, []).append((float(inputs[0].min()), float(inputs[0].max())))

        return network.get_submodule(name).register_forward_pre_hook(note)

    watching = [watch(name) for name in quantisable(network)]
    try:
        with torch.inference_mode():
            for batch in batches:
                network(batch)
    finally:
        for handle in watching:
            handle.remove()
    means = {name: np.mean(np.array(spans), axis=0) for name, spans in seen.items()}
    return {name: (float(low), float(high)) for name, (low, high) in means.items()}


def quantisable(network: nn.Module) -> tuple[str, ...]:
    """Return the names of the convolutions that are quantised: all but the first, the heads, and those in groups."""
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Conv3d)]
    return tuple(n for n in names[1:] if HEADS not in n.split(".") and network.get_submodule(n).groups == 1)


def quantised(network: nn.Module, ranges: Mapping[str, Range]) -> nn.Module:
    """Return a twin of the network with quantised convolutions; it shares all weights.

    Raises
    ------
    ModelError
        If the ranges are not those of this network's layers.
    """
    names = quantisable(network)
    if set(names) != set(ranges):
        raise ModelError(
            f"The int8 ranges are those of another network: it has {len(names)} layers to quantise, of "
            f"{len(set(names) & set(ranges))} there are ranges. Quantise the model again."
        )
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    twin = copy.deepcopy(network, shared)
    for name in names:
        place, _, last = name.rpartition(".")
        convolution: Any = twin.get_submodule(name)
        setattr(twin.get_submodule(place), last, QuantisedConvolution(convolution, ranges[name]))
    return twin
