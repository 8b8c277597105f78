"""Changes of place: central crop, rotation, scaling, mirroring. Images (B, C, *p) float32, labels (B, *p) integer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

OUTSIDE_LABEL = -1
"""Label of voxels beyond the image; the loss takes negative labels as background."""
BLOCK_VALUES = 1 << 26
"""Most interpolated indicator values at a time, to bound memory with many labels."""


def centre_crop(volume: Tensor, size: tuple[int, ...], fill: float) -> Tensor:
    """Return a copy of the centre of (..., *p), padded with ``fill`` where it is smaller than ``size``."""
    leading = volume.shape[: volume.ndim - len(size)]
    present = volume.shape[len(leading) :]
    source, place = zip(*(_overlap(have, want) for have, want in zip(present, size, strict=True)), strict=True)
    if present == size:
        return volume.clone(memory_format=torch.contiguous_format)
    covered = all(have >= want for have, want in zip(present, size, strict=True))
    shape = (*leading, *size)
    result = volume.new_empty(shape) if covered else volume.new_full(shape, fill)
    result[(..., *place)] = volume[(..., *source)]
    return result


def _overlap(have: int, want: int) -> tuple[slice, slice]:
    """Return what to read and where to write it along an axis; the centres ``have // 2`` and ``want // 2`` meet."""
    first = have // 2 - want // 2
    length = min(have, first + want) - max(first, 0)
    return slice(max(first, 0), max(first, 0) + length), slice(max(-first, 0), max(-first, 0) + length)


def outside_value(labels: Tensor) -> int:
    """Return the label for voxels beyond the image: -1, or 0 where the dtype has no negative numbers."""
    return OUTSIDE_LABEL if labels.dtype.is_signed else 0


def warp(
    images: Tensor, labels: Tensor, matrices: Tensor, size: tuple[int, ...], *, linear_labels: bool
) -> tuple[Tensor, Tensor]:
    """Resample images and labels so that output voxel ``v`` shows input place ``matrix @ v``, both about their centres.

    Parameters
    ----------
    images
        (n, C, *p) float32, bilinear, 0 beyond.
    labels
        (n, *p) integer, -1 beyond (0 for unsigned).
    matrices
        (n, d, d) in voxels, array axis order. With volumes and d = 2, axis 0 is only cropped or padded.
    size
        Output voxels per axis.
    linear_labels
        The label with the largest linear indicator instead of the nearest one.

    Returns
    -------
    tuple
        Images (n, C, *size) and labels (n, *size).
    """
    return warp_images(images, matrices, size), warp_labels(labels, matrices, size, linear=linear_labels)


def warp_images(images: Tensor, matrices: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resample images alone; see :func:`warp`."""
    fixed = len(size) - matrices.shape[-1]
    if fixed:
        images = centre_crop(images, (*size[:fixed], *images.shape[3:]), 0)
    grid = _sampling_grid(matrices.to(images), tuple(images.shape[2 + fixed :]), size[fixed:])
    return _sample(images.flatten(1, 1 + fixed), grid, "bilinear").view(len(images), images.shape[1], *size)


def warp_labels(labels: Tensor, matrices: Tensor, size: tuple[int, ...], *, linear: bool) -> Tensor:
    """Resample labels alone; see :func:`warp`."""
    fixed = len(size) - matrices.shape[-1]
    if fixed:
        labels = centre_crop(labels, (*size[:fixed], *labels.shape[2:]), outside_value(labels))
    places = matrices.to(labels.device, torch.float32)
    grid = _sampling_grid(places, tuple(labels.shape[1 + fixed :]), size[fixed:])
    pick = _linear_labels if linear else _nearest_labels
    return pick(labels.unsqueeze(1).flatten(1, 1 + fixed), grid).view(len(labels), *size)


def mirror(volume: Tensor, flips: Tensor) -> Tensor:
    """Flip the last axes of each sample of (B, ..., *p) as (B, dims) bool says; overwrites ``volume``."""
    dims = flips.shape[1]
    patterns: dict[tuple[int, ...], list[int]] = {}
    for sample, row in enumerate(flips.tolist()):
        axes = tuple(axis - dims for axis, flipped in enumerate(row) if flipped)
        patterns.setdefault(axes, []).append(sample)
    for axes, samples in patterns.items():
        if axes:
            index = torch.tensor(samples, device=volume.device)
            volume[index] = volume[index].flip(axes)
    return volume


def blank_outside(images: Tensor, labels: Tensor, channels: tuple[int, ...]) -> Tensor:
    """Return images (B, C, *p) with 0 in the given channels wherever labels (B, *p) are negative.

    For channels that are normalised within the nonzero mask (nnU-Net's ``use_mask_for_norm``).
    """
    if not channels:
        return images
    outside = (labels < 0).unsqueeze(1)
    chosen = torch.zeros(images.shape[1], dtype=torch.bool, device=images.device)
    chosen[list(channels)] = True
    return images.masked_fill(outside & chosen.view(1, -1, *[1] * (images.ndim - 2)), 0)


def outside_to_background(labels: Tensor) -> Tensor:
    """Return labels (B, *p) with 0 instead of negative values."""
    return labels.clamp(min=0)


def _sampling_grid(matrices: Tensor, source: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """Return the (n, *size, d) grid of ``grid_sample`` (coordinates from -1 to 1, last axis first)."""
    to_unit = torch.tensor([[want / have for want in size] for have in source]).to(matrices)
    theta = (matrices * to_unit).flip(1, 2)
    theta = torch.cat([theta, theta.new_zeros((len(theta), len(size), 1))], 2)
    return functional.affine_grid(theta, [len(theta), 1, *size], align_corners=False)


def _sample(volume: Tensor, grid: Tensor, mode: str) -> Tensor:
    """Return ``grid_sample`` with zeros beyond the border: (n, C, *p) at (n, *size, d) -> (n, C, *size).

    torch gives the samples to the cores of a CPU; for volumes each output plane is made a sample, so that all work.
    """
    if volume.device.type != "cpu" or volume.ndim != 5:
        return functional.grid_sample(volume, grid, mode=mode, align_corners=False)
    planes = [
        functional.grid_sample(
            one.expand(len(places), *one.shape), places.unsqueeze(1), mode=mode, align_corners=False
        ).transpose(0, 2)[0]
        for one, places in zip(volume, grid, strict=True)
    ]
    return torch.stack(planes).contiguous()


def _nearest_labels(labels: Tensor, grid: Tensor) -> Tensor:
    """Return the nearest of labels (n, C, *p) at the places of the grid, in their dtype."""
    beyond = outside_value(labels)
    shifted = labels.to(grid.dtype) - beyond  # grid_sample pads with 0
    return _sample(shifted, grid, "nearest").add_(beyond).to(labels.dtype)


def _linear_labels(labels: Tensor, grid: Tensor) -> Tensor:
    """Return, at each place, the label of (n, C, *p) with the largest linearly interpolated indicator.

    The indicators sum to 1, so the score of the lowest label, which is also the padding, is what the others leave.
    Ties go to the lower label.
    """
    lowest, *others = _present(labels)
    n, planes = labels.shape[:2]
    shape = (n, planes, *grid.shape[1:-1])
    best, rest = grid.new_zeros(shape), grid.new_ones(shape)
    result = labels.new_full(shape, lowest)
    block = max(1, BLOCK_VALUES // max(labels.numel(), rest.numel()))
    for first in range(0, len(others), block):
        values = others[first : first + block]
        indicators = torch.stack([labels == value for value in values], 1).flatten(1, 2).to(grid.dtype)
        scores = _sample(indicators, grid, "bilinear").view(n, len(values), planes, *shape[2:])
        for score, value in zip(scores.unbind(1), values, strict=True):
            result.masked_fill_(score > best, value)
            torch.maximum(best, score, out=best)
            rest.sub_(score)
    return result.masked_fill_(rest >= best, lowest)


def _present(labels: Tensor) -> list[int]:
    """Return the values that occur, ascending, with the padding value as the first."""
    beyond = outside_value(labels)
    counts = torch.bincount((labels.flatten().to(torch.int32) - beyond).clamp_(min=0))
    found = [int(value) + beyond for value in counts.nonzero()[:, 0].tolist()]
    return [beyond, *(value for value in found if value != beyond)]
