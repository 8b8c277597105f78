"""What networks show on the way to a segmentation: whether they agree, and how their encoder saw the image.

Everything is taken from the forward passes of the prediction itself. Agreement is counted tile by tile, each voxel with
the weight that its tile has in the prediction; these weights sum to 1, so a voxel counts once. Knows no files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from delineate.inference.ensemble import Ensemble
from delineate.inference.mirroring import Flip
from delineate.inference.tiling import Index, TileGrid
from delineate.networks.mednext import MedNeXt
from delineate.networks.segmentation_network import EncoderDecoder

VOTE_BYTES = 4 * 2**20
"""About the most memory for the votes on a batch of tiles; else only every third, fifth, ... voxel is counted."""

Stages = tuple[NDArray[np.float32], ...]
"""Per stage of an encoder (feature,)."""
Job = tuple[int, Flip]
"""A tile's position in its group, and the axes along which it was flipped."""


class Observer:
    """Sees the answers of an ensemble's networks to the tiles of one volume.

    Parameters
    ----------
    ensemble
        The networks.
    regions
        Whether the heads are regions instead of labels with background.
    """

    def __init__(self, ensemble: Ensemble, *, regions: bool) -> None:
        self.ensemble = replace(ensemble, seen=self._see)
        self._members = len(ensemble.networks)
        self._regions = regions
        self._tiles: Sequence[Index] = ()
        self._weights: list[list[NDArray[np.float32]]] = []
        self._jobs: Sequence[Job] = ()
        self._flips = 1
        self._flip_votes: dict[tuple[int, int], list[Any]] = {}
        self._fold_votes: dict[Job, Tensor] = {}
        self._pooled: dict[int, dict[int, Stages]] = {}
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._features: dict[int, list[Stages]] = {}
        self._new: list[tuple[str, NDArray[np.float64]] | tuple[int, Stages]] = []

    def begin(self, grid: TileGrid, tiles: Sequence[Index], flips: int) -> None:
        """Take note of the tiles that are predicted next, each with so many flips."""
        if tuple(tiles) != tuple(self._tiles):
            self._settle()
        self._new.clear()  # of tiles that ran out of memory and are predicted again
        self._flip_votes.clear()
        self._fold_votes.clear()
        self._tiles, self._flips = tuple(tiles), flips
        self._weights = [_tile_weights(grid, tile) for tile in tiles]

    def next(self, jobs: Sequence[Job]) -> None:
        """Take note of what the next forward pass holds."""
        self._jobs = jobs

    def pool(self, member: int, stages: Tensor | Sequence[Tensor]) -> None:
        """Keep the mean of the encoder's features (B, C, *spatial), of every stage, of the unflipped tiles."""
        rows = [row for row, (_, flip) in enumerate(self._jobs) if not flip]
        if rows:
            outputs = [stages] if isinstance(stages, Tensor) else stages
            means = [stage[rows].flatten(2).mean(2, dtype=torch.float32).cpu().numpy() for stage in outputs]
            self._pooled[member] = dict(zip(rows, zip(*means, strict=True), strict=True))

    def agreement(self, which: str) -> tuple[float, ...]:
        """Return the mean Dice of pairs per foreground head, of ``flips`` or of ``folds``; NaN without pairs."""
        self._settle()
        pairs, sizes = self._sums.get(which, np.zeros((2, 1)))
        others = (self._flips if which == "flips" else self._members) - 1
        if others < 1:
            return (math.nan,) * len(pairs)
        return tuple(float(2 * p / (others * s)) if s > 0 else math.nan for p, s in zip(pairs, sizes, strict=True))

    def features(self, member: int) -> Stages | None:
        """Return per encoder stage of a network the mean features (feature,) over all tiles; None if it showed none."""
        self._settle()
        rows = self._features.get(member)
        if not rows:
            return None
        return tuple(np.asarray(np.mean(stage, axis=0), np.float32) for stage in zip(*rows, strict=True))

    def _see(self, member: int, logits: Tensor) -> None:
        """Look at the logits (B, head, *patch) of one network."""
        pooled = self._pooled.pop(member, {})
        for row, job in enumerate(self._jobs):
            if row in pooled:
                self._new.append((member, pooled[row]))
            if self._flips * self._members > 1:
                self._vote(member, job, self._masks(logits[row], job[1]))

    def _masks(self, logits: Tensor, flip: Flip) -> Tensor:
        """Return (foreground head, *thinned patch) uint8: what is predicted, flipped back."""
        heads = len(logits) - (0 if self._regions else 1)
        size, axes = heads * math.prod(logits.shape[1:]) * len(self._tiles) * (self._members + 1), logits.ndim - 1
        # odd: strided transposed convolutions write even and odd voxels with different weights
        stride = math.ceil((size / VOTE_BYTES) ** (1 / axes)) | 1 if size > VOTE_BYTES else 1
        thin = logits
        for axis in range(1, axes + 1 if stride > 1 else 1):
            kept = torch.arange(stride // 2, logits.shape[axis], stride, device=logits.device)
            thin = thin.index_select(axis, logits.shape[axis] - 1 - kept if axis - 1 in flip else kept)
        back = [axis - logits.ndim + 1 for axis in flip] if stride == 1 else []
        if self._regions:
            return torch.flip(thin > 0, back).to(torch.uint8)
        winner = torch.flip(thin.argmax(0).to(torch.int16), back)
        return torch.stack([(winner == head).to(torch.uint8) for head in range(1, heads + 1)])

    def _vote(self, member: int, job: Job, masks: Tensor) -> None:
        tile = job[0]
        if self._members > 1:
            votes = self._fold_votes.get(job)
            self._fold_votes[job] = masks if votes is None else votes + masks
            if member == self._members - 1:
                self._count("folds", tile, self._fold_votes.pop(job))
        if self._flips > 1:
            entry = self._flip_votes.setdefault((member, tile), [0, 0])
            entry[0], entry[1] = entry[0] + masks, entry[1] + 1
            if entry[1] == self._flips:
                self._count("flips", tile, self._flip_votes.pop((member, tile))[0])

    def _count(self, which: str, tile: int, votes: Tensor) -> None:
        """Add the agreeing pairs and the sizes of masks that got ``votes`` (head, *patch)."""
        # sum over pairs of |A and B| is n (n - 1) / 2 where n masks have the voxel; of |A| + |B| it is (N - 1) n
        n = votes.float()
        n = n.unsqueeze(1) if n.ndim == 3 else n
        weights = [torch.from_numpy(w).to(n.device) for w in map(_thinned, self._weights[tile], n.shape[1:])]
        counted = torch.stack([torch.einsum("kzyx,z,y,x->k", v, *weights) for v in (n * (n - 1) / 2, n)])
        self._new.append((which, counted.double().cpu().numpy()))

    def _settle(self) -> None:
        """Keep what was seen of a group of tiles that is complete."""
        for key, values in self._new:
            if isinstance(key, int):
                self._features.setdefault(key, []).append(tuple(values))
            else:
                self._sums[key] = self._sums.get(key, 0.0) + np.asarray(values, np.float64)
        self._new.clear()


def _tile_weights(grid: TileGrid, tile: Index) -> list[NDArray[np.float32]]:
    """Return the weight of the voxels of a tile along each axis; 0 in the padding."""
    found = []
    for axis, inside in enumerate(grid.boxes(tile)[1]):
        weights = np.zeros(grid.patch[axis], np.float32)
        weights[inside] = grid.weights[axis][tile[axis]][inside]
        found.append(weights)
    return found


def _thinned(weights: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return the weights of the ``count`` voxels that :meth:`Observer._masks` keeps."""
    stride = -(-len(weights) // count)
    return weights if stride == 1 else weights[stride // 2 :: stride].copy()


@contextmanager
def observed(ensemble: Ensemble, *, regions: bool) -> Iterator[Observer]:
    """Yield an observer of the ensemble; give it to ``stream_logits`` and use up the stream within the block."""
    observer = Observer(ensemble, regions=regions)
    hooks = [
        encoder.register_forward_hook(_hook(observer, member))
        for member, network in enumerate(ensemble.networks)
        if ensemble.backend is None and (encoder := _encoder_of(network)) is not None
    ]
    try:
        yield observer
    finally:
        for hook in hooks:
            hook.remove()


def _hook(observer: Observer, member: int) -> Any:
    return lambda module, inputs, output: observer.pool(member, output)


def _encoder_of(network: nn.Module) -> nn.Module | None:
    """Return the part of a network whose output is the encoder's features; None if it is not known."""
    if isinstance(network, EncoderDecoder):
        return network.encoder
    return network.bottleneck if isinstance(network, MedNeXt) else None
