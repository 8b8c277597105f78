"""Ordinary cases made strange in known ways, with their truth: to see whether a model's doubt notices.

Each shift is a function of a case and a generator. The strengths are those of a bad but possible examination or of a
mistake on the way to the file; what is meant is in the name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.case import Case, Image, LabelMap
from delineate.geometry.grid import Grid

Shift = Callable[[Case, np.random.Generator], Case]

LOW, HIGH = 1, 99
"""Percentiles between which an image's range of intensities lies."""


def add_noise(case: Case, generator: np.random.Generator, *, share: float) -> Case:
    """Add Gaussian noise with a standard deviation of ``share`` of the range."""
    array = case.image.array.astype(np.float32)
    width = _ranges(array)[1]
    return _with_array(case, array + generator.standard_normal(array.shape, dtype=np.float32) * share * width)


def blur(case: Case, generator: np.random.Generator, *, voxels: float) -> Case:
    """Blur with a Gaussian of so many voxels standard deviation."""
    sigma = [0.0] + [voxels if n > 1 else 0.0 for n in case.image.array.shape[1:]]
    return _with_array(case, ndimage.gaussian_filter(case.image.array.astype(np.float32), sigma, mode="nearest"))


def bias_field(case: Case, generator: np.random.Generator, *, strength: float) -> Case:
    """Multiply with a smooth field between 1 - ``strength`` and 1 + ``strength``, brightest at a random place."""
    array = case.image.array.astype(np.float32)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in array.shape[1:]), indexing="ij", sparse=True)
    slopes = generator.uniform(-1, 1, (2, len(axes)))
    field = sum(a * axis + b * axis**2 for a, b, axis in zip(*slopes, axes, strict=True))
    values = np.asarray(field, np.float32)
    unit = 2 * (values - values.min()) / max(float(np.ptp(values)), 1e-6) - 1
    low, _ = _ranges(array)
    return _with_array(case, low + (array - low) * (1 + strength * unit))


def invert(case: Case, generator: np.random.Generator) -> Case:
    """Exchange bright and dark, as another contrast would."""
    array = case.image.array.astype(np.float32)
    low, width = _ranges(array)
    return _with_array(case, 2 * low + width - array)


def flip(case: Case, generator: np.random.Generator, *, world: int) -> Case:
    """Reverse the array along world axis ``world`` (x, y, z) under an unchanged header."""
    axis = int(np.argmax([abs(direction[world]) for direction in case.image.grid.direction]))
    labels = case.labels and replace(case.labels, array=np.flip(case.labels.array, axis))
    return replace(case, image=replace(case.image, array=np.flip(case.image.array, axis + 1)), labels=labels)


def wrong_spacing(case: Case, generator: np.random.Generator, *, factor: float) -> Case:
    """Say in the header that voxels are ``factor`` times as large along the first axis."""
    old = case.image.grid
    spacing = (old.spacing_mm[0] * factor, *old.spacing_mm[1:])
    return _on_grid(case, replace(old, spacing_mm=spacing), tuple(slice(None) for _ in old.shape))


def crop(case: Case, generator: np.random.Generator, *, kept: float) -> Case:
    """Keep the first share ``kept`` of the longest axis: an examination with too small a field of view."""
    old = case.image.grid
    axis = int(np.argmax(np.asarray(old.shape) * old.spacing_mm))
    stop = max(1, round(kept * old.shape[axis]))
    shape = tuple(stop if a == axis else n for a, n in enumerate(old.shape))
    return _on_grid(case, replace(old, shape=shape), tuple(slice(0, n) for n in shape))


SHIFTS: Mapping[str, Shift] = {
    "noise, 10 % of the range": partial(add_noise, share=0.1),
    "noise, 30 % of the range": partial(add_noise, share=0.3),
    "blur, 1 voxel": partial(blur, voxels=1.0),
    "blur, 2 voxels": partial(blur, voxels=2.0),
    "bias field, 60 %": partial(bias_field, strength=0.6),
    "inverted contrast": invert,
    "flipped left-right": partial(flip, world=0),
    "flipped front-back": partial(flip, world=1),
    "flipped up-down": partial(flip, world=2),
    "spacing twice too large": partial(wrong_spacing, factor=2.0),
    "field of view cut to 60 %": partial(crop, kept=0.6),
}
"""What a trust study tries, by name."""


def shifts_for(grid: Grid) -> dict[str, Shift]:
    """Return the shifts that make sense for images on such a grid: planes have no up and down."""
    return {name: shift for name, shift in SHIFTS.items() if grid.dims == 3 or "up-down" not in name}


def _ranges(array: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return per channel the low end and the width of the range, each to be broadcast over (channel, ...)."""
    low, high = np.percentile(array.reshape(len(array), -1), (LOW, HIGH), axis=1)
    shape = (-1,) + (1,) * (array.ndim - 1)
    return low.reshape(shape).astype(np.float32), np.maximum(high - low, 1e-6).reshape(shape).astype(np.float32)


def _with_array(case: Case, array: NDArray[Any]) -> Case:
    return replace(case, image=replace(case.image, array=np.asarray(array, np.float32)))


def _on_grid(case: Case, grid: Grid, kept: tuple[slice, ...]) -> Case:
    labels = case.labels and LabelMap(array=case.labels.array[kept], grid=grid, scheme=case.labels.scheme)
    return replace(case, image=Image(array=case.image.array[(slice(None), *kept)], grid=grid), labels=labels)
