"""Maps of instances of a picture of any size, tile by tile, and the instances that are decoded from them.

The network's tiles stand on a grid of their own, anchored at the corner, and overlap by as much as the network
sees; so the maps are those of one pass over the whole picture. They are kept as bytes, in a band as high as a decoding
tile with its surroundings, so memory grows with the width of the picture and not with its area.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from delineate.execution import Cancellation, Progress, Silent
from delineate.inference.precision import as_input, layout_of
from delineate.masks.hover_decoding import HoverDecoding
from delineate.masks.instance_decoding import Decoding, decode_instances, first_places
from delineate.networks.instance_unet import MAPS, InstanceUNet
from delineate.planning.recipe import Precision

ROWS, COLUMNS = 1024, 1536
"""Pixels of what one pass of the network answers for; with its surroundings it sees more.

Rows are fewer, because the maps of a whole row of passes are held.
"""

ReadWindow = Callable[[slice, slice], NDArray[np.float32]]
"""Rows and columns to a normalised picture (y, x, 3)."""


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
    def row_height(self) -> int:
        """Rows that one row of the network's tiles answers for."""

    def row(self, read: ReadWindow, shape: tuple[int, int], index: int, cancellation: Cancellation) -> NDArray[Any]:
        """Return the maps (map, y, x) of a row of tiles: three to decode; background and types follow."""

    def decode(self, maps: NDArray[Any]) -> NDArray[np.int32]:
        """Return the instances (y, x) of maps (3, y, x)."""


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
    def row_height(self) -> int:
        """See :class:`Predictor`."""
        return ROWS

    def row(self, read: ReadWindow, shape: tuple[int, int], index: int, cancellation: Cancellation) -> NDArray[Any]:
        """See :class:`Predictor`."""
        # filled tile by tile: joining tiles would hold the row twice
        answer = np.empty((self.network.maps, min(ROWS, shape[0] - index * ROWS), shape[1]), dtype=np.uint8)
        for left in range(0, shape[1], COLUMNS):
            cancellation.check()
            answer[:, :, left : left + COLUMNS] = self._tile(read, shape, index * ROWS, left)
        return answer

    def _tile(self, read: ReadWindow, shape: tuple[int, int], top: int, left: int) -> NDArray[np.uint8]:
        reach = self.network.reach
        rows = slice(max(0, top - reach), min(shape[0], top + ROWS + reach))
        columns = slice(max(0, left - reach), min(shape[1], left + COLUMNS + reach))
        maps = self.maps(read(rows, columns))
        here = slice(top - rows.start, top + ROWS - rows.start)
        return maps[:, here, left - columns.start : left + COLUMNS - columns.start]

    def decode(self, maps: NDArray[Any]) -> NDArray[np.int32]:
        """See :class:`Predictor`."""
        return decode_instances(maps.astype(np.float32) / 255 if maps.dtype == np.uint8 else maps, self.decoding)

    @torch.inference_mode()
    def maps(self, picture: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the maps (map, y, x) of a window (y, x, 3) as bytes: 255 is 1.

        Foreground, interior and distance, then one probability per type, background first.
        """
        height, width = picture.shape[:2]
        stride = self.network.stride
        padding = ((0, -height % stride), (0, -width % stride), (0, 0))
        image = torch.from_numpy(np.pad(picture, padding, mode="symmetric").transpose(2, 0, 1)[None])
        batch = as_input(image, device=self.device, precision=self.precision, channels_last=self.channels_last)
        values = self._over_orientations(batch) if self.tta else self._values(batch)
        answer: NDArray[np.uint8] = (values[:, :height, :width] * 255 + 0.5).to(torch.uint8).cpu().numpy()
        return answer

    def _values(self, batch: Tensor) -> Tensor:
        logits = self.network(batch)[0].float()
        values = torch.sigmoid(logits[:MAPS])
        return torch.cat([values, torch.softmax(logits[MAPS:], 0)]) if len(logits) > MAPS else values

    def _over_orientations(self, batch: Tensor) -> Tensor:
        """Return the mean of what is said of a window (1, C, y, x) turned and mirrored, brought back.

        Its sides are multiples of the stride, so every orientation has the network's grid of the others.
        """
        total = torch.zeros(())
        for turns, mirrored in itertools.product(range(4), (False, True)):
            turned = torch.rot90(batch, turns, (2, 3))
            seen = turned.flip(3) if mirrored else turned
            values = self._values(seen.to(memory_format=layout_of(seen, self.channels_last)))
            total = total.to(values) + torch.rot90(values.flip(2) if mirrored else values, -turns, (1, 2))
        return total / 8


def whole_maps(read: ReadWindow, shape: tuple[int, int], predictor: Predictor) -> NDArray[Any]:
    """Return the maps (map, y, x) of a whole picture, by the network's tiles; they are those of one pass."""
    band = _Band(read, shape, predictor, Cancellation())
    return band.window(slice(0, shape[0]), slice(0, shape[1]))


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
    band = _Band(read, shape, predictor, cancellation)
    halo = predictor.halo
    progress.start("instances", -(-shape[0] // tile) * -(-shape[1] // tile))
    for top in range(0, shape[0], tile):
        rows = slice(max(0, top - halo), min(shape[0], top + tile + halo))
        for left in range(0, shape[1], tile):
            cancellation.check()
            columns = slice(max(0, left - halo), min(shape[1], left + tile + halo))
            maps = band.window(rows, columns)
            core = (
                slice(top - rows.start, top + tile - rows.start),
                slice(left - columns.start, left + tile - columns.start),
            )
            labels = owned_instances(predictor.decode(maps[:MAPS]), core)
            yield TileInstances(
                origin=(rows.start, columns.start),
                labels=labels,
                maps=maps,
                count=int(labels.max(initial=0)),
                rows_done=top if left + tile < shape[1] else min(top + tile, shape[0]),
            )
            progress.advance()
    progress.finish()


def owned_instances(found: NDArray[np.int32], core: tuple[slice, slice]) -> NDArray[np.int32]:
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
    (y, x) int32
        Numbered from 1 in the order of their numbers.
    """
    first = first_places(found, int(found.max(initial=0)))
    numbers = np.flatnonzero(first[1:] >= 0) + 1
    y, x = np.unravel_index(first[numbers], found.shape)
    inside = (y >= core[0].start) & (y < core[0].stop) & (x >= core[1].start) & (x < core[1].stop)
    table = np.zeros(len(first), dtype=np.int32)
    table[numbers[inside]] = np.arange(1, int(inside.sum()) + 1)
    return table[found]


class _Band:
    """The maps of the rows that are being decoded."""

    def __init__(
        self, read: ReadWindow, shape: tuple[int, int], predictor: Predictor, cancellation: Cancellation
    ) -> None:
        self._read, self._shape, self._predictor, self._cancellation = read, shape, predictor, cancellation
        self._height = predictor.row_height
        self._rows: dict[int, NDArray[Any]] = {}
        self._done = 0
        """Rows of the picture above it were forgotten."""

    def window(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Return the maps (map, y, x) of a window; rows above it are forgotten, so windows come from top to bottom."""
        self._forget(rows.start)
        indices = range(rows.start // self._height, -(-rows.stop // self._height))
        joined = np.concatenate([self._row(index)[:, :, columns] for index in indices], axis=1)
        return joined[:, : rows.stop - rows.start]

    def _forget(self, until: int) -> None:
        """Let go of the rows above; of the row of tiles that goes on below only what is still needed is held."""
        for index in list(self._rows):
            first = max(self._done, index * self._height)
            if (index + 1) * self._height <= until:
                del self._rows[index]
            elif first < until:
                self._rows[index] = self._rows[index][:, until - first :].copy()
        self._done = until

    def _row(self, index: int) -> NDArray[Any]:
        """Return a row of tiles without the pixel rows that were forgotten."""
        if index not in self._rows:
            made = self._predictor.row(self._read, self._shape, index, self._cancellation)
            self._rows[index] = made[:, max(0, self._done - index * self._height) :]
        return self._rows[index]
