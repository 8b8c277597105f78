"""HoVer-Net's maps of a picture of any size, patch by patch as it was published, ready to be decoded in tiles.

The encoder pads with zeros, so what HoVer-Net says of a pixel depends on where its patch ends. Patches therefore have
the published size and stand on one grid, whatever is decoded at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from delineate.inference.instance_maps import Decoded, ReadWindow
from delineate.masks.hover_decoding import HoverDecoding, decode_hover
from delineate.networks.hovernet import SIZES, HoVerNet

BATCH = 4
HALO = 192
"""Pixels around a decoding tile: a large nucleus, the gradient's width, and the cluster that it may lie in."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HoverPredictor:
    """HoVer-Net, and how its maps are decoded."""

    stretched: ClassVar[bool] = False
    tta: ClassVar[bool] = False
    network: HoVerNet
    decoding: HoverDecoding
    device: torch.device

    @property
    def halo(self) -> int:
        """Pixels that a decoding tile must see on every side."""
        return HALO

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns that a batch of patches beside each other answers for."""
        answered = SIZES[self.network.mode][1]
        return answered, BATCH * answered

    def block_maps(self, read: ReadWindow, shape: tuple[int, int], rows: slice, columns: slice) -> NDArray[Any]:
        """Return (map, y, x) float16 of a block: probability, offsets along x and y; one-hot types."""
        answers = self._answers(np.stack(list(self._patches(read, shape, rows.start, columns))))
        joined = np.concatenate(list(answers), axis=2)
        return joined[:, : rows.stop - rows.start, : columns.stop - columns.start]

    def decode(self, maps: NDArray[Any]) -> Decoded:
        """Return the nuclei (y, x) of maps (3, y, x) in the order of their first pixels; none is told to be sure."""
        foreground, horizontal, vertical = maps.astype(np.float64)
        found = decode_hover(foreground, horizontal, vertical, self.decoding)
        numbers, first = np.unique(found, return_index=True)
        numbers, first = numbers[numbers > 0], first[numbers > 0]
        table = np.zeros(int(found.max(initial=0)) + 1, dtype=np.int32)
        table[numbers[np.argsort(first)]] = np.arange(1, len(numbers) + 1)
        return table[found], None

    def _patches(
        self, read: ReadWindow, shape: tuple[int, int], first_row: int, answers: slice
    ) -> Iterator[NDArray[np.float32]]:
        """Yield (y, x, 3) patches that answer for columns beside each other; beyond the picture it is mirrored."""
        seen, answered = SIZES[self.network.mode]
        margin = (seen - answered) // 2
        top = first_row - margin
        rows = slice(max(0, top), min(shape[0], top + seen))
        above, below = rows.start - top, top + seen - rows.stop
        for left in range(answers.start - margin, answers.stop - margin, answered):
            columns = slice(max(0, left), min(shape[1], left + seen))
            window = read(rows, columns)
            sides = (columns.start - left, left + seen - columns.stop)
            yield np.pad(
                window, ((above, below), sides, (0, 0)), mode="reflect" if min(window.shape[:2]) > 1 else "edge"
            )

    @torch.inference_mode()
    def _answers(self, patches: NDArray[np.float32]) -> Iterator[NDArray[np.float16]]:
        images = torch.from_numpy(np.ascontiguousarray(patches.transpose(0, 3, 1, 2))).to(self.device)
        answer = self.network(images)
        maps = [torch.softmax(answer["np"], 1)[:, 1:], answer["hv"]]
        if "tp" in answer:
            kinds = answer["tp"].argmax(1)
            maps.append(torch.nn.functional.one_hot(kinds, self.network.types).permute(0, 3, 1, 2).float())
        joined = torch.cat(maps, 1).cpu().numpy().astype(np.float16)
        yield from joined
