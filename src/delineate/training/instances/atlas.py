"""All pictures of a training side by side on the device, so that a batch of crops is read from them at once.

A pixel is two numbers of 32 bits: its colours with the distance to the rim, and its instance with its type. Distances
are computed once, on whole pictures: an instance that a crop cuts keeps its true middle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from delineate.errors import DatasetError
from delineate.masks.instance_targets import instance_targets
from delineate.training.batches import there

UNKNOWN_TYPE = -1
"""Target of pixels whose type nobody told."""
INSTANCE_BITS = 22
TINY = 1 << INSTANCE_BITS
"""Set on interior pixels of instances that are too small to have any by the rule of eight neighbours."""
TYPE_SHIFT = INSTANCE_BITS + 1


MOST_KIND_WEIGHT = 5.0
"""What a pixel of the rarest type counts at most: a handful of objects must not rule the training."""


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

    def packed(self) -> PackedImage:
        """Return the same in eight bytes per pixel."""
        targets = instance_targets(self.instances)
        seen = np.concatenate([self.picture, targets.distance[..., None]], axis=2)
        numbers = _few_bits(self.instances)
        tiny = (targets.interior > 0) & ~_inner(torch.from_numpy(numbers)[None])[0].numpy()
        kinds = _kinds(self.instances, self.types)
        known = numbers + TINY * tiny.astype(np.int32) + ((kinds - UNKNOWN_TYPE) << TYPE_SHIFT)
        return PackedImage(
            seen=np.ascontiguousarray(seen * 255 + 0.5, dtype=np.uint8).view(np.int32)[..., 0],
            known=known.astype(np.int32),
            fluorescence=self.fluorescence,
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PackedImage:
    """An image with its instances, (y, x) int32 each."""

    seen: NDArray[np.int32]
    """Bytes: red, green, blue, normalised distance; 255 is 1."""
    known: NDArray[np.int32]
    """Bits: instance, whether it is an interior pixel of a tiny one, type + 1."""
    fluorescence: bool


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InstanceSource:
    """Images that belong together and how often they are drawn."""

    images: Mapping[str, PackedImage]
    """By name, in the order in which they are counted."""
    weight: float
    """Relative frequency of this source."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images."""
        return tuple(self.images)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Places:
    """Where crops lie; every array has one entry per crop."""

    image: NDArray[np.int64]
    centre: NDArray[np.int64]
    """(crop, 2): row and column in the image."""
    zoom: NDArray[np.float32]
    angle: NDArray[np.float32]
    """Radians."""
    aspect: NDArray[np.float32]
    """So many times as much is seen along x, and as little along y, before the crop is turned."""
    mirrored: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Atlas:
    """All images of some sources as one row of pixels."""

    names: tuple[str, ...]
    share: NDArray[np.float64]
    """(image,) how often each is drawn; the sum is 1."""
    fluorescence: NDArray[np.bool_]
    """(image,)"""
    shapes: NDArray[np.int64]
    """(image, 2) rows and columns."""
    starts: NDArray[np.int64]
    """(image,) number of its first pixel."""
    known: NDArray[np.int32]
    """(pixel,) in the computer's memory, to find instances in."""
    seen_there: Tensor
    known_there: Tensor
    """(pixel,) int32 on the device."""

    @classmethod
    def of(cls, sources: Sequence[InstanceSource], device: torch.device) -> Atlas:
        """Put the images of sources together.

        Raises
        ------
        DatasetError
            If there is no image.
        """
        filled = [source for source in sources if source.images]
        if not filled:
            raise DatasetError("There is no image with instances to draw from; a training needs at least one.")
        images = [image for source in filled for image in source.images.values()]
        total = sum(source.weight for source in filled)
        sizes = np.array([image.known.size for image in images], dtype=np.int64)
        known = np.concatenate([image.known.ravel() for image in images])
        seen = np.concatenate([image.seen.ravel() for image in images])
        return cls(
            names=tuple(name for source in filled for name in source.images),
            share=np.concatenate(
                [np.full(len(source.images), source.weight / total / len(source.images)) for source in filled]
            ),
            fluorescence=np.array([image.fluorescence for image in images]),
            shapes=np.array([image.known.shape for image in images], dtype=np.int64),
            starts=np.cumsum(sizes) - sizes,
            known=known,
            seen_there=torch.from_numpy(seen).to(device),
            known_there=torch.from_numpy(known).to(device),
        )

    @property
    def device(self) -> torch.device:
        """Where crops are read."""
        return self.seen_there.device

    def kind_weights(self, types: int) -> tuple[float, ...]:
        """Return what a pixel of the background and of each type should count: the rarer, the more.

        The weight falls with the square root of how many pixels there are, and their mean is 1 but for the limit; a
        type that nobody has counts as much as the rarest one.
        """
        kinds = (self.known >> TYPE_SHIFT) + UNKNOWN_TYPE
        counts = np.bincount(kinds[kinds >= 0], minlength=types + 1)[: types + 1].astype(float)
        if not counts.any():
            return (1.0,) * (types + 1)
        weights = 1 / np.sqrt(np.maximum(counts, counts[counts > 0].min()))
        scaled = weights * counts.sum() / (weights * counts).sum()
        return tuple(np.minimum(scaled, MOST_KIND_WEIGHT).tolist())

    def holds_instance(self, image: NDArray[np.int64], place: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say of rows and columns (crop, 2) of images (crop,) whether an instance lies there."""
        pixel = self.starts[image] + place[:, 0] * self.shapes[image, 1] + place[:, 1]
        found: NDArray[np.bool_] = (self.known[pixel] & (TINY - 1)) > 0
        return found

    def read(self, places: Places, size: tuple[int, int], *, on_pixels: bool) -> tuple[Tensor, Tensor]:
        """Read crops: cut, turned, magnified and mirrored.

        Beyond an image's border it is mirrored; an instance there goes on with its number.

        Parameters
        ----------
        places
            Of the crops.
        size
            Rows and columns of every crop.
        on_pixels
            The crops are only cut, so they lie on the pixels: between two of them the nearest would be taken twice.

        Returns
        -------
        images, targets
            (B, 3, y, x) float32 from 0 to 1, and (B, 5, y, x) float32: foreground, interior, distance, type (or -1),
            and whether instances touch there.
        """
        y, x = self._positions(places, size, on_pixels=on_pixels)
        whole = np.concatenate([self.starts[places.image][:, None], self.shapes[places.image]], axis=1)
        starts, heights, widths = there(whole, self.device)[..., None, None].unbind(1)

        def row(number: Tensor) -> Tensor:
            return starts + _mirrored(number, heights) * widths

        def column(number: Tensor) -> Tensor:
            return _mirrored(number, widths)

        nearest = self.known_there[row(y.round()) + column(x.round())]
        top, left = y.floor(), x.floor()
        down, right = (y - top)[..., None], (x - left)[..., None]
        first, second, before, after = row(top), row(top + 1), column(left), column(left + 1)
        upper = torch.lerp(self._bytes(first + before), self._bytes(first + after), right)
        lower = torch.lerp(self._bytes(second + before), self._bytes(second + after), right)
        seen = torch.lerp(upper, lower, down).permute(0, 3, 1, 2) / 255
        return seen[:, :3], _targets(nearest, seen[:, 3])

    def _positions(self, places: Places, size: tuple[int, int], *, on_pixels: bool) -> tuple[Tensor, Tensor]:
        """Return rows and columns, between pixels too, of all pixels of the crops: (B, y, x) each."""
        steps = [torch.arange(length, device=self.device, dtype=torch.float32) for length in size]
        middle = [length // 2 if on_pixels else (length - 1) / 2 for length in size]
        v, u = (steps[0] - middle[0])[None, :, None], (steps[1] - middle[1])[None, None, :]
        turned = np.stack([np.cos(places.angle) / places.zoom, np.sin(places.angle) / places.zoom])
        side = np.where(places.mirrored, -places.aspect, places.aspect)
        numbers = np.concatenate([turned, [side, 1 / places.aspect], places.centre.T], dtype=np.float32)
        cosine, sine, wide, high, row, column = there(numbers, self.device)[..., None, None]
        u, v = wide * u, high * v
        return cosine * v - sine * u + row, sine * v + cosine * u + column

    def _bytes(self, pixel: Tensor) -> Tensor:
        """Return colours and distance (B, y, x, 4) float32 from 0 to 255."""
        return self.seen_there[pixel].unsqueeze(-1).view(torch.uint8).float()


def _mirrored(number: Tensor, length: Tensor) -> Tensor:
    """Fold whole numbers, as float32, into 0 to length - 1."""
    period = 2.0 * length
    folded = number - period * (number / period).floor()  # many times faster than the remainder of integers
    return torch.minimum(folded, period - 1 - folded).long()


def _targets(known: Tensor, distance: Tensor) -> Tensor:
    instances = known & (TINY - 1)
    foreground = instances > 0
    interior = _inner(instances) | ((known & TINY) > 0)
    kinds = (known >> TYPE_SHIFT) + UNKNOWN_TYPE
    maps = (foreground, interior, distance * foreground, kinds, _touching(instances))
    return torch.stack([one.float() for one in maps], 1)


def _touching(instances: Tensor) -> Tensor:
    """Return pixels (B, y, x) at most two away from another instance that touches their own."""
    touching = torch.zeros_like(instances, dtype=torch.bool)
    for axis in (1, 2):
        count = instances.shape[axis] - 1
        one, other = instances.narrow(axis, 0, count), instances.narrow(axis, 1, count)
        meet = (one != other) & (one > 0) & (other > 0)
        touching.narrow(axis, 0, count).logical_or_(meet)
        touching.narrow(axis, 1, count).logical_or_(meet)
    return functional.max_pool2d(touching.float(), 3, stride=1, padding=1) > 0


def _inner(instances: Tensor) -> Tensor:
    """Return pixels (B, y, x) all of whose neighbours are of their own instance; beyond the crop it goes on."""
    across = torch.ones_like(instances, dtype=torch.bool)
    same = instances[:, :, 1:] == instances[:, :, :-1]
    across[:, :, 1:] &= same
    across[:, :, :-1] &= same
    inner = across & (instances > 0)
    same = instances[:, 1:] == instances[:, :-1]
    inner[:, 1:] &= same & across[:, :-1]
    inner[:, :-1] &= same & across[:, 1:]
    return inner


def _few_bits(instances: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return instances with numbers below :data:`TINY`: as they are, or numbered anew."""
    if instances.max(initial=0) < TINY:
        return instances
    numbers: NDArray[np.int32] = np.searchsorted(np.unique(np.append(instances, 0)), instances).astype(np.int32)
    return numbers


def _kinds(instances: NDArray[np.int32], types: NDArray[np.int64] | None) -> NDArray[np.int32]:
    """Return the type of every pixel; unknown where nobody told it, which is not the same as background."""
    if types is None:
        return np.full(instances.shape, UNKNOWN_TYPE, dtype=np.int32)
    kinds: NDArray[np.int32] = types[instances].astype(np.int32)
    kinds[(kinds == 0) & (instances > 0)] = UNKNOWN_TYPE
    return kinds
