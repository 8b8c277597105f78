"""Changes of colour that make few stains many: batches (B, 3, y, x) float32 in [0, 1], on any device.

Light that passes a stained slide is absorbed: optical density, minus the logarithm of the intensity, is the sum over
stains of concentration times colour. Stains are therefore changed there. A fluorescence image, bright on dark, becomes
a stained one when its intensity is taken for the concentration of a stain.

Nothing here draws a number: what is random is passed in, one value (B,) or one per colour (B, 3) for every image.

References
----------
A. Ruifrok, D. Johnston, Quantification of histochemical staining by color deconvolution, 2001 (colours of the stains);
D. Tellez et al., Quantifying the effects of data augmentation and stain color normalization, 2019 (jitter of stains).
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

HAEMATOXYLIN = (0.650, 0.704, 0.286)
EOSIN = (0.072, 0.990, 0.105)
DAB = (0.268, 0.570, 0.776)
STAINS = functional.normalize(torch.tensor([HAEMATOXYLIN, EOSIN, DAB], dtype=torch.float32), dim=1)
"""(stain, RGB) optical densities of unit length."""
UNSTAIN = torch.linalg.inv(STAINS)
DARKEST = 1 / 255
"""Intensities are not taken below this before the logarithm."""
TISSUE_CELL = 8
"""Pixels per side of a cell of the random field that stands for tissue around fluorescent nuclei."""


def optical_density(images: Tensor) -> Tensor:
    """Return minus the natural logarithm of the intensity."""
    return -images.clamp(min=DARKEST).log()


def jitter_stains(images: Tensor, factors: Tensor, offsets: Tensor) -> Tensor:
    """Scale the concentration of each stain (B, 3) and add to it (B, 3)."""
    stains, unstain, _ = _on(images.device)
    mixed = unstain @ torch.diag_embed(factors) @ stains
    density = torch.einsum("bcyx,bcd->bdyx", optical_density(images), mixed)
    return _absorbed(density + _spread(offsets @ stains))


def change_palette(images: Tensor, means: Tensor, spread: Tensor, spreads: Tensor) -> Tensor:
    """Give the densities other means and deviations, as a slide of another laboratory has them.

    Parameters
    ----------
    images
        (B, 3, y, x).
    means, spreads
        (B, 3): factors of the mean density, and of the deviations relative to each other.
    spread
        (B,): factor of the mean deviation of the three colours, which all of them get.
    """
    density = optical_density(images)
    mean = density.mean(dim=(2, 3), keepdim=True)
    deviation = density.std(dim=(2, 3), keepdim=True, correction=0) + 1e-3
    wanted = deviation.mean(dim=1, keepdim=True) * _spread(spread[:, None] * spreads)
    return _absorbed((density - mean) * (wanted / deviation) + mean * _spread(means))


def stain_fluorescence(images: Tensor, colours: tuple[Tensor, Tensor], strength: Tensor, tissue: Tensor) -> Tensor:
    """Turn bright on dark into dark on bright: nuclei in a blue to purple stain over a faint second one.

    Parameters
    ----------
    images
        (B, 3, y, x).
    colours
        (B, 3) each: what is added to the densities of haematoxylin, and of eosin.
    strength
        (B, 4): density of the brightest nucleus, exponent of the intensity, densities of the tissue and of all.
    tissue
        (B, 1, ceil(y / 8), ceil(x / 8)) normal deviates.
    """
    rows, columns = images.shape[2:]
    nuclear, other = ((stain + change).abs() for stain, change in zip(_on(images.device)[2], colours, strict=True))
    density, exponent, around, everywhere = (_spread(values) for values in strength.unbind(1))
    field = blur(tissue, torch.ones_like(strength[:, 0]), widest=1.0)
    field = field.repeat_interleave(TISSUE_CELL, 2).repeat_interleave(TISSUE_CELL, 3)[:, :, :rows, :columns]
    concentration = density * images.mean(dim=1, keepdim=True).pow(exponent)
    faint = (around * (0.6 + field)).clamp(min=0)
    return _absorbed(concentration * _spread(nuclear) + faint * _spread(other) + everywhere)


def to_grey(images: Tensor) -> Tensor:
    """Return the mean of the colours three times."""
    return images.mean(dim=1, keepdim=True).expand_as(images)


def change_tone(images: Tensor, gamma: Tensor, contrast: Tensor, brightness: Tensor) -> Tensor:
    """Change gamma, contrast about the mean, and brightness, (B,) each, of the colours together."""
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    toned = (images.clamp(0, 1).pow(_spread(gamma)) - middle) * _spread(contrast) + middle + _spread(brightness)
    return toned.clamp(0, 1)


def blur(images: Tensor, sigma: Tensor, *, widest: float) -> Tensor:
    """Blur each image (B, C, y, x) by a Gaussian of its own ``sigma`` (B,) pixels, none above ``widest``.

    The border is mirrored.
    """
    count, channels, rows, columns = images.shape
    radius = min(max(1, int(4 * widest + 0.5)), rows - 1, columns - 1)
    steps = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.softmax(-0.5 * (steps / sigma[:, None]) ** 2, dim=1).repeat_interleave(channels, 0)
    flat = functional.pad(images, (radius,) * 4, mode="reflect").reshape(1, count * channels, rows + 2 * radius, -1)
    down = functional.conv2d(flat, kernel[:, None, :, None], groups=count * channels)
    across = functional.conv2d(down, kernel[:, None, None, :], groups=count * channels)
    return across.reshape(count, channels, rows, columns)


def add_noise(images: Tensor, sigma: Tensor, deviates: Tensor) -> Tensor:
    """Add normal ``deviates`` (B, 3, y, x) times ``sigma`` (B,)."""
    return (images + _spread(sigma) * deviates).clamp(0, 1)


@cache
def _on(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return stains, their inverse, and raw haematoxylin and eosin on a device: a copy would make a GPU wait."""
    return STAINS.to(device), UNSTAIN.to(device), torch.tensor([HAEMATOXYLIN, EOSIN], device=device)


def _absorbed(density: Tensor) -> Tensor:
    return (-density).exp().clamp(0, 1)


def _spread(values: Tensor) -> Tensor:
    """Return values (B,) or (B, C) as (B, 1 or C, 1, 1)."""
    return values.reshape(len(values), -1, 1, 1)
