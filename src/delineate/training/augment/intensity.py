"""Changes of intensity, one channel at a time.

All functions take rows (n, *patch) float32 with one parameter per row and return rows; they may overwrite their input.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-7
"""Least range and least standard deviation to divide by (nnU-Net)."""


def add_noise(rows: Tensor, deviation: float, seed: int) -> Tensor:
    """Add white Gaussian noise of one standard deviation to rows (n, *patch), drawn on their device from ``seed``."""
    generator = torch.Generator(rows.device).manual_seed(seed)
    noise = torch.randn(rows.shape, generator=generator, device=rows.device, dtype=rows.dtype)
    return rows.add_(noise, alpha=deviation)


def scale_brightness(rows: Tensor, factor: Tensor) -> Tensor:
    """Multiply rows (n, *patch) by factors (n,)."""
    return rows.mul_(_per_row(factor, rows))


def stretch_contrast(rows: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distance of rows (n, *patch) from their mean by factors (n,), within their old range."""
    flat = rows.flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    mean = flat.mean(1, keepdim=True)
    flat = flat.sub_(mean).mul_(factor[:, None]).add_(mean)
    return torch.minimum(torch.maximum(flat, low, out=flat), high, out=flat).view(rows.shape)


def warp_gamma(rows: Tensor, exponent: Tensor, *, inverted: bool) -> Tensor:
    """Raise rows (n, *patch), scaled to [0, 1], to powers (n,), and give them back their mean and deviation.

    ``inverted`` works on the negative. A constant row stays as it is, up to rounding.
    """
    flat = rows.flatten(1)
    if inverted:
        flat = flat.neg_()
    mean, deviation = _statistics(flat)
    low = flat.amin(1, keepdim=True)
    span = flat.amax(1, keepdim=True) - low
    flat = flat.sub_(low).div_(span.clamp(min=EPSILON)).pow_(exponent[:, None]).mul_(span).add_(low)
    new_mean, new_deviation = _statistics(flat)
    flat = flat.sub_(new_mean).mul_(deviation / new_deviation.clamp_(min=EPSILON)).add_(mean)
    return (flat.neg_() if inverted else flat).view(rows.shape)


def _statistics(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and (unbiased) standard deviation (n, 1) of rows (n, V)."""
    mean = flat.mean(1, keepdim=True)
    centred = flat - mean
    variance = centred.mul_(centred).sum(1, keepdim=True).div_(max(flat.shape[1] - 1, 1))
    return mean, variance.sqrt_()


def _per_row(values: Tensor, rows: Tensor) -> Tensor:
    return values.view(-1, *[1] * (rows.ndim - 1))
