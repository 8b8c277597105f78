"""Crops of images with instances: a place, a size and colours drawn anew each time, and the maps to be learnt.

The crops of a step are a pure function of the images, the settings and the generators that are passed in. All of a
batch is drawn at once, on the computer; it is read and recoloured at once, on the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from delineate.training.instances.atlas import Atlas, Places
from delineate.training.instances.recolouring import draw_recolouring, recoloured

ATTEMPTS = 8
"""So often an instance is looked for: cheaper than listing the pixels of every image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CropSettings:
    """How crops are drawn."""

    size: tuple[int, int]
    zoom: tuple[float, float] = (0.7, 1.45)
    """Smallest and largest magnification; drawn evenly on a logarithmic scale."""
    aspect: float = 1.2
    """Objects become longer or shorter by up to so many times, drawn likewise."""
    on_instance: float = 0.7
    """Share of crops whose centre lies near an instance."""
    augment: bool = True


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Crops:
    """What a network sees and what it should say."""

    images: Tensor
    """(B, 3, y, x) float32."""
    targets: Tensor
    """(B, 5, y, x) float32: foreground, interior, distance, type (or -1), whether instances touch there."""
    names: tuple[str, ...]


def draw_crops(atlas: Atlas, settings: CropSettings, count: int, seed: tuple[int, ...], share: slice) -> Crops:
    """Draw crops.

    Parameters
    ----------
    atlas
        The images.
    settings
        How.
    count
        Of the whole batch.
    seed
        Of everything that is random; a device of another kind draws other noise.
    share
        Those of the batch that are wanted here.
    """
    generator = np.random.default_rng(seed)
    places = _drawn(atlas, settings, count, generator)
    chosen = Places(
        image=places.image[share],
        centre=places.centre[share],
        zoom=places.zoom[share],
        angle=places.angle[share],
        aspect=places.aspect[share],
        mirrored=places.mirrored[share],
    )
    images, targets = atlas.read(chosen, settings.size, on_pixels=not settings.augment)
    if settings.augment:
        colours = draw_recolouring(generator, atlas.fluorescence[places.image]).part(share)
        noise = torch.Generator(atlas.device).manual_seed(int(generator.integers(1 << 62)) + share.start)
        images = recoloured(images, colours, noise)
    return Crops(images=images, targets=targets, names=tuple(atlas.names[index] for index in chosen.image))


def _drawn(atlas: Atlas, settings: CropSettings, count: int, generator: np.random.Generator) -> Places:
    image = generator.choice(len(atlas.names), size=count, p=atlas.share)
    low, high = settings.zoom if settings.augment else (1.0, 1.0)
    turn = 2 * math.pi if settings.augment else 0.0
    longer = math.log(settings.aspect) / 2 if settings.augment else 0.0
    return Places(
        image=image,
        centre=_centres(atlas, image, settings, generator),
        zoom=np.exp(generator.uniform(math.log(low), math.log(high), count)).astype(np.float32),
        angle=generator.uniform(0, turn, count).astype(np.float32),
        aspect=np.exp(generator.uniform(-longer, longer, count)).astype(np.float32),
        mirrored=(generator.random(count) < 0.5) & settings.augment,
    )


def _centres(
    atlas: Atlas, image: NDArray[np.int64], settings: CropSettings, generator: np.random.Generator
) -> NDArray[np.int64]:
    shapes, size = atlas.shapes[image], np.array(settings.size)
    tried = generator.integers(0, shapes, size=(ATTEMPTS, *shapes.shape))
    wanted = generator.random(len(image)) < settings.on_instance
    shift = generator.integers(-size // 4, size // 4 + 1, size=shapes.shape)
    found = np.stack([atlas.holds_instance(image, place) for place in tried])
    first = np.where(wanted & found.any(0), found.argmax(0), ATTEMPTS - 1)
    centre = tried[first, np.arange(len(image))] + shift * wanted[:, None]
    half = np.minimum(size // 2, shapes // 2)
    inside: NDArray[np.int64] = np.clip(centre, half, shapes - half)
    return inside
