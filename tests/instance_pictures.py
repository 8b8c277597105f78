"""Small folders of pictures with numbered objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def discs(seed: int, size: int = 64, step: int = 20, radius: float = 7.0) -> NDArray[np.int32]:
    """Discs on a jittered lattice: (y, x) int32."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    instances = np.zeros((size, size), dtype=np.int32)
    number = 0
    for row in range(step // 2, size, step):
        for column in range(step // 2, size, step):
            number += 1
            cy, cx = np.array([row, column]) + generator.uniform(-2, 2, 2)
            instances[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = number
    return instances


def picture_of(instances: NDArray[np.int32], seed: int, *, colour: bool) -> NDArray[np.uint8]:
    """A picture (y, x) or (y, x, 3) in which the instances can be seen."""
    generator = np.random.default_rng(seed)
    noise = generator.integers(0, 20, instances.shape)
    if not colour:
        return (30 + 170 * (instances > 0) + noise).astype(np.uint8)
    stained = np.where((instances > 0)[..., None], (110, 60, 140), (235, 200, 220))
    return np.clip(stained + noise[..., None] - 10, 0, 255).astype(np.uint8)


def write_dataset(
    folder: Path, *, count: int = 6, size: int = 64, types: bool = False, step: int = 20, radius: float = 7.0
) -> Path:
    """A data set in the project's layout: every second picture is coloured; pictures of a pair are one group."""
    parts = ["images", "instances", *(["types"] if types else [])]
    for part in parts:
        (folder / part).mkdir(parents=True)
    lines = ["case,group"]
    for index in range(count):
        instances = discs(index, size, step, radius)
        Image.fromarray(picture_of(instances, index, colour=bool(index % 2))).save(folder / f"images/p{index}.png")
        Image.fromarray(instances.astype(np.uint16)).save(folder / f"instances/p{index}.png")
        if types:
            kinds = np.where(instances > 0, instances % 2 + 1, 0).astype(np.uint8)
            Image.fromarray(kinds).save(folder / f"types/p{index}.png")
        lines.append(f"p{index},field {index // 2}")
    (folder / "groups.csv").write_text("\n".join(lines) + "\n")
    if types:
        (folder / "types.json").write_text('{"1": "round", "2": "other"}')
    return folder
