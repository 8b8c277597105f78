"""Logits with nnU-Net's rounding: weights, sums and means in half precision, tile after tile and fold after fold.

nnU-Net 2.8.1 (``inference/predict_from_raw_data.py``) adds up weighted tiles in half precision, which moves logits by
up to some thousandths and so the border of a segmentation by a voxel here and there. Delineate adds in float32. To
reproduce nnU-Net's label maps rather than the exact ones, take these logits and restore with ``mode="nnunet"``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from delineate.execution import Cancellation
from delineate.inference.ensemble import Ensemble
from delineate.inference.gaussian import gaussian_weights
from delineate.inference.mirroring import flip_sets, mirrored_mean
from delineate.inference.sliding_window import cut_tile
from delineate.inference.tiling import Tiling, lay_tiles


def predict_logits_in_half(
    ensemble: Ensemble, array: NDArray[Any], tiling: Tiling, *, cancellation: Cancellation | None = None
) -> NDArray[np.float16]:
    """Return the logits of a volume with nnU-Net's roundings; slow, and holds every head of the volume in memory.

    Parameters
    ----------
    ensemble
        One network per fold.
    array
        (channel, z, y, x) float32, prepared.
    tiling
        Tiles, mirroring, Gaussian or not.
    cancellation
        Looked at between tiles; None: never stopped.

    Returns
    -------
    ndarray
        (head, z, y, x) float16 on the grid of ``array``.

    Raises
    ------
    Interrupted
        If a stop was requested.
    """
    watch = cancellation or Cancellation()
    total: Tensor | None = None
    with torch.inference_mode():
        for network in ensemble.networks:
            logits = _one_fold(replace(ensemble, networks=(network,)), array, tiling, watch)
            total = logits if total is None else total.add_(logits)
        if total is None:
            return np.zeros((0, *array.shape[1:]), np.float16)
        if len(ensemble.networks) > 1:
            total /= len(ensemble.networks)
    result: NDArray[np.float16] = total.numpy()
    return result


def _one_fold(ensemble: Ensemble, array: NDArray[Any], tiling: Tiling, watch: Cancellation) -> Tensor:
    grid, flips = lay_tiles(array.shape[1:], tiling), flip_sets(tiling.mirror_axes)
    padded = [max(size, edge) for size, edge in zip(grid.shape, grid.patch, strict=True)]
    weight, sums = _weight(grid.patch, tiling), None
    counts = torch.zeros(padded, dtype=torch.half)
    for tile in grid:
        watch.check()
        batch = torch.from_numpy(cut_tile(array, grid, tile))[None]
        flat = batch.squeeze(2) if tiling.dims == 2 else batch
        # one flip at a time, as nnU-Net does; more at once would be summed in another order
        answer = mirrored_mean(ensemble, flat, flips, 1)[0].cpu().float()
        answer = answer.reshape(answer.shape[0], *grid.patch)
        if sums is None:
            sums = torch.zeros((answer.shape[0], *padded), dtype=torch.half)
        starts = [grid.starts[axis][i] for axis, i in enumerate(tile)]
        place = tuple(slice(start, start + edge) for start, edge in zip(starts, grid.patch, strict=True))
        sums[(slice(None), *place)] += answer * weight
        counts[place] += weight
    if sums is None:
        return torch.zeros((0, *grid.shape), dtype=torch.half)
    sums /= counts
    inside = tuple(slice(before, before + size) for before, size in zip(grid.before, grid.shape, strict=True))
    return sums[(slice(None), *inside)].clone()


def _weight(patch: tuple[int, ...], tiling: Tiling) -> Tensor:
    """Return the weights (z, y, x) of a tile in half precision, those that vanish there raised to the smallest."""
    if not tiling.gaussian:
        return torch.ones(patch, dtype=torch.half)
    planar = patch[3 - tiling.dims :]
    weights = torch.from_numpy(gaussian_weights(planar)).to(torch.half).reshape(patch)
    weights[weights == 0] = weights[weights > 0].min()
    return weights
