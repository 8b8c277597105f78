"""Networks whose answer is known without running anything."""

from __future__ import annotations

import torch
from torch import nn


class Constant(nn.Module):
    """Gives every voxel the same logits."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float32))

    def forward(self, x):
        shape = (1, -1, *[1] * (x.ndim - 2))
        return self.logits.view(shape).expand(len(x), -1, *x.shape[2:]).contiguous()


class Pointwise(nn.Module):
    """Linear in the channels of each voxel: the answer does not depend on the tile."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = nn.Parameter(torch.as_tensor(matrix, dtype=torch.float32))

    def forward(self, x):
        return torch.einsum("hc,bc...->bh...", self.matrix, x)


class Identity(nn.Module):
    """Hands back its own input, the very tensor."""

    def forward(self, x):
        return x


class Ramp(nn.Module):
    """Gives every voxel its index along one patch axis: the answer depends on where the tile lies."""

    def __init__(self, axis):
        super().__init__()
        self.axis = axis

    def forward(self, x):
        shape = [1] * x.ndim
        shape[self.axis + 2] = -1
        ramp = torch.arange(x.shape[self.axis + 2], dtype=x.dtype).view(shape)
        return ramp.expand_as(x[:, :1]).contiguous()


class Counting(nn.Module):
    """Hands on to another network and notes the shape of every batch."""

    def __init__(self, inner, *, most=None, error=None):
        super().__init__()
        self.inner = inner
        self.most = most
        self.error = error

    def forward(self, x):
        if self.most is not None and len(x) > self.most:
            raise self.error
        COUNTED.append(tuple(x.shape))
        return self.inner(x)


COUNTED: list[tuple[int, ...]] = []
"""Shapes that any `Counting` network saw; the engine works on twins, so the list is shared. Clear it before use."""


class DeepSupervised(nn.Module):
    """Answers with a list while deep supervision is on."""

    def __init__(self):
        super().__init__()
        self.deep_supervision = True

    def forward(self, x):
        return [x, x[..., ::2]] if self.deep_supervision else x
