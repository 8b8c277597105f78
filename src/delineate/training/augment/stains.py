"""Changes of colour that make few stains many: images (y, x, 3) float32 in [0, 1].

Light that passes a stained slide is absorbed: optical density, minus the logarithm of the intensity, is the sum over
stains of concentration times colour. Stains are therefore changed there. A fluorescence image, bright on dark, becomes
a stained one when its intensity is taken for the concentration of a stain.

References
----------
A. Ruifrok, D. Johnston, Quantification of histochemical staining by color deconvolution, 2001 (colours of the stains);
D. Tellez et al., Quantifying the effects of data augmentation and stain color normalization, 2019 (jitter of stains).
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Picture = NDArray[np.float32]

HAEMATOXYLIN = np.array([0.650, 0.704, 0.286])
EOSIN = np.array([0.072, 0.990, 0.105])
DAB = np.array([0.268, 0.570, 0.776])
STAINS = np.stack([v / np.linalg.norm(v) for v in (HAEMATOXYLIN, EOSIN, DAB)])
"""(stain, RGB) optical densities of unit length."""
UNSTAIN = np.linalg.inv(STAINS)
DARKEST = 1 / 255
"""Intensities are not taken below this before the logarithm."""


def optical_density(picture: Picture) -> Picture:
    """Return minus the natural logarithm of the intensity."""
    density: Picture = -np.log(np.maximum(picture, DARKEST)).astype(np.float32)
    return density


def jitter_stains(picture: Picture, generator: np.random.Generator, *, scale: float, shift: float) -> Picture:
    """Scale and shift the concentration of each stain by normal deviates."""
    factors = 1 + scale * generator.standard_normal(3)
    offsets = shift * generator.standard_normal(3)
    matrix = UNSTAIN @ np.diag(factors) @ STAINS
    return _absorbed(optical_density(picture) @ matrix.astype(np.float32) + (offsets @ STAINS).astype(np.float32))


def change_palette(picture: Picture, generator: np.random.Generator) -> Picture:
    """Give the densities random means and deviations, as a slide of another laboratory has them."""
    density = optical_density(picture)
    mean, deviation = density.mean(axis=(0, 1)), density.std(axis=(0, 1)) + 1e-3
    wanted_mean = mean * generator.uniform(0.5, 1.6, 3)
    wanted_deviation = deviation.mean() * generator.uniform(0.6, 1.6) * generator.uniform(0.7, 1.3, 3)
    changed = (density - mean) * (wanted_deviation / deviation) + wanted_mean
    return _absorbed(changed.astype(np.float32))


def stain_fluorescence(picture: Picture, generator: np.random.Generator) -> Picture:
    """Turn bright on dark into dark on bright: nuclei in a blue to purple stain over a faint second one."""
    grey = picture.mean(axis=2)
    nuclear = HAEMATOXYLIN + 0.25 * generator.standard_normal(3)
    other = EOSIN + 0.25 * generator.standard_normal(3)
    tissue = ndimage.gaussian_filter(generator.standard_normal([-(-s // 8) for s in grey.shape]), 1.0)
    tissue = np.kron(tissue, np.ones((8, 8)))[: grey.shape[0], : grey.shape[1]]
    concentration = generator.uniform(0.8, 2.2) * grey ** generator.uniform(0.6, 1.4)
    faint = np.clip(generator.uniform(0.1, 0.6) * (0.6 + tissue), 0, None)
    density = concentration[..., None] * np.abs(nuclear) + faint[..., None] * np.abs(other)
    return _absorbed((density + generator.uniform(0.0, 0.15)).astype(np.float32))


def to_grey(picture: Picture) -> Picture:
    """Return the mean of the colours three times."""
    return np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)


def change_tone(picture: Picture, generator: np.random.Generator) -> Picture:
    """Change brightness, contrast and gamma, of the colours together."""
    gamma = np.exp(generator.uniform(-0.4, 0.4))
    middle = float(picture.mean())
    contrast, brightness = generator.uniform(0.7, 1.3), generator.uniform(-0.12, 0.12)
    toned = (np.clip(picture, 0, 1) ** gamma - middle) * contrast + middle + brightness
    clipped: Picture = np.clip(toned, 0, 1).astype(np.float32)
    return clipped


def blur(picture: Picture, sigma: float) -> Picture:
    """Blur by a Gaussian of ``sigma`` pixels."""
    blurred: Picture = ndimage.gaussian_filter(picture, (sigma, sigma, 0))
    return blurred


def compress(picture: Picture, quality: int) -> Picture:
    """Save as JPEG of a quality from 1 to 95 and read again."""
    stream = io.BytesIO()
    Image.fromarray((picture * 255 + 0.5).astype(np.uint8)).save(stream, "JPEG", quality=quality)
    read: Picture = np.asarray(Image.open(stream), dtype=np.float32) / np.float32(255)
    return read


def add_noise(picture: Picture, generator: np.random.Generator, sigma: float) -> Picture:
    """Add normal noise."""
    noisy = picture + sigma * generator.standard_normal(picture.shape, dtype=np.float32)
    return np.clip(noisy, 0, 1)


def _absorbed(density: Picture) -> Picture:
    picture: Picture = np.clip(np.exp(-density), 0, 1).astype(np.float32)
    return picture
