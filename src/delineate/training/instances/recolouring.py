"""Which colours, tones and sharpness each crop of a batch gets: drawn on the computer, applied on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from delineate.training.augment import stains
from delineate.training.augment.jpeg import compress
from delineate.training.batches import there

Numbers = NDArray[np.float64]
Chosen = NDArray[np.bool_]
WIDEST_BLUR = 1.2
"""Pixels."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Recolouring:
    """What is done to every crop, in this order: who gets it (B,), and the values (B,) or (B, 3) for those who do."""

    stained: Chosen
    """Fluorescence that becomes stained tissue."""
    nuclear: Numbers
    other: Numbers
    strength: Numbers
    """(B, 4): density of the nuclei, exponent, densities of the tissue and of all."""
    inverted: Chosen
    repainted: Chosen
    means: Numbers
    spread: Numbers
    spreads: Numbers
    jittered: Chosen
    factors: Numbers
    offsets: Numbers
    grey: Chosen
    toned: Chosen
    tone: Numbers
    """(B, 3): gamma, contrast, brightness."""
    blurred: Chosen
    sigma: Numbers
    compressed: Chosen
    quality: Numbers
    noisy: Chosen
    noise: Numbers

    def part(self, share: slice) -> Recolouring:
        """Return what is done to some crops of the batch."""
        return Recolouring(**{f.name: getattr(self, f.name)[share] for f in fields(self)})


def draw_recolouring(generator: np.random.Generator, fluorescence: Chosen) -> Recolouring:
    """Draw for every crop (B,), by whether it is bright on dark."""
    count = len(fluorescence)
    uniform, chance = generator.uniform, generator.random((7, count))
    stained = fluorescence & (chance[0] < 0.2)
    return Recolouring(
        stained=stained,
        nuclear=0.25 * generator.standard_normal((count, 3)),
        other=0.25 * generator.standard_normal((count, 3)),
        strength=uniform((0.8, 0.6, 0.1, 0.0), (2.2, 1.4, 0.6, 0.15), (count, 4)),
        inverted=fluorescence & ~stained & (chance[1] < 0.1),
        repainted=~fluorescence & (chance[2] < 0.2),
        means=uniform(0.5, 1.6, (count, 3)),
        spread=uniform(0.6, 1.6, count),
        spreads=uniform(0.7, 1.3, (count, 3)),
        jittered=~fluorescence & (chance[2] >= 0.2) & (chance[2] < 0.75),
        factors=1 + 0.2 * generator.standard_normal((count, 3)),
        offsets=0.04 * generator.standard_normal((count, 3)),
        grey=~fluorescence & (chance[3] < 0.05),
        toned=chance[4] < 0.5,
        tone=np.stack(
            [np.exp(uniform(-0.4, 0.4, count)), uniform(0.7, 1.3, count), uniform(-0.12, 0.12, count)], axis=1
        ),
        blurred=chance[5] < 0.15,
        sigma=uniform(0.3, WIDEST_BLUR, count),
        compressed=chance[6] < 0.1,
        quality=uniform(40, 95, count),
        noisy=generator.random(count) < 0.15,
        noise=uniform(0.01, 0.06, count),
    )


def recoloured(images: Tensor, plan: Recolouring, noise: torch.Generator) -> Tensor:
    """Return crops (B, 3, y, x) float32 in [0, 1] in other colours, tones and sharpness.

    Parameters
    ----------
    images
        Unchanged.
    plan
        What each gets.
    noise
        Of the images' device.
    """
    images = images.clone(memory_format=torch.contiguous_format)
    changes = _changes(plan, noise)
    # two copies to the device for all changes: every one may make a GPU wait
    chosen = [np.flatnonzero(change.chosen) for change in changes]
    values = [value.reshape(len(images), -1) for change in changes for value in change.values]
    widths = [value.shape[1] for value in values]
    rows = torch.split(there(np.concatenate(chosen), images.device), [len(each) for each in chosen])
    columns = iter(torch.split(there(np.concatenate(values, axis=1, dtype=np.float32), images.device), widths, 1))
    for change, of in zip(changes, rows, strict=True):
        taken = [next(columns) for _ in change.values]
        if len(of):
            images[of] = change.how(images[of], *(value[of] for value in taken))
    return images


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Change:
    chosen: Chosen
    how: Callable[..., Tensor]
    """Images and values, (n, columns) each, of those who get it, to images."""
    values: tuple[Numbers, ...] = ()


def _changes(plan: Recolouring, noise: torch.Generator) -> tuple[_Change, ...]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=noise, device=noise.device)

    def stain(these: Tensor, nuclear: Tensor, other: Tensor, strength: Tensor) -> Tensor:
        cells = [-(-length // stains.TISSUE_CELL) for length in these.shape[2:]]
        return stains.stain_fluorescence(these, (nuclear, other), strength, normal(len(these), 1, *cells))

    def palette(these: Tensor, means: Tensor, spread: Tensor, spreads: Tensor) -> Tensor:
        return stains.change_palette(these, means, spread[:, 0], spreads)

    def tone(these: Tensor, values: Tensor) -> Tensor:
        return stains.change_tone(these, *values.unbind(1))

    def blur(these: Tensor, sigma: Tensor) -> Tensor:
        return stains.blur(these, sigma[:, 0], widest=WIDEST_BLUR)

    def add_noise(these: Tensor, sigma: Tensor) -> Tensor:
        return stains.add_noise(these, sigma, normal(*these.shape))

    return (
        _Change(chosen=plan.stained, how=stain, values=(plan.nuclear, plan.other, plan.strength)),
        _Change(chosen=plan.inverted, how=lambda these: 1 - these),
        _Change(chosen=plan.repainted, how=palette, values=(plan.means, plan.spread, plan.spreads)),
        _Change(chosen=plan.jittered, how=stains.jitter_stains, values=(plan.factors, plan.offsets)),
        _Change(chosen=plan.grey, how=stains.to_grey),
        _Change(chosen=plan.toned, how=tone, values=(plan.tone,)),
        _Change(chosen=plan.blurred, how=blur, values=(plan.sigma,)),
        _Change(
            chosen=plan.compressed, how=lambda these, quality: compress(these, quality[:, 0]), values=(plan.quality,)
        ),
        _Change(chosen=plan.noisy, how=add_noise, values=(plan.noise,)),
    )
