"""The previous stage of a cascade as input channels, and its random faults.

A network that is trained on perfect label maps of the first stage would trust them; so they are disturbed: shapes grow,
shrink, close or open, and small components vanish. Probabilities and sizes are nnU-Net's, the order of channels is
random as there. Structuring elements are exact balls: distances are compared with the radius, which costs the same for
every radius, where nnU-Net convolves with a drawn ball.

References
----------
nnU-Net 2.8.1, ``nnUNetTrainer.get_training_transforms``; batchgeneratorsv2, ``ApplyRandomBinaryOperatorTransform`` and
``RemoveRandomConnectedComponentFromOneHotEncodingTransform``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from delineate.masks import label_components
from delineate.training.augment.policy import PreviousStage

Mask = NDArray[np.bool_]


def one_hot(labels: Tensor, values: Sequence[int]) -> Tensor:
    """Return labels (B, *p) as channels (B, len(values), *p) float32, 1 where the label is the channel's value."""
    return torch.stack([labels == value for value in values], 1).float()


def disturb(channels: Tensor, policy: PreviousStage, generator: torch.Generator, *, first: int = 0) -> Tensor:
    """Return one-hot channels with random faults.

    Every sample consumes the same number of random numbers whatever happens to it.

    Parameters
    ----------
    channels
        (B, L, *p) float32 of zeros and ones, from :func:`one_hot`.
    policy
        How often and how strongly.
    generator
        Source of all randomness.
    first
        Number of the first sample within a larger batch: what chance decided for the samples before it is passed over.
    """
    samples, count = channels.shape[:2]
    shape = (first + samples, 2 + 7 * count)
    draws = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)[first:]
    result = channels.clone()
    for sample, row in enumerate(draws.cpu().numpy()):
        gates, table = row[:2], row[2:].reshape(7, count)
        if gates[0] >= policy.shape_probability and gates[1] >= policy.removal_probability:
            continue
        masks = result[sample].cpu().numpy() > 0
        if gates[0] < policy.shape_probability:
            _change_shapes(masks, policy, table[:4])
        if gates[1] < policy.removal_probability:
            _remove_components(masks, policy, table[4:])
        result[sample] = torch.from_numpy(masks).to(result)
    return result


def _change_shapes(masks: Mask, policy: PreviousStage, table: NDArray[np.float64]) -> None:
    """Change some channels (L, *p) in place; voxels that a channel gains are taken from the others."""
    order, gate, operation, radius = table
    for channel in np.argsort(order, kind="stable"):
        if gate[channel] >= policy.channel_probability:
            continue
        low, high = policy.radius_voxels
        change = OPERATIONS[int(operation[channel] * len(OPERATIONS))]
        changed = _near(masks[channel], low + (high - low) * radius[channel], change)
        masks[:, changed & ~masks[channel]] = False
        masks[channel] = changed


def _remove_components(masks: Mask, policy: PreviousStage, table: NDArray[np.float64]) -> None:
    """Empty one small component of some channels (L, *p) in place."""
    order, gate, pick = table
    for channel in np.argsort(order, kind="stable"):
        if gate[channel] >= policy.channel_probability:
            continue
        numbered, sizes = label_components(masks[channel])
        small = np.flatnonzero(sizes < policy.largest_share * masks[channel].size)
        if small.size:
            masks[channel][numbered == 1 + small[int(pick[channel] * small.size)]] = False


def dilate(mask: Mask, radius: float) -> Mask:
    """Return all voxels at most ``radius`` voxels from the mask."""
    if not mask.any():
        return mask
    return np.asarray(ndimage.distance_transform_edt(~mask) <= radius)


def erode(mask: Mask, radius: float) -> Mask:
    """Return the voxels that are more than ``radius`` voxels from all that is not mask; the border does not count."""
    return ~dilate(~mask, radius)


def close(mask: Mask, radius: float) -> Mask:
    """Return the mask dilated, then eroded."""
    return erode(dilate(mask, radius), radius)


def open_(mask: Mask, radius: float) -> Mask:
    """Return the mask eroded, then dilated."""
    return dilate(erode(mask, radius), radius)


OPERATIONS: tuple[Callable[[Mask, float], Mask], ...] = (dilate, erode, close, open_)


def _near(mask: Mask, radius: float, change: Callable[[Mask, float], Mask]) -> Mask:
    """Apply an operation where it can have an effect: the box of the mask and twice the radius around it."""
    if not mask.any():
        return mask
    box = ndimage.find_objects(mask.view(np.uint8))[0]
    margin = 2 * math.ceil(radius) + 2
    region = tuple(
        slice(max(0, part.start - margin), min(size, part.stop + margin))
        for part, size in zip(box, mask.shape, strict=True)
    )
    result = mask.copy()
    result[region] = change(np.ascontiguousarray(mask[region]), radius)
    return result
