"""The losses of JPEG, on any device: blocks of eight by eight pixels lose the fine part of their cosine transform.

What is lost is what ITU-T T.81 loses with the tables of its annex K, scaled by quality as libjpeg does; the colours
have half the resolution. No file is made.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 8
LUMINANCE, CHROMINANCE = 0, 1
TABLES = torch.tensor(
    [
        [
            [16, 11, 10, 16, 24, 40, 51, 61],
            [12, 12, 14, 19, 26, 58, 60, 55],
            [14, 13, 16, 24, 40, 57, 69, 56],
            [14, 17, 22, 29, 51, 87, 80, 62],
            [18, 22, 37, 56, 68, 109, 103, 77],
            [24, 35, 55, 64, 81, 104, 113, 92],
            [49, 64, 78, 87, 103, 121, 120, 101],
            [72, 92, 95, 98, 112, 100, 103, 99],
        ],
        [
            [17, 18, 24, 47, 99, 99, 99, 99],
            [18, 21, 26, 66, 99, 99, 99, 99],
            [24, 26, 56, 99, 99, 99, 99, 99],
            [47, 66, 99, 99, 99, 99, 99, 99],
            *[[99] * 8 for _ in range(4)],
        ],
    ],
    dtype=torch.float32,
)
"""(plane, frequency along y, along x) steps at quality 50."""
TO_YCC = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], dtype=torch.float32
)
"""(luminance and two colours, RGB); the colours are about 0."""
COSINES = torch.tensor(
    [
        [
            math.sqrt((1 if frequency == 0 else 2) / BLOCK) * math.cos((2 * place + 1) * frequency * math.pi / 16)
            for place in range(BLOCK)
        ]
        for frequency in range(BLOCK)
    ],
    dtype=torch.float32,
)
"""(frequency, place) orthonormal."""


def compress(images: Tensor, quality: Tensor) -> Tensor:
    """Return images as they are after JPEG.

    Parameters
    ----------
    images
        (B, 3, y, x) float32 in [0, 1].
    quality
        (B,) from 1 to 100.
    """
    rows, columns = images.shape[2:]
    edge = 2 * BLOCK
    padded = functional.pad(images, (0, -columns % edge, 0, -rows % edge), mode="replicate")
    to_ycc, to_rgb, _, _ = _on(images.device)
    ycc = torch.einsum("kc,bcyx->bkyx", to_ycc, padded * 255)
    bright = _quantised(ycc[:, :1] - 128, LUMINANCE, quality) + 128
    colours = _quantised(functional.avg_pool2d(ycc[:, 1:], 2), CHROMINANCE, quality)
    restored = torch.cat([bright, colours.repeat_interleave(2, 2).repeat_interleave(2, 3)], 1)
    rgb = torch.einsum("ck,bkyx->bcyx", to_rgb, restored)
    return (rgb / 255).clamp(0, 1)[:, :, :rows, :columns]


def _quantised(planes: Tensor, table: int, quality: Tensor) -> Tensor:
    """Return planes (B, C, y, x) after the cosine transform of every block was rounded to steps."""
    _, _, cosines, tables = _on(planes.device)
    blocks = planes.reshape(*planes.shape[:2], -1, BLOCK, planes.shape[3] // BLOCK, BLOCK)
    frequencies = torch.einsum("fp,gq,bcypxq->bcyfxg", cosines, cosines, blocks)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    steps = tables[table] * scale[:, None, None]
    steps = (steps + 0.5).floor().clamp(1, 255)[:, None, None, :, None, :]
    rounded = (frequencies / steps).round() * steps
    return torch.einsum("fp,gq,bcyfxg->bcypxq", cosines, cosines, rounded).reshape(planes.shape)


@cache
def _on(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the constants on a device: a copy at every call would make a GPU wait."""
    return TO_YCC.to(device), torch.linalg.inv(TO_YCC).to(device), COSINES.to(device), TABLES.to(device)
