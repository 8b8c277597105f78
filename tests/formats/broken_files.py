"""Makers of images and of the ways in which files break."""

import struct
from pathlib import Path

import numpy as np

from delineate.case import Image, LabelMap
from delineate.formats.images import write_image, write_labels
from delineate.geometry.grid import Grid

OBLIQUE = Grid(
    shape=(5, 6, 7),
    spacing_mm=(2.5, 0.75, 0.5),
    origin_mm=(-12.5, 30.25, -700.0),
    direction=((0.0, 0.6, 0.8), (0.0, 0.8, -0.6), (-1.0, 0.0, 0.0)),
)


def noise(shape=(5, 6, 7), channels=1, dtype=np.int16, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 200, (channels, *shape)).astype(dtype)


def an_image(path: Path, *, channels=1, dtype=np.int16, grid=OBLIQUE, seed=0) -> Image:
    image = Image(array=noise(grid.shape, channels, dtype, seed), grid=grid)
    write_image(path, image)
    return image


def a_mask(path: Path, *, grid=OBLIQUE, values=(0, 1, 2), seed=1) -> LabelMap:
    generator = np.random.default_rng(seed)
    array = generator.choice(np.array(values, np.int16), grid.shape)
    array.flat[: len(values)] = values
    labels = LabelMap(array=array, grid=grid)
    write_labels(path, labels)
    return labels


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def patched(path: Path, layout: str, offset: int, *values: float) -> None:
    """Change header fields of an uncompressed NIfTI file."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<" + layout, data, offset, *values)
    path.write_bytes(data)
