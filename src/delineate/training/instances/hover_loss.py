"""What HoVer-Net is trained by: its loss, and its branches as one answer for the training loop.

References
----------
S. Graham et al., HoVer-Net, Med. Image Anal. 58 (2019); weights of the published program: all 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from delineate.masks.hover_decoding import hover_targets
from delineate.training.precision import Logits

DICE_SMOOTHING = 1e-3
GRADIENT_SIZE = 5
"""Side of the kernels of the gradient's error."""


class JoinedBranches(nn.Module):
    """HoVer-Net whose branches come as one tensor: nucleus or not (2), offsets (2), types."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, 4 + types, y, x) of images (B, 3, y, x) from 0 to 255."""
        answer = self.network(image)
        return torch.cat([answer[name] for name in ("np", "hv", "tp") if name in answer], 1)


def hover_target(instances: NDArray[Any], types: NDArray[np.int64] | None, answered: int) -> Tensor:
    """Return what is to be learnt of a patch: (4, y, x) nucleus, offset along x and y, type; of its middle only.

    Offsets are those of the whole patch, so that nuclei which the middle cuts keep their centres.

    Parameters
    ----------
    instances
        (y, x), 0 background.
    types
        By instance number; None: no types.
    answered
        Side of the middle, in pixels.
    """
    offsets = hover_targets(instances)
    kinds = np.zeros(instances.shape, dtype=np.float32) if types is None else types[instances].astype(np.float32)
    whole = np.concatenate([(instances > 0)[None].astype(np.float32), offsets, kinds[None]])
    top, left = ((size - answered) // 2 for size in instances.shape)
    return torch.from_numpy(np.ascontiguousarray(whole[:, top : top + answered, left : left + answered]))


@dataclass(frozen=True, kw_only=True, slots=True)
class HoverLoss:
    """Cross-entropy and Dice of nucleus and type; squared error of the offsets and of their gradients in nuclei."""

    types: int = 0
    """Kinds with the background, as HoVer-Net counts them; 0: no types."""

    def __call__(self, logits: Logits, targets: Tensor) -> Tensor:
        """Return the loss.

        Parameters
        ----------
        logits
            (B, 4 + types, y, x), see :class:`JoinedBranches`.
        targets
            (B, 4, y, x), see :func:`hover_target`.
        """
        answer = (logits if isinstance(logits, Tensor) else logits[0]).float()
        nucleus = targets[:, 0].long()
        loss = _entropy_and_dice(answer[:, :2], nucleus)
        loss = loss + functional.mse_loss(answer[:, 2:4], targets[:, 1:3])
        loss = loss + gradient_error(answer[:, 2:4], targets[:, 1:3], nucleus)
        if self.types:
            loss = loss + _entropy_and_dice(answer[:, 4:], targets[:, 3].long())
        return loss


def gradient_error(offsets: Tensor, targets: Tensor, nucleus: Tensor) -> Tensor:
    """Return the mean squared error, inside nuclei, of the offsets' slopes: of the first along x, the second along y.

    Parameters
    ----------
    offsets, targets
        (B, 2, y, x).
    nucleus
        (B, y, x): 1 inside.
    """
    inside = nucleus[:, None].to(offsets.dtype).expand_as(offsets)
    difference = _slopes(offsets) - _slopes(targets)
    return (inside * difference.square()).sum() / (inside.sum() + 1e-8)


def _slopes(offsets: Tensor) -> Tensor:
    reach = GRADIENT_SIZE // 2
    along = torch.arange(-reach, reach + 1, dtype=offsets.dtype, device=offsets.device)
    v, h = torch.meshgrid(along, along, indexing="ij")
    square = h**2 + v**2 + 1e-15
    kernels = torch.stack([h / square, v / square])[:, None]
    return functional.conv2d(offsets, kernels, padding=reach, groups=2)


def _entropy_and_dice(logits: Tensor, target: Tensor) -> Tensor:
    entropy = functional.cross_entropy(logits, target)
    probability = torch.softmax(logits, 1)
    truth = functional.one_hot(target, logits.shape[1]).permute(0, 3, 1, 2).to(probability.dtype)
    common, total = (probability * truth).sum((0, 2, 3)), probability.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    dice = 1 - (2 * common + DICE_SMOOTHING) / (total + DICE_SMOOTHING)
    return entropy + dice.sum()
