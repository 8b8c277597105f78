"""Tiles: which boxes of a volume a network sees, in which order, and how its answers are weighed together.

Positions, padding and weights are nnU-Net's (Isensee et al. 2021; nnunetv2 2.8.1 ``sliding_window_prediction``). Since
the tiles form a regular grid and the Gaussian is separable, the weights are kept as one normalised vector per axis and
tile: the weighted answers then add up to the mean, and no volume of weights and no final division is needed.
Knows no torch and no files.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from delineate.errors import UsageError
from delineate.inference.gaussian import gaussian_axis
from delineate.planning.recipe import Precision

NNUNET_STEP = 0.5
"""Share of the patch by which neighbouring tiles are apart, at most (nnU-Net's default)."""

MIN_BOTTLENECK_EDGE = 4
"""Fewest voxels per axis at the bottleneck; nnU-Net's planner never plans fewer, so a cut patch keeps them too."""

Summed = Literal["auto", "logits", "features"]
"""``logits``: as nnU-Net. ``features``: what the last layer sees, which then works once per voxel of the volume instead
of once per voxel of every tile; equal up to rounding (:mod:`delineate.inference.linear_head`). ``auto``: features where
a network has more heads than features and ends in a known layer."""

Index = tuple[int, ...]
Triple = tuple[int, int, int]
Box = tuple[slice, ...]
"""Slices along (z, y, x)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tiling:
    """How a volume is cut into tiles and how each tile is predicted.

    The defaults give nnU-Net's numbers.

    Raises
    ------
    UsageError
        If a value is impossible, or a mirror axis is not one of the patch.
    """

    patch_size: tuple[int, ...]
    """Voxels per axis, ``(z, y, x)`` or, for networks that work slice by slice, ``(y, x)``."""
    step: float = NNUNET_STEP
    """Largest distance of neighbouring tiles as a share of the patch, in (0, 1]."""
    mirror_axes: tuple[int, ...] = ()
    """Patch axes that are flipped; the logits of all 2^k flips are averaged. Counted from 0 over the patch axes."""
    gaussian: bool = True
    """Whether voxels near a tile's centre count more (nnU-Net) or all the same."""
    batch_size: int | None = None
    """Most tiles (flipped ones counted) in one forward pass; None: chosen by patch size and device."""
    precision: Precision = "float32"
    """Number format of weights and activations inside the network; the logits are averaged in float32 anyway."""
    channels_last: bool | None = None
    """Whether activations lie channels last in memory; None: where that is faster."""
    fit_patch_to_image: bool = False
    """Cut the tile to the smallest multiple of ``divisor`` that covers the image (at least four voxels remain at the
    bottleneck). Faster on images smaller than the patch, yet not nnU-Net's number: instance normalisation then does not
    see the zeros of the padding. The default False is equal to nnU-Net."""
    divisor: tuple[int, ...] = ()
    """What each axis of a cut patch must be a multiple of (``Architecture.divisor``), for ``fit_patch_to_image``."""
    summed: Summed = "auto"
    """What is summed over tiles, see :data:`Summed`."""

    def __post_init__(self) -> None:
        dims = len(self.patch_size)
        if dims not in (2, 3) or any(size < 1 for size in self.patch_size):
            raise UsageError(f"`patch_size` must be 2 or 3 positive numbers of voxels; got {self.patch_size}.")
        if not 0 < self.step <= 1:
            raise UsageError(f"`step` must lie in (0, 1], a share of the patch; got {self.step}.")
        if len(set(self.mirror_axes)) != len(self.mirror_axes) or any(not 0 <= a < dims for a in self.mirror_axes):
            raise UsageError(f"`mirror_axes` must be distinct axes out of 0..{dims - 1}; got {self.mirror_axes}.")
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"`batch_size` must be at least 1, or None to choose it; got {self.batch_size}.")
        if self.summed not in get_args(Summed):
            raise UsageError(f"`summed` must be one of {', '.join(get_args(Summed))}; got {self.summed!r}.")
        if self.fit_patch_to_image and (len(self.divisor) != dims or any(d < 1 for d in self.divisor)):
            raise UsageError(f"`fit_patch_to_image` needs a `divisor` of {dims} positive numbers; got {self.divisor}.")

    @property
    def dims(self) -> int:
        """2 for a network that works slice by slice, else 3."""
        return len(self.patch_size)

    def patch_for(self, shape: Sequence[int]) -> Triple:
        """Return the tile ``(z, y, x)`` in voxels for a volume of that shape; one plane thick for 2-D networks."""
        patch = self.patch_size
        if self.fit_patch_to_image:
            patch = fit_patch(patch, tuple(shape)[-self.dims :], self.divisor)
        full = (1,) * (3 - self.dims) + patch
        return full[0], full[1], full[2]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TileGrid:
    """The tiles of one volume; all axes are ``(z, y, x)``, all lengths voxels."""

    shape: Triple
    """Size of the volume before padding."""
    patch: Triple
    before: Triple
    """Voxels of zero padding in front of the volume; starts count from there."""
    starts: tuple[tuple[int, ...], ...]
    """Where tiles begin, per axis, in the padded volume."""
    weights: tuple[tuple[NDArray[np.float32], ...], ...]
    """Per axis and start one vector of patch length; over all tiles that cover a voxel the products sum to 1."""

    def __len__(self) -> int:
        """Return the number of tiles."""
        return math.prod(len(s) for s in self.starts)

    def __iter__(self) -> Iterator[Index]:
        """Walk over the tiles, z slowest, as the index of the start per axis."""
        return itertools.product(*(range(len(s)) for s in self.starts))

    def plane_weight(self, tile: Index) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the weight of a tile taken apart: that of each plane ``(z,)`` and that within a plane ``(y, x)``."""
        wz, wy, wx = (self.weights[axis][i] for axis, i in enumerate(tile))
        return wz, wy[:, None] * wx

    def boxes(self, tile: Index) -> tuple[Box, Box]:
        """Return the part of a tile that is not padding: its slices in the volume and in the tile."""
        spans = [self._span(axis, i) for axis, i in enumerate(tile)]
        return tuple(slice(a, b) for a, b, _ in spans), tuple(slice(a - o, b - o) for a, b, o in spans)

    def _span(self, axis: int, i: int) -> Triple:
        origin = self.starts[axis][i] - self.before[axis]
        return max(origin, 0), min(origin + self.patch[axis], self.shape[axis]), origin


def lay_tiles(shape: Sequence[int], tiling: Tiling) -> TileGrid:
    """Return the tiles that cover a volume of ``shape`` (z, y, x).

    A 2-D network gets tiles of one plane, every plane once. Axes shorter than the patch are padded with zeros on both
    sides, the odd voxel behind.

    Raises
    ------
    UsageError
        If the shape does not have three positive sizes.
    """
    if len(shape) != 3 or any(size < 1 for size in shape):
        raise UsageError(f"The volume to predict must have three axes (z, y, x), none empty; got shape {tuple(shape)}.")
    z, y, x = (int(size) for size in shape)
    steps = (1.0,) * (3 - tiling.dims) + (tiling.step,) * tiling.dims
    return _lay((z, y, x), tiling.patch_for((z, y, x)), steps, tiling.gaussian)


@lru_cache(maxsize=16)
def _lay(
    shape: tuple[int, int, int], patch: tuple[int, int, int], steps: tuple[float, ...], gaussian: bool
) -> TileGrid:
    padded = tuple(max(s, p) for s, p in zip(shape, patch, strict=True))
    before = tuple((whole - s) // 2 for whole, s in zip(padded, shape, strict=True))
    starts = tuple(tile_starts(*axis) for axis in zip(padded, patch, steps, strict=True))
    weights = tuple(axis_weights(a, p, s, gaussian) for a, p, s in zip(starts, patch, padded, strict=True))
    return TileGrid(shape=shape, patch=patch, before=before, starts=starts, weights=weights)  # type: ignore[arg-type]


def tile_starts(size: int, patch: int, step: float) -> tuple[int, ...]:
    """Return where tiles begin along one axis of ``size`` voxels (``size >= patch``).

    ``ceil((size - patch) / (patch * step)) + 1`` tiles, spread evenly from 0 to ``size - patch`` and rounded half to
    even, as nnU-Net does.

    Raises
    ------
    UsageError
        If the axis is shorter than the patch.
    """
    if size < patch:
        raise UsageError(f"An axis must be padded to the patch before tiling; got {size} voxels, patch {patch}.")
    count = math.ceil((size - patch) / (patch * step)) + 1
    spread = (size - patch) / (count - 1) if count > 1 else 0.0
    return tuple(int(np.round(spread * i)) for i in range(count))


def axis_weights(starts: Sequence[int], patch: int, size: int, gaussian: bool) -> tuple[NDArray[np.float32], ...]:
    """Return per tile along one axis the weights of its ``patch`` voxels; the weights on every voxel sum to 1."""
    profile = gaussian_axis(patch) if gaussian else np.ones(patch)
    total = np.zeros(size)
    for start in starts:
        total[start : start + patch] += profile
    return tuple((profile / total[start : start + patch]).astype(np.float32) for start in starts)


def fit_patch(patch: Sequence[int], shape: Sequence[int], divisor: Sequence[int]) -> tuple[int, ...]:
    """Return the smallest patch that covers ``shape`` and that the network can take, never larger than ``patch``.

    Every axis is a multiple of its divisor and keeps :data:`MIN_BOTTLENECK_EDGE` voxels at the bottleneck.
    """
    fitted = (math.ceil(max(s, MIN_BOTTLENECK_EDGE * d) / d) * d for s, d in zip(shape, divisor, strict=True))
    return tuple(min(p, f) for p, f in zip(patch, fitted, strict=True))
