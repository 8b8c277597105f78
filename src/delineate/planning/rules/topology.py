"""Rules on network topology: how often each axis is halved, kernel sizes, features and blocks per stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from delineate.planning.plan import Architecture, NetworkKind

MIN_BOTTLENECK_EDGE = 4
"""An axis is halved only while at least this many voxels remain (nnU-Net ``UNet_featuremap_min_edge_length``)."""
POOL_TOGETHER_RATIO = 2
"""Axes whose spacing is less than this times the finest one are halved, and convolved, together (nnU-Net)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pooling:
    """The halvings that a patch allows, and the patch made divisible by them.

    ``strides`` and ``kernel_sizes`` hold one entry per stage (full resolution first), ``dims`` numbers each.
    """

    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    divisor: tuple[int, ...]
    patch_size: tuple[int, ...]


def pooling(spacing_mm: Sequence[float], patch_size: Sequence[float], max_stages: int | None = None) -> Pooling:
    """Return the topology for a patch: halve the finest axes until the bottleneck has about 4 voxels per edge.

    Parameters
    ----------
    spacing_mm
        Voxel spacing per patch axis, mm.
    patch_size
        Voxels per patch axis; may be fractional (a median), is rounded up to a multiple of the divisor.
    max_stages
        Stop at this many stages (the budget planner); None: no limit, as nnU-Net.

    References
    ----------
    nnU-Net 2.8.1, ``get_pool_and_conv_props``.
    """
    dims = len(spacing_mm)
    spacing, size = [float(s) for s in spacing_mm], [float(p) for p in patch_size]
    kernel = [1] * dims
    strides: list[tuple[int, ...]] = [(1,) * dims]
    kernels: list[tuple[int, ...]] = []
    while (max_stages is None or len(strides) < max_stages) and (axes := _axes_to_halve(spacing, size)):
        finest = min(spacing)
        kernel = [3 if k == 3 or s / finest < POOL_TOGETHER_RATIO else 1 for k, s in zip(kernel, spacing, strict=True)]
        for axis in axes:
            spacing[axis] *= 2
            size[axis] = math.ceil(size[axis] / 2)
        strides.append(tuple(2 if axis in axes else 1 for axis in range(dims)))
        kernels.append(tuple(kernel))
    divisor = tuple(math.prod(stride[axis] for stride in strides) for axis in range(dims))
    return Pooling(
        strides=tuple(strides),
        kernel_sizes=(*kernels, (3,) * dims),
        divisor=divisor,
        patch_size=tuple(round_up(p, d) for p, d in zip(patch_size, divisor, strict=True)),
    )


def _axes_to_halve(spacing: Sequence[float], size: Sequence[float]) -> list[int]:
    long_enough = [axis for axis, n in enumerate(size) if n >= 2 * MIN_BOTTLENECK_EDGE]
    if not long_enough:
        return []
    finest = min(spacing[axis] for axis in long_enough)
    together = [axis for axis in long_enough if spacing[axis] / finest < POOL_TOGETHER_RATIO]
    if len(together) == 1 and size[together[0]] < 3 * MIN_BOTTLENECK_EDGE:
        return []
    return together


def round_up(size: float, divisor: int) -> int:
    """Return the smallest multiple of ``divisor`` that is not below ``size`` (voxels, may be a half)."""
    return divisor * math.ceil(size / divisor)


def features_per_stage(stages: int, base: int, cap: int) -> tuple[int, ...]:
    """Return the channels per stage: ``base`` doubled at every stage, at most ``cap``.

    References
    ----------
    nnU-Net 2.8.1, ``ExperimentPlanner.get_plans_for_configuration`` (32, cap 320 in 3-D and 512 in 2-D).
    """
    return tuple(min(cap, base * 2**stage) for stage in range(stages))


def architecture(
    kind: NetworkKind,
    found: Pooling,
    *,
    features: tuple[int, ...],
    encoder_blocks: tuple[int, ...],
    decoder_convs: tuple[int, ...],
) -> Architecture:
    """Return the network for a topology; blocks and convolutions per stage are cut to the number of stages."""
    stages = len(found.strides)
    return Architecture(
        kind=kind,
        dims=len(found.divisor),
        features=features,
        kernel_sizes=found.kernel_sizes,
        strides=found.strides,
        encoder_blocks=encoder_blocks[:stages],
        decoder_convs=decoder_convs[: stages - 1],
    )
