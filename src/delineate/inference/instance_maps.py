"""Maps of instances of a picture of any size, block by block, and the instances that are decoded from them.

The network's blocks stand on a grid of their own, anchored at the corner, and see as much around them as the network
does; so the maps are those of one pass over the whole picture. They are kept as bytes, and computed in a thread ahead
of the tiles that are decoded (``inference.blocks``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from delineate.execution import Cancellation, Progress, Silent
from delineate.inference.blocks import Blocks, Window
from delineate.inference.precision import as_input, layout_of
from delineate.masks.hover_decoding import HoverDecoding
from delineate.masks.instance_decoding import Decoding, decode_scored, first_places
from delineate.networks.answered_part import Part
from delineate.networks.instance_unet import MAPS, InstanceUNet
from delineate.planning.recipe import Precision

ROWS, COLUMNS = 1024, 1536
"""Pixels of what one pass of the network answers for; with its surroundings it sees more.

Rows are fewer, because the maps of a whole row of blocks are held.
"""

BAND = 128
"""Rows of logits that become bytes at a time."""

ReadWindow = Callable[[slice, slice], NDArray[np.float32]]
"""Rows and columns to a normalised picture (y, x, 3)."""


Decoded = tuple[NDArray[np.int32], NDArray[np.float64] | None]
"""Instances (y, x), and per instance what IoU with a true one can be expected; None: it is not known."""


class Predictor(Protocol):
    """What streaming needs to know of a network and its decoding."""

    stretched: ClassVar[bool]
    """Whether it wants pictures stretched to 0 to 1; else the numbers of 8-bit pictures."""

    @property
    def tta(self) -> bool:
        """Whether maps are means over the orientations of a picture."""

    @property
    def decoding(self) -> Decoding | HoverDecoding:
        """Thresholds and lengths of the decoding."""

    @property
    def halo(self) -> int:
        """Pixels that a decoding tile must see on every side."""

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns that the network answers for at a time."""

    def block_maps(self, read: ReadWindow, shape: tuple[int, int], rows: slice, columns: slice) -> NDArray[Any]:
        """Return the maps (map, y, x) of a block of a picture: three to decode; background and types follow."""

    def decode(self, maps: NDArray[Any]) -> Decoded:
        """Return the instances (y, x) of maps (3, y, x), and how sure each is."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InstancePredictor:
    """A network that is ready to predict, and how its maps are decoded."""

    stretched: ClassVar[bool] = True

    network: InstanceUNet
    decoding: Decoding
    device: torch.device
    precision: Precision
    channels_last: bool
    tta: bool = False
    """Whether maps are means over the eight orientations of a picture; the network then works eight times."""

    @property
    def halo(self) -> int:
        """See :class:`Predictor`."""
        return self.decoding.halo

    @property
    def block(self) -> tuple[int, int]:
        """See :class:`Predictor`."""
        return ROWS, COLUMNS

    def block_maps(self, read: ReadWindow, shape: tuple[int, int], rows: slice, columns: slice) -> NDArray[Any]:
        """See :class:`Predictor`."""
        reach = self.network.reach
        top, left = max(0, rows.start - reach), max(0, columns.start - reach)
        seen = read(slice(top, min(shape[0], rows.stop + reach)), slice(left, min(shape[1], columns.stop + reach)))
        here, there = (slice(along.start - o, along.stop - o) for along, o in ((rows, top), (columns, left)))
        return self.maps(seen, here, there)

    def decode(self, maps: NDArray[Any]) -> Decoded:
        """See :class:`Predictor`."""
        return decode_scored(maps.astype(np.float32) / 255 if maps.dtype == np.uint8 else maps, self.decoding)

    @torch.inference_mode()
    def maps(self, picture: NDArray[np.float32], rows: slice, columns: slice) -> NDArray[np.uint8]:
        """Return the maps (map, y, x) of a part, in rows and columns, of a window (y, x, 3) as bytes: 255 is 1.

        Foreground, interior and distance, then one probability per type, background first.
        """
        batch = self._batch(picture)
        del picture  # nobody needs it any more, and the network needs the memory
        answer = np.empty((self.network.maps, rows.stop - rows.start, columns.stop - columns.start), dtype=np.uint8)
        if self.tta:
            _as_bytes(self._over_orientations(batch, (rows, columns)), answer)
            return answer
        logits = self.network(batch, (rows, columns))[0]
        for top in range(0, answer.shape[1], BAND):  # few rows at a time stay in the processor's cache
            _as_bytes(_probabilities(logits[:, top : top + BAND]), answer[:, top : top + BAND])
        return answer

    def _batch(self, picture: NDArray[np.float32]) -> Tensor:
        """Return a window as the network takes it, (1, C, y, x), mirrored up to the stride."""
        stride = self.network.stride
        padding = ((0, -picture.shape[0] % stride), (0, -picture.shape[1] % stride), (0, 0))
        image = torch.from_numpy(np.pad(picture, padding, mode="symmetric").transpose(2, 0, 1)[None])
        return as_input(image, device=self.device, precision=self.precision, channels_last=self.channels_last)

    def _over_orientations(self, batch: Tensor, part: Part) -> Tensor:
        """Return the mean of what is said of a part of a window (1, C, y, x) turned and mirrored, brought back.

        Its sides are multiples of the stride, so every orientation has the network's grid of the others.
        """
        total = torch.zeros(())
        for turns, mirrored in itertools.product(range(4), (False, True)):
            seen, there = torch.rot90(batch, turns, (2, 3)), part
            for width in (batch.shape[3], batch.shape[2], batch.shape[3])[:turns]:
                there = (_from_behind(there[1], width), there[0])
            if mirrored:
                seen, there = seen.flip(3), (there[0], _from_behind(there[1], seen.shape[3]))
            values = _probabilities(self.network(seen.to(memory_format=layout_of(seen, self.channels_last)), there)[0])
            total = total.to(values) + torch.rot90(values.flip(2) if mirrored else values, -turns, (1, 2))
        return total / 8


def _from_behind(along: slice, length: int) -> slice:
    """Return where a part of so many lies if they are counted from the other end."""
    return slice(length - along.stop, length - along.start)


def _probabilities(logits: Tensor) -> Tensor:
    """Return maps from 0 to 1, and types that sum to 1, of logits (map, y, x)."""
    logits = logits.float()
    values = torch.sigmoid(logits[:MAPS])
    return torch.cat([values, torch.softmax(logits[MAPS:], 0)]) if len(logits) > MAPS else values


def _as_bytes(values: Tensor, into: NDArray[np.uint8]) -> None:
    """Enter maps from 0 to 1, rounded, as bytes: 255 is 1."""
    into[...] = (values * 255 + 0.5).to(torch.uint8).cpu().numpy()


def whole_maps(read: ReadWindow, shape: tuple[int, int], predictor: Predictor) -> NDArray[Any]:
    """Return the maps (map, y, x) of a whole picture, by the network's tiles; they are those of one pass."""
    whole = [(slice(0, shape[0]), slice(0, shape[1]))]
    with Blocks(shape, predictor.block, whole, partial(predictor.block_maps, read, shape), Cancellation()) as blocks:
        return blocks.window(0)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TileInstances:
    """The instances whose first pixel lies in a tile."""

    origin: tuple[int, int]
    """(y, x) of the window in the picture."""
    labels: NDArray[np.int32]
    """(y, x) of the window: 0, or the tile's instances 1, 2, ...; others are left out."""
    maps: NDArray[Any]
    """(map, y, x) of the window."""
    count: int
    confidences: NDArray[np.float64] | None
    """(instance,) what IoU with a true one can be expected; None: it is not known."""
    rows_done: int
    """So many rows of the picture, from the top, no later tile can change: an instance begins with its first row."""


def stream_instances(
    read: ReadWindow,
    shape: tuple[int, int],
    predictor: Predictor,
    *,
    tile: int = 2048,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> Iterator[TileInstances]:
    """Yield the instances of a picture, each exactly once, whatever the size of the tiles.

    Parameters
    ----------
    read
        Gives windows of the normalised picture.
    shape
        Rows and columns of the picture.
    predictor
        Network and decoding.
    tile
        Pixels per side of a decoding tile.
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    Interrupted
        If a stop was requested.
    """
    progress, cancellation = progress or Silent(), cancellation or Cancellation()
    halo, corners = predictor.halo, list(itertools.product(range(0, shape[0], tile), range(0, shape[1], tile)))
    windows: list[Window] = [
        (_around(top, shape[0], tile, halo), _around(left, shape[1], tile, halo)) for top, left in corners
    ]
    compute = partial(predictor.block_maps, read, shape)
    progress.start("instances", len(corners))
    with Blocks(shape, predictor.block, windows, compute, cancellation) as blocks:
        for index, ((top, left), (rows, columns)) in enumerate(zip(corners, windows, strict=True)):
            cancellation.check()
            maps = blocks.window(index)
            core = (
                slice(top - rows.start, top + tile - rows.start),
                slice(left - columns.start, left + tile - columns.start),
            )
            found, confidences = predictor.decode(maps[:MAPS])
            labels, numbers = owned_instances(found, core)
            yield TileInstances(
                origin=(rows.start, columns.start),
                labels=labels,
                maps=maps,
                count=len(numbers),
                confidences=None if confidences is None else confidences[numbers - 1],
                rows_done=top if left + tile < shape[1] else min(top + tile, shape[0]),
            )
            progress.advance()
    progress.finish()


def _around(start: int, length: int, tile: int, halo: int) -> slice:
    """Return a tile's rows (or columns) with their surroundings in a picture of so many."""
    return slice(max(0, start - halo), min(length, start + tile + halo))


def owned_instances(found: NDArray[np.int32], core: tuple[slice, slice]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Keep the instances of a window whose first pixel lies in its core.

    Parameters
    ----------
    found
        (y, x) instances of the window; the decoding's ``halo`` is how far it must go beyond the core, but at the
        picture's border.
    core
        Rows and columns that the tile answers for.

    Returns
    -------
    tuple
        (y, x) int32, numbered from 1 in the order of their numbers; and (instance,) these.
    """
    first = first_places(found, int(found.max(initial=0)))
    numbers = np.flatnonzero(first[1:] >= 0) + 1
    y, x = np.unravel_index(first[numbers], found.shape)
    inside = (y >= core[0].start) & (y < core[0].stop) & (x >= core[1].start) & (x < core[1].stop)
    table = np.zeros(len(first), dtype=np.int32)
    owned = numbers[inside]
    table[owned] = np.arange(1, len(owned) + 1)
    return table[found], owned
