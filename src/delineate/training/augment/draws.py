"""What chance decided for a batch: every parameter of every change, drawn up front from one generator.

Each sample consumes the same number of random numbers whatever happens to it, so a batch drawn at once equals its
samples drawn one after the other, and the state of the generator is all there is to save. A *row* is one channel of one
sample: row ``sample * channels + channel`` of a batch (B, C, *patch).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from delineate.training.augment.policy import (
    AugmentationPolicy,
    Blur,
    Factor,
    Gamma,
    LowResolution,
    Noise,
    Range,
    Spatial,
)

SEED_LIMIT = 2**53
"""Seeds are uniform integers below this: what a float64 in [0, 1) can tell apart."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Selection:
    """Some samples or rows and one value (or several) for each; CPU tensors."""

    index: Tensor
    """(n,) int64."""
    values: Tensor
    """(n, ...) float64."""

    def __len__(self) -> int:
        """Return how many were chosen."""
        return len(self.index)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Draws:
    """The decisions for one batch."""

    affine: Selection
    """Samples; (n, d, d) matrices from output to input voxel coordinates about the centre, d = 2 if in plane."""
    noise: Selection
    """Samples; (n, 2): standard deviation, seed."""
    blur: Selection
    """Rows; (n, dims) widths in voxels."""
    brightness: Selection
    """Rows; (n,) factors."""
    contrast: Selection
    """Rows; (n,) factors."""
    low_resolution: Selection
    """Rows; (n,) zooms."""
    gammas: tuple[Selection, ...]
    """For each gamma of the policy: rows; (n,) exponents."""
    flips: Tensor
    """(B, dims) bool."""


def draw(policy: AugmentationPolicy, generator: torch.Generator, samples: int, channels: int, dims: int) -> Draws:
    """Draw all parameters for a batch of ``samples`` with ``channels`` channels and ``dims`` spatial axes."""
    deck = _Deck(policy, generator, samples, channels, dims)
    return Draws(
        affine=_affine(policy.spatial, deck, dims),
        noise=_noise(policy.noise, deck),
        blur=_blur(policy.blur, deck, dims),
        brightness=_factors(policy.brightness, deck),
        contrast=_factors(policy.contrast, deck),
        low_resolution=_zooms(policy.low_resolution, deck),
        gammas=tuple(_exponents(gamma, deck) for gamma in policy.gammas),
        flips=_flips(policy.mirror_axes, deck, dims),
    )


class _Deck:
    """Uniform numbers in [0, 1), one row per sample, dealt column by column."""

    def __init__(
        self, policy: AugmentationPolicy, generator: torch.Generator, samples: int, channels: int, dims: int
    ) -> None:
        self.channels = channels
        gammas = len(policy.gammas)
        columns = (
            7 + 3 + 1 + channels * (1 + dims) + 2 * (1 + channels) + 1 + 2 * channels + gammas * (1 + channels) + dims
        )
        table = torch.rand(samples, columns, generator=generator, dtype=torch.float64, device=generator.device)
        self._columns = iter(table.cpu().unbind(1))

    def one(self) -> Tensor:
        """Deal one number per sample: (B,)."""
        return next(self._columns)

    def several(self, count: int) -> Tensor:
        """Deal ``count`` numbers per sample: (B, count)."""
        return torch.stack([next(self._columns) for _ in range(count)], 1)


def _affine(spatial: Spatial | None, deck: _Deck, dims: int) -> Selection:
    gate, turn, resize, angle, size = deck.one(), deck.one(), deck.one(), deck.several(3), deck.one()
    if spatial is None:
        return _nothing()
    gate = gate < spatial.probability
    turn, resize = gate & (turn < spatial.rotation_probability), gate & (resize < spatial.scaling_probability)
    angles = _between(angle, (-spatial.rotation_rad, spatial.rotation_rad)) * turn[:, None]
    scales = torch.where(resize, _between(size, spatial.scaling), 1.0)
    build = _plane_rotation if dims == 2 or spatial.in_plane else _volume_rotation
    index = (turn | resize).nonzero()[:, 0]
    return Selection(index=index, values=build(angles[index]) * scales[index, None, None])


def _plane_rotation(angles: Tensor) -> Tensor:
    """Return (n, 2, 2) rotation matrices by the first of the (n, 3) angles."""
    cos, sin = angles[:, 0].cos(), angles[:, 0].sin()
    return torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)


def _volume_rotation(angles: Tensor) -> Tensor:
    """Return (n, 3, 3) rotations about axis 0, then 1, then 2 by the (n, 3) angles, each positive as in nnU-Net."""
    result = torch.eye(3, dtype=angles.dtype).expand(len(angles), 3, 3)
    for axis, (a, b) in enumerate([(1, 2), (2, 0), (0, 1)]):
        single = torch.eye(3, dtype=angles.dtype).repeat(len(angles), 1, 1)
        cos, sin = angles[:, axis].cos(), angles[:, axis].sin()
        single[:, a, a], single[:, b, b] = cos, cos
        single[:, a, b], single[:, b, a] = -sin, sin
        result = single @ result
    return result


def _noise(noise: Noise | None, deck: _Deck) -> Selection:
    chance, deviation, seed = deck.one(), deck.one(), deck.one()
    if noise is None:
        return _nothing()
    index = (chance < noise.probability).nonzero()[:, 0]
    values = torch.stack([_between(deviation, noise.deviation), (seed * SEED_LIMIT).floor()], 1)
    return Selection(index=index, values=values[index])


def _blur(blur: Blur | None, deck: _Deck, dims: int) -> Selection:
    chance, channel = deck.one(), deck.several(deck.channels)
    width = deck.several(deck.channels * dims).view(-1, dims)
    if blur is None:
        return _nothing()
    chosen = (chance < blur.probability)[:, None] & (channel < blur.channel_probability)
    index = chosen.flatten().nonzero()[:, 0]
    return Selection(index=index, values=_between(width[index], blur.sigma_voxels))


def _factors(factor: Factor | None, deck: _Deck) -> Selection:
    chance, level = deck.one(), deck.several(deck.channels)
    if factor is None:
        return _nothing()
    return _rows(chance < factor.probability, _around_one(level, factor.factor))


def _zooms(low_resolution: LowResolution | None, deck: _Deck) -> Selection:
    chance, channel, zoom = deck.one(), deck.several(deck.channels), deck.several(deck.channels)
    if low_resolution is None:
        return _nothing()
    chosen = (chance < low_resolution.probability)[:, None] & (channel < low_resolution.channel_probability)
    index = chosen.flatten().nonzero()[:, 0]
    return Selection(index=index, values=_between(zoom, low_resolution.zoom).flatten()[index])


def _exponents(gamma: Gamma, deck: _Deck) -> Selection:
    chance, level = deck.one(), deck.several(deck.channels)
    return _rows(chance < gamma.probability, _around_one(level, gamma.exponent))


def _flips(axes: tuple[int, ...], deck: _Deck, dims: int) -> Tensor:
    allowed = torch.tensor([axis in axes for axis in range(dims)])
    return (deck.several(dims) < 0.5) & allowed


def _rows(chosen: Tensor, values: Tensor) -> Selection:
    """Return all rows of the chosen samples with their (B, C) values."""
    index = chosen[:, None].expand(values.shape).flatten().nonzero()[:, 0]
    return Selection(index=index, values=values.flatten()[index])


def _nothing() -> Selection:
    return Selection(index=torch.zeros(0, dtype=torch.int64), values=torch.zeros(0, dtype=torch.float64))


def _between(uniform: Tensor, limits: Range) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * uniform


def _around_one(uniform: Tensor, limits: Range) -> Tensor:
    """Return values below 1 for the lower half of the uniform numbers and above 1 for the upper half."""
    below = _between(2 * uniform, (limits[0], 1.0))
    above = _between(2 * uniform - 1, (1.0, limits[1]))
    return torch.where(uniform < 0.5, below, above)
