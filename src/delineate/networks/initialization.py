"""The first weights of a network, drawn from a generator that is passed in.

Building a network never touches torch's global random state: modules are built on the ``meta`` device, where nothing
is drawn, and are filled here.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

HE_SLOPE = 0.01
"""Slope for which He's standard deviation is computed (nnU-Net: ``InitWeights_He(1e-2)``)."""

TORCH_SLOPE = math.sqrt(5)
"""Slope that gives the variance of torch's own first weights, a third over the fan-in; for networks published so."""

PRELU_SLOPE = 0.25
"""First slope of a PReLU (He et al., 2015)."""


@torch.no_grad()
def initialize(network: nn.Module, generator: torch.Generator, slope: float = HE_SLOPE) -> None:
    """Fill every parameter of ``network`` in place, in the order of its modules.

    Convolutions get He's normal distribution and zero biases, normalisations scale 1 and shift 0. A module that has
    a method ``zero_residual`` is then asked to start as the identity.

    Parameters
    ----------
    network
        Any module of this room; its parameters lie on the generator's device.
    generator
        The only source of randomness: the same state gives the same weights.
    slope
        Of the leaky ReLU that He's standard deviation is meant for.

    References
    ----------
    He et al. 2015, arXiv 1502.01852.
    """
    for module in network.modules():
        _fill(module, generator, slope)
    for module in network.modules():
        if callable(zero_residual := getattr(module, "zero_residual", None)):
            zero_residual()


def _fill(module: nn.Module, generator: torch.Generator, slope: float) -> None:
    if isinstance(module, _ConvNd):
        nn.init.kaiming_normal_(module.weight, a=slope, generator=generator)
        if module.bias is not None:
            module.bias.zero_()
    elif isinstance(module, _BatchNorm | _InstanceNorm):
        module.reset_running_stats()
        if module.affine:
            module.weight.fill_(1.0)
            module.bias.zero_()
    elif isinstance(module, nn.PReLU):
        module.weight.fill_(PRELU_SLOPE)
