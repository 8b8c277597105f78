"""Small folders of references and predictions, with the mistakes that people make in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from delineate.case import Image, LabelMap
from delineate.formats.images import write_image, write_labels
from delineate.geometry.grid import Grid

SHAPE = (4, 10, 12)
SPACING = (3.0, 0.8, 1.1)
ORIGIN = (5.0, -7.0, 2.0)


def grid(
    shape: tuple[int, ...] = SHAPE,
    spacing: tuple[float, ...] = SPACING,
    origin: tuple[float, ...] = ORIGIN,
) -> Grid:
    regular = Grid.regular(shape, spacing)
    return Grid(shape=shape, spacing_mm=spacing, origin_mm=origin[: len(shape)], direction=regular.direction)


def two_organs(shift: int = 0) -> NDArray[np.uint8]:
    """A liver (1) that moves along x, and a tumour (2) that stays."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:3, 2:7, 2 + shift : 7 + shift] = 1
    labels[1:3, 3:5, 3:5] = 2
    return labels


def write_map(folder: Path, case: str, labels: NDArray[np.integer], on: Grid | None = None) -> Path:
    path = folder / f"{case}.nii.gz"
    folder.mkdir(parents=True, exist_ok=True)
    write_labels(path, LabelMap(array=labels, grid=on or grid(labels.shape)))
    return path


def write_picture(folder: Path, case: str, labels: NDArray[np.integer]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{case}.png"
    write_image(path, Image(array=labels[None].astype(np.uint8), grid=Grid.regular(labels.shape)))
    return path


def plain_pair(root: Path, shifts: dict[str, int] | None = None) -> tuple[Path, Path]:
    """Return folders of predictions and references of cases a, b, c with declared structures."""
    for case, shift in (shifts or {"a": 0, "b": 1, "c": 2}).items():
        write_map(root / "references", case, two_organs())
        write_map(root / "predictions", case, two_organs(shift))
    (root / "references" / "labels.json").write_text(json.dumps({"liver": 1, "tumour": 2}))
    return root / "predictions", root / "references"
