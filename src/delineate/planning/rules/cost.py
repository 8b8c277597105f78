"""What a network costs: parameters, and arithmetic of a training step. For comparing candidates, not for clocks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from delineate.planning.plan import Architecture
from delineate.planning.rules.mednext import mednext_layers
from delineate.planning.rules.memory import voxels_per_stage

TRAINING_PASSES = 3
"""A training step does the arithmetic of the forward pass about three times (forward, two gradients)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvolutionCost:
    """One convolution of a network: output ``voxels``, channels in and out, ``taps`` per output voxel."""

    voxels: int
    channels_in: int
    channels_out: int
    taps: int
    weights_per_pair: int
    """Weights per pair of channels: the taps, or the whole kernel of a transposed convolution."""
    normalized: bool

    @property
    def parameters(self) -> int:
        """Weights, bias, and scale and shift of the normalisation that follows."""
        return self.channels_out * (self.channels_in * self.weights_per_pair + (3 if self.normalized else 1))

    @property
    def operations(self) -> int:
        """Multiplications and additions of one forward pass of one patch."""
        return 2 * self.voxels * self.channels_in * self.channels_out * self.taps


def parameter_count(architecture: Architecture, channels: int, heads: int) -> int:
    """Return the number of parameters of a network with ``channels`` inputs and ``heads`` outputs.

    Heads for deep supervision count, as nnU-Net always builds them.
    """
    return sum(c.parameters for c in convolutions(architecture, (1,) * architecture.dims, channels, heads))


def step_operations(architecture: Architecture, patch_size: Sequence[int], channels: int, heads: int) -> int:
    """Return the multiplications and additions of one training step on one patch (voxels per axis)."""
    return TRAINING_PASSES * sum(c.operations for c in convolutions(architecture, patch_size, channels, heads))


def convolutions(
    architecture: Architecture, patch_size: Sequence[int], channels: int, heads: int
) -> Iterator[ConvolutionCost]:
    """Yield every convolution of a network for one patch (voxels per axis)."""
    voxels = voxels_per_stage(architecture, patch_size)
    if architecture.kind == "mednext":
        yield from _mednext(architecture, voxels, channels, heads)
        return
    if architecture.kind == "residual_unet":
        yield from _residual_encoder(architecture, voxels, channels)
    else:
        yield from _plain_encoder(architecture, voxels, channels)
    yield from _decoder(architecture, voxels, heads)


def _convolution(voxels: int, channels_in: int, channels_out: int, kernel: Sequence[int]) -> ConvolutionCost:
    taps = math.prod(kernel)
    return ConvolutionCost(
        voxels=voxels,
        channels_in=channels_in,
        channels_out=channels_out,
        taps=taps,
        weights_per_pair=taps,
        normalized=True,
    )


def _plain_encoder(architecture: Architecture, voxels: Sequence[int], channels: int) -> Iterator[ConvolutionCost]:
    for stage, convs in enumerate(architecture.encoder_blocks):
        for _ in range(convs):
            features = architecture.features[stage]
            yield _convolution(voxels[stage], channels, features, architecture.kernel_sizes[stage])
            channels = features


def _residual_encoder(architecture: Architecture, voxels: Sequence[int], channels: int) -> Iterator[ConvolutionCost]:
    kernels, features = architecture.kernel_sizes, architecture.features
    yield _convolution(voxels[0], channels, features[0], kernels[0])
    channels = features[0]
    for stage, blocks in enumerate(architecture.encoder_blocks):
        if channels != features[stage]:
            yield _convolution(voxels[stage], channels, features[stage], (1,))
        for _ in range(blocks):
            yield _convolution(voxels[stage], channels, features[stage], kernels[stage])
            channels = features[stage]
            yield _convolution(voxels[stage], channels, channels, kernels[stage])


def _mednext(architecture: Architecture, voxels: Sequence[int], channels: int, heads: int) -> Iterator[ConvolutionCost]:
    for (n, seen, out, taps), normalized in mednext_layers(architecture, voxels, channels, heads):
        yield ConvolutionCost(
            voxels=n, channels_in=seen, channels_out=out, taps=taps, weights_per_pair=taps, normalized=normalized
        )


def _decoder(architecture: Architecture, voxels: Sequence[int], heads: int) -> Iterator[ConvolutionCost]:
    for stage, convs in enumerate(architecture.decoder_convs):
        features = architecture.features[stage]
        yield ConvolutionCost(
            voxels=voxels[stage],
            channels_in=architecture.features[stage + 1],
            channels_out=features,
            taps=1,
            weights_per_pair=math.prod(architecture.strides[stage + 1]),
            normalized=False,
        )
        for index in range(convs):
            incoming = 2 * features if index == 0 else features
            yield _convolution(voxels[stage], incoming, features, architecture.kernel_sizes[stage])
        yield ConvolutionCost(
            voxels=voxels[stage],
            channels_in=features,
            channels_out=heads,
            taps=1,
            weights_per_pair=1,
            normalized=False,
        )
