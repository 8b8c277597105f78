"""Changes of resolution: Gaussian blur and simulated coarse acquisition.

Both are linear and separable, so each is one small matrix per axis; a matrix product with a whole axis is faster than a
convolution at patch sizes, on CPU and GPU alike, and takes a different width for every row. Rows are (n, *patch),
float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

BLUR_TRUNCATE = 6.0
"""Length of the blur kernel in standard deviations (nnU-Net)."""


def blur(rows: Tensor, sigma_voxels: Tensor) -> Tensor:
    """Blur rows (n, *patch) by Gaussians of (n, dims) standard deviations, mirrored at the borders."""
    sizes = rows.shape[1:]
    return _along_axes(rows, [_blur_matrices(size, sigma_voxels[:, axis]) for axis, size in enumerate(sizes)])


def lower_resolution(rows: Tensor, zoom: Tensor, *, in_plane: bool = False) -> Tensor:
    """Shrink rows (n, *patch) to the (n,) zooms by nearest voxels and enlarge them again linearly.

    ``in_plane`` leaves axis 0 alone.
    """
    sizes = rows.shape[1:]
    matrices = [None if in_plane and axis == 0 else _coarse_matrices(size, zoom) for axis, size in enumerate(sizes)]
    return _along_axes(rows, matrices)


def _along_axes(rows: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """Multiply each spatial axis of rows (n, *patch) by its matrices (n, size, size)."""
    n, *sizes = rows.shape
    for axis, matrix in enumerate(matrices):
        if matrix is None:
            continue
        matrix = matrix.to(rows)
        if axis == len(sizes) - 1:
            rows = torch.bmm(rows.reshape(n, -1, sizes[axis]), matrix.mT)
        else:
            rows = matrix[:, None] @ rows.reshape(n, math.prod(sizes[:axis]), sizes[axis], -1)
    return rows.reshape(n, *sizes)


def _blur_matrices(size: int, sigma: Tensor) -> Tensor:
    """Return the (n, size, size) matrices that blur an axis by each of the (n,) widths."""
    halves = torch.tensor([_half_width(float(s)) for s in sigma])
    reach = int(halves.max())
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma[:, None]).square()) * (offsets.abs() <= halves[:, None])
    weights /= weights.sum(1, keepdim=True)
    matrices: Tensor = torch.tensordot(weights, _shifts(size, reach), 1)
    return matrices


def _half_width(sigma: float) -> int:
    """Return the number of taps on each side; in all there is the odd number nearest to 6 sigma + 0.5 (nnU-Net)."""
    wanted = sigma * BLUR_TRUNCATE + 0.5
    taps = round(wanted)
    if taps % 2 == 0:
        taps += 1 if wanted >= taps else -1
    return max(taps // 2, 0)


@lru_cache(maxsize=64)
def _shifts(size: int, reach: int) -> Tensor:
    """Return (2 reach + 1, size, size) matrices that shift an axis by -reach to reach voxels, mirrored at its ends."""
    places = torch.arange(size) + torch.arange(-reach, reach + 1)[:, None]
    period = max(2 * (size - 1), 1)
    places = places.remainder(period)
    places = torch.minimum(places, period - places) if size > 1 else torch.zeros_like(places)
    return torch.nn.functional.one_hot(places, size).to(torch.float64)


def _coarse_matrices(size: int, zoom: Tensor) -> Tensor:
    """Return the (n, size, size) matrices that shrink an axis to ``round(zoom * size)`` voxels and enlarge it again.

    Positions are computed in float32, as torch's ``interpolate`` does, so that ties fall alike.
    """
    coarse = torch.tensor([max(round(size * z), 1) for z in zoom.to(torch.float32).tolist()], dtype=torch.float32)[
        :, None
    ]
    place = ((torch.arange(size) + 0.5) * (coarse / size) - 0.5).clamp_(min=0)
    low = torch.minimum(place.floor(), coarse - 1)
    share = place - low
    matrices = torch.zeros(len(zoom), size, size)
    for neighbour, weight in ((low, 1 - share), (torch.minimum(low + 1, coarse - 1), share)):
        source = ((neighbour + 0.5) * (size / coarse)).floor_().clamp_(max=size - 1).long()
        matrices.scatter_add_(2, source[..., None], weight[..., None])
    return matrices
