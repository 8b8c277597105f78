"""Rules on MedNeXt: its network for a topology, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from delineate.planning.plan import Architecture
from delineate.planning.rules.topology import Pooling

CONVOLVED = 3
"""What nnU-Net's topology has where an axis is convolved; MedNeXt's kernel takes its place."""

Layer = tuple[int, int, int, int]
"""Voxels put out, channels that each output sees, output channels, taps of the kernel."""


def mednext_architecture(
    found: Pooling, *, width: int, blocks: Sequence[int], ratios: Sequence[int], kernel: int
) -> Architecture:
    """Return the MedNeXt for a topology: at most as many stages as there are ``blocks``.

    Parameters
    ----------
    found
        Strides and kernels of nnU-Net's rules; axes that are not convolved there are not convolved here.
    width
        Channels at full resolution; doubled at every stage.
    blocks, ratios
        Blocks and expansion ratios per stage, full resolution first; the decoder mirrors the encoder (so published).
    kernel
        Edge of the depthwise kernels, 3 or 5.
    """
    stages = min(len(found.strides), len(blocks))
    kernels = (*found.kernel_sizes[: stages - 1], found.kernel_sizes[-1])
    return Architecture(
        kind="mednext",
        dims=len(found.divisor),
        features=tuple(width * 2**stage for stage in range(stages)),
        kernel_sizes=tuple(tuple(kernel if k == CONVOLVED else k for k in sizes) for sizes in kernels),
        strides=found.strides[:stages],
        encoder_blocks=tuple(blocks[:stages]),
        decoder_convs=tuple(reversed(blocks[: stages - 1])),
        expansion_ratios=tuple(ratios[:stages]),
    )


def mednext_layers(
    architecture: Architecture, voxels: Sequence[int], channels: int, heads: int
) -> Iterator[tuple[Layer, bool]]:
    """Yield every convolution of a MedNeXt for ``voxels`` per stage, and whether a normalisation follows it."""
    features, deepest = architecture.features, architecture.stages - 1
    yield (voxels[0], channels, features[0], 1), False
    for level, count in enumerate(architecture.encoder_blocks):
        if level > 0:
            yield from _resampling(architecture, voxels[level], level - 1, level, level)
        for _ in range(count):
            yield from _block(architecture, voxels[level], level, level, level)
    for level, count in zip(reversed(range(deepest)), architecture.decoder_convs, strict=True):
        yield from _resampling(architecture, voxels[level], level + 1, level, level)
        for _ in range(count):
            yield from _block(architecture, voxels[level], level, level, level)
    for level, width in enumerate(features):
        yield (voxels[level], width, heads, 1), False


def _resampling(
    architecture: Architecture, voxels: int, source: int, target: int, ratio: int
) -> Iterator[tuple[Layer, bool]]:
    yield from _block(architecture, voxels, source, target, ratio)
    yield (voxels, architecture.features[source], architecture.features[target], 1), False


def _block(
    architecture: Architecture, voxels: int, source: int, target: int, ratio: int
) -> Iterator[tuple[Layer, bool]]:
    """Yield depthwise, expanding and compressing convolution of a block from stage ``source`` to ``target``."""
    taps = 1
    for k in architecture.kernel_sizes[max(source, target)]:
        taps *= k
    width = architecture.features[source]
    inner = width * architecture.expansion_ratios[ratio]
    yield (voxels, 1, width, taps), True
    yield (voxels, width, inner, 1), False
    yield (voxels, inner, architecture.features[target], 1), False
