"""Mirroring at test time: the mean of the logits over all flips of a tile, flips and tiles batched together."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Flip = tuple[int, ...]


def flip_sets(mirror_axes: Sequence[int]) -> tuple[Flip, ...]:
    """Return all 2^k subsets of the axes, the empty one first: ``(), (0,), (1,), (0, 1), ...``."""
    counts = range(len(mirror_axes) + 1)
    return tuple(flip for count in counts for flip in itertools.combinations(tuple(mirror_axes), count))


def mirrored_mean(
    forward: Callable[[Tensor], Tensor],
    tiles: Tensor,
    flips: Sequence[Flip],
    batch_size: int,
    announce: Callable[[Sequence[tuple[int, Flip]]], None] | None = None,
) -> Tensor:
    """Return the mean logits of tiles over their flips.

    Parameters
    ----------
    forward
        Network: ``(B, C, *patch)`` to logits ``(B, head, *patch)``.
    tiles
        ``(T, C, *patch)``.
    flips
        Sets of patch axes (counted from 0) that are flipped; the same set is flipped back in the answer.
    batch_size
        Most tiles in one forward pass, flipped ones counted.
    announce
        Is told before every forward pass which tiles it holds, flipped how; None: nobody is.

    Returns
    -------
    Tensor
        ``(T, head, *patch)`` float32.
    """
    if tuple(flips) == ((),) and len(tiles) <= batch_size:
        if announce is not None:
            announce([(tile, ()) for tile in range(len(tiles))])
        return forward(tiles)
    jobs = [(tile, flip) for tile in range(len(tiles)) for flip in flips]
    sums: list[Tensor] = []
    for begin in range(0, len(jobs), batch_size):
        part = jobs[begin : begin + batch_size]
        if announce is not None:
            announce(part)
        logits = forward(torch.stack([_flipped(tiles[tile], flip) for tile, flip in part]))
        sums = sums or [torch.zeros_like(logits[0], dtype=torch.float32) for _ in tiles]
        for row, (tile, flip) in zip(logits, part, strict=True):
            sums[tile] += _flipped(row, flip)
    return torch.stack(sums).div_(len(flips))


def _flipped(tile: Tensor, flip: Flip) -> Tensor:
    return torch.flip(tile, [axis + 1 for axis in flip]) if flip else tile
