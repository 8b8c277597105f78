"""Crops of images with instances: a place, a size and colours drawn anew each time, and the maps to be learnt.

The crop of a step is a pure function of the images, the settings and a generator that is passed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from delineate.errors import DatasetError
from delineate.masks.instance_targets import instance_targets
from delineate.training.augment import stains

UNKNOWN_TYPE = -1
"""Target of pixels whose type nobody told."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InstanceImage:
    """One image with its instances, as training wants it."""

    picture: NDArray[np.float32]
    """(y, x, 3) from 0 to 1, normalised as in prediction."""
    instances: NDArray[np.int32]
    """(y, x), 0 background."""
    types: NDArray[np.int64] | None
    """(instance number + 1,) type of every instance, 0 for numbers that are none; None: types were not told."""
    fluorescence: bool
    """Bright on dark."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InstanceSource:
    """Images that belong together and how often they are drawn."""

    names: tuple[str, ...]
    open: Callable[[str], InstanceImage]
    weight: float
    """Relative frequency of this source."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CropSettings:
    """How crops are drawn."""

    size: tuple[int, int]
    zoom: tuple[float, float] = (0.7, 1.45)
    """Smallest and largest magnification; drawn evenly on a logarithmic scale."""
    on_instance: float = 0.7
    """Share of crops whose centre lies near an instance."""
    augment: bool = True


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Crop:
    """What a network sees and what it should say."""

    image: Tensor
    """(3, y, x) float32."""
    targets: Tensor
    """(4, y, x) float32: foreground, interior, distance, type (or -1)."""
    name: str


def draw_crop(sources: Sequence[InstanceSource], settings: CropSettings, generator: np.random.Generator) -> Crop:
    """Draw one crop.

    Raises
    ------
    DatasetError
        If there is no image to draw from.
    """
    weights = np.array([source.weight * bool(source.names) for source in sources], dtype=float)
    if not weights.sum():
        raise DatasetError("There is no image with instances to draw from; a training needs at least one.")
    source = sources[generator.choice(len(sources), p=weights / weights.sum())]
    name = source.names[generator.integers(len(source.names))]
    image = source.open(name)
    picture, instances = _placed(image, settings, generator)
    if settings.augment:
        picture = recoloured(picture, fluorescence=image.fluorescence, generator=generator)
    maps = instance_targets(instances).stacked()
    types = _type_map(instances, image.types)
    return Crop(
        image=torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))),
        targets=torch.from_numpy(np.concatenate([maps, types[None]])),
        name=name,
    )


def recoloured(
    picture: NDArray[np.float32], *, fluorescence: bool, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Return a picture (y, x, 3) in other colours, tones and sharpness."""
    chance = generator.random
    if fluorescence and chance() < 0.2:
        picture = stains.stain_fluorescence(picture, generator)
    elif fluorescence:
        picture = 1 - picture if chance() < 0.1 else picture
    else:
        picture = _restained(picture, generator)
    return _resharpened(stains.change_tone(picture, generator) if chance() < 0.5 else picture, generator)


def _restained(picture: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    chance = generator.random()
    if chance < 0.15:
        picture = stains.change_palette(picture, generator)
    elif chance < 0.65:
        picture = stains.jitter_stains(picture, generator, scale=0.2, shift=0.04)
    return stains.to_grey(picture) if generator.random() < 0.05 else picture


def _resharpened(picture: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    chance = generator.random
    if chance() < 0.15:
        picture = stains.blur(picture, generator.uniform(0.3, 1.2))
    if chance() < 0.1:
        picture = stains.compress(picture, int(generator.integers(40, 95)))
    if chance() < 0.15:
        picture = stains.add_noise(picture, generator, generator.uniform(0.01, 0.06))
    return picture


def _placed(
    image: InstanceImage, settings: CropSettings, generator: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return picture and instances of a crop: cut, turned, magnified and mirrored.

    Beyond the image's border it is mirrored; an instance there goes on with its number.
    """
    low, high = settings.zoom if settings.augment else (1.0, 1.0)
    zoom = math.exp(generator.uniform(math.log(low), math.log(high)))
    angle = generator.uniform(0, 2 * math.pi) if settings.augment else 0.0
    mirrored = -1 if settings.augment and generator.random() < 0.5 else 1
    cosine, sine = math.cos(angle) / zoom, math.sin(angle) / zoom
    rows, columns = settings.size
    # a crop that is only cut lies on the pixels: between two of them the nearest one would be taken twice
    middle = [(size - 1) / 2 if settings.augment else size // 2 for size in settings.size]
    v = (np.arange(rows, dtype=np.float32) - middle[0])[:, None]
    u = (mirrored * (np.arange(columns, dtype=np.float32) - middle[1]))[None]
    centre = _centre(image, settings, generator)
    y = (cosine * v - sine * u + centre[0]).astype(np.float32)
    x = (sine * v + cosine * u + centre[1]).astype(np.float32)
    shape = image.instances.shape
    nearest = (_mirrored(np.rint(y).astype(np.int64), shape[0]), _mirrored(np.rint(x).astype(np.int64), shape[1]))
    return _bilinear(image.picture, y, x), image.instances[nearest]


def _centre(image: InstanceImage, settings: CropSettings, generator: np.random.Generator) -> NDArray[np.int_]:
    shape, size = np.array(image.instances.shape), np.array(settings.size)
    centre = generator.integers(0, shape)
    if generator.random() < settings.on_instance:
        for _ in range(8):  # rejection: cheaper than listing the pixels of every image
            if image.instances[tuple(centre)]:
                break
            centre = generator.integers(0, shape)
        centre = centre + generator.integers(-size // 4, size // 4 + 1)
    half = np.minimum(size // 2, shape // 2)
    return np.clip(centre, half, shape - half)


def _bilinear(picture: NDArray[np.float32], y: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float32]:
    top, left = np.floor(y), np.floor(x)
    down, right = (y - top)[..., None], (x - left)[..., None]
    row, column = top.astype(np.int64), left.astype(np.int64)
    rows = [_mirrored(row + step, picture.shape[0]) for step in (0, 1)]
    columns = [_mirrored(column + step, picture.shape[1]) for step in (0, 1)]
    upper = picture[rows[0], columns[0]] * (1 - right) + picture[rows[0], columns[1]] * right
    lower = picture[rows[1], columns[0]] * (1 - right) + picture[rows[1], columns[1]] * right
    sampled: NDArray[np.float32] = (upper * (1 - down) + lower * down).astype(np.float32)
    return sampled


def _mirrored(index: NDArray[np.int_], length: int) -> NDArray[np.int_]:
    period = 2 * length
    folded = np.mod(index, period)
    inside: NDArray[np.int_] = np.minimum(folded, period - 1 - folded)
    return inside


def _type_map(instances: NDArray[Any], types: NDArray[np.int64] | None) -> NDArray[np.float32]:
    """Return the type of every pixel; unknown where nobody told it, which is not the same as background."""
    if types is None:
        return np.full(instances.shape, UNKNOWN_TYPE, dtype=np.float32)
    kinds: NDArray[np.float32] = types[instances].astype(np.float32)
    kinds[(kinds == 0) & (instances > 0)] = UNKNOWN_TYPE
    return kinds
