"""Which part of every stage of a small U-Net a part of its answer depends on.

A block of a large picture is answered for with its surroundings seen. On the way up, a stage need only compute what the
block, and the stages above, look at; this module knows how far that is, and knows no weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

FOLD = 2
"""Pixels per side that become channels."""
CONVOLUTIONS = 2
"""Of 3 x 3 in a stage: each sees a pixel further."""

Part = tuple[slice, slice]
"""Rows and columns; both ends are given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """What a stage on the way up has to see for a part of the image; all but ``pixels`` in the stage's own pixels."""

    seen: Part
    """Of the whole stage; even, so that it is made of whole pixels of the stage below."""
    answered: Part
    """Of what is seen: where zeros beyond its border do not count."""
    below: Part
    """Of the whole stage below: what becomes what is seen."""
    pixels: Part
    """Of the image: what is answered for."""


def levels_of(part: Part, size: tuple[int, int], count: int) -> tuple[Level, ...]:
    """Return what the stages on the way up have to see, finest first, of an image of a size, for a part of it."""
    levels, scale = [], FOLD
    answered = _outward(part, FOLD)
    for _ in range(count):
        height, width = size[0] // scale, size[1] // scale
        wide = (_grown(answered[0], CONVOLUTIONS, height), _grown(answered[1], CONVOLUTIONS, width))
        below = _outward(wide, 2)
        seen = _times(below, 2)
        levels.append(Level(seen=seen, answered=within(answered, seen), below=below, pixels=_times(answered, scale)))
        answered, scale = below, scale * 2
    return tuple(levels)


def cut(tensor: torch.Tensor, part: Part) -> torch.Tensor:
    """Return a part of (B, C, y, x) that does not hold on to the whole; in the same layout."""
    if part[0] == slice(0, tensor.shape[2]) and part[1] == slice(0, tensor.shape[3]):
        return tensor
    last = tensor.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return tensor[:, :, part[0], part[1]].contiguous(memory_format=layout)


def within(part: Part, whole: Part) -> Part:
    """Return where a part lies in a larger one."""
    down, across = whole[0].start, whole[1].start
    return slice(part[0].start - down, part[0].stop - down), slice(part[1].start - across, part[1].stop - across)


def _outward(part: Part, size: int) -> Part:
    """Return the squares of so many pixels that a part touches."""
    return slice(part[0].start // size, -(-part[0].stop // size)), slice(
        part[1].start // size, -(-part[1].stop // size)
    )


def _times(part: Part, size: int) -> Part:
    return slice(part[0].start * size, part[0].stop * size), slice(part[1].start * size, part[1].stop * size)


def _grown(along: slice, by: int, length: int) -> slice:
    return slice(max(0, along.start - by), min(length, along.stop + by))
