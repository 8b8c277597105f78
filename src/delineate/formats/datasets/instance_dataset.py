"""A folder of pictures with instances: every object has a number of its own, and may have a type.

    images/{id}.png|jpg|tif      colour or grey
    instances/{id}.png|tif       0 background, every other number one object (16 bit where there are more than 255)
    types/{id}.png               optional: a type number per pixel
    types.json                   optional: {"1": "inflammatory", ...}
    groups.csv                   optional: columns case, group; cases of one group stay on one side of a split

The values here hold paths; :meth:`InstanceDataset.load` reads one case.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.errors import DatasetError, LabelError
from delineate.formats.images import read_file, read_mask, whole_numbers
from delineate.formats.magic import image_ending, image_stem
from delineate.formats.picture_windows import MOST_COLOURS

IMAGES, INSTANCES, TYPES = "images", "instances", "types"
MOST_NUMBER = 10_000_000
"""Larger numbers are colours or a mistake; tables by number would not fit into memory."""
_TILE = re.compile(r"^(.+)_\d{3,}$")
"""``train_1_007``: patch 7 of tile ``train_1``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceFiles:
    """The files of one picture."""

    case_id: str
    image: Path
    instances: Path
    types: Path | None
    group: str
    """Pictures of one group (a slide, a tile) never fall on both sides of a split; empty: not told."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InstanceCase:
    """One picture in memory."""

    case_id: str
    picture: NDArray[Any]
    """(y, x, 1 or 3), the numbers of the file."""
    instances: NDArray[np.int32]
    """(y, x), 0 background."""
    types: NDArray[np.int64] | None
    """(largest number + 1,) the type of every instance; 0: not told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceDataset:
    """A folder of pictures with instances."""

    name: str
    root: Path
    cases: tuple[InstanceFiles, ...]
    type_names: tuple[str, ...]
    """Of types 1, 2, ...; empty if there are none."""

    def load(self, files: InstanceFiles) -> InstanceCase:
        """Read one picture with its instances.

        Raises
        ------
        ImageReadError
            If a file is missing or damaged.
        LabelError
            If sizes differ, numbers are not whole, or types are undeclared.
        """
        picture = colours_of(read_file(files.image).array, files.image)
        numbers = whole_numbers(read_mask(files.instances).array[0], str(files.instances))
        if numbers.ndim != 2 or int(numbers.min(initial=0)) < 0 or int(numbers.max(initial=0)) > MOST_NUMBER:
            raise LabelError(
                f"{files.instances}: expected a plane of numbers from 0 to {MOST_NUMBER}; found shape {numbers.shape}, "
                f"{int(numbers.min(initial=0))} to {int(numbers.max(initial=0))}. Number the objects 1, 2, 3, ..."
            )
        _require_like(picture.shape[:2], numbers.shape, files)
        instances = numbers.astype(np.int32)
        types = None
        if files.types is not None:
            kinds = read_mask(files.types).array[0].astype(np.int64)
            _require_like(picture.shape[:2], kinds.shape, files)
            types = majority_types(instances, kinds, len(self.type_names))
            if types.max(initial=0) > len(self.type_names):
                raise LabelError(
                    f"{files.types}: types 0 to {len(self.type_names)} are declared; found {int(types.max())}."
                )
        return InstanceCase(case_id=files.case_id, picture=picture, instances=instances, types=types)


def is_instance_dataset(folder: Path) -> bool:
    """Say whether a folder has pictures with instances."""
    return (folder / IMAGES).is_dir() and (folder / INSTANCES).is_dir()


def open_instance_dataset(folder: Path) -> InstanceDataset:
    """Find the cases of a folder; no pixel is read but those of types, if nothing declares them.

    Raises
    ------
    DatasetError
        If there is no case, or a picture has no instances; all of them are told.
    """
    if not is_instance_dataset(folder):
        raise DatasetError(f"{folder}: expected {IMAGES}/ and {INSTANCES}/; arrange the files so.")
    pictures, masks, kinds = (_by_stem(folder / part) for part in (IMAGES, INSTANCES, TYPES))
    missing = sorted(set(pictures) - set(masks))
    if missing or not pictures:
        raise DatasetError(
            f"{folder}: {len(missing)} of {len(pictures)} pictures have no file of the same name in {INSTANCES}/.",
            missing,
        )
    groups = _groups(folder)
    cases = tuple(
        InstanceFiles(
            case_id=name,
            image=pictures[name],
            instances=masks[name],
            types=kinds.get(name),
            group=groups.get(name, _tile_of(name)),
        )
        for name in sorted(pictures)
    )
    return InstanceDataset(name=folder.name, root=folder, cases=cases, type_names=_type_names(folder, kinds))


def majority_types(instances: NDArray[np.int32], kinds: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the most frequent type above 0 among the pixels of every instance; 0 where there is none."""
    width = max(count, int(kinds.max(initial=0))) + 1
    table = np.bincount(
        instances.ravel() * width + kinds.ravel(), minlength=(int(instances.max(initial=0)) + 1) * width
    )
    votes = table.reshape(-1, width)
    votes[:, 0] = 0
    types: NDArray[np.int64] = np.where(votes.sum(axis=1) > 0, votes.argmax(axis=1), 0).astype(np.int64)
    types[0] = 0
    return types


def colours_of(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """Return (y, x, 1 or 3) of (channel, y, x): alpha is left out, of two channels the first is taken.

    Raises
    ------
    LabelError
        If it is a stack, or has channels that are no colours.
    """
    if array.ndim != 3 or len(array) > MOST_COLOURS:
        what = f"{len(array)} channels" if array.ndim == 3 else f"a stack of shape {array.shape}"
        raise LabelError(
            f"{path}: expected a plane of 1 to {MOST_COLOURS} colours; found {what}. Save the plane alone."
        )
    picture = array.transpose(1, 2, 0)
    return picture[..., :3] if picture.shape[2] >= 3 else picture[..., :1]


def _require_like(expected: tuple[int, ...], found: tuple[int, ...], files: InstanceFiles) -> None:
    if expected != found:
        raise LabelError(f"{files.instances}: expected the size of {files.image.name}, {expected}; found {found}.")


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    files = (path for path in folder.iterdir() if image_ending(path) and not path.name.startswith("."))
    return {image_stem(path): path for path in files}


def _tile_of(name: str) -> str:
    match = _TILE.match(name)
    return match.group(1) if match else ""


def _groups(folder: Path) -> dict[str, str]:
    path = folder / "groups.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    if rows and not {"case", "group"} <= set(rows[0]):
        raise DatasetError(f"{path}: expected the columns case and group; found {', '.join(rows[0])}.")
    return {row["case"]: row["group"] for row in rows}


def _type_names(folder: Path, kinds: Mapping[str, Path]) -> tuple[str, ...]:
    path = folder / "types.json"
    if path.is_file():
        declared = json.loads(path.read_text(encoding="utf-8"))
        return tuple(str(declared[key]) for key in sorted(declared, key=int))
    highest = max((int(read_mask(file).array.max(initial=0)) for file in kinds.values()), default=0)
    return tuple(f"type {value}" for value in range(1, highest + 1))
