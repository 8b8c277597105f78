"""Plain folders of images and masks that belong together by name.

Three layouts are understood: ``images/`` beside ``labels/`` (or masks, segmentations) with equal file stems; files
``{id}_image`` beside ``{id}_mask``; and a folder per case with one image and one mask. Labels are named by a
``labels.json``; without one the values are found by looking through the masks and are called label_1, label_2, ...
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from delineate.case import Image, LabelScheme
from delineate.errors import DatasetError, InputError
from delineate.formats.datasets.dataset import CaseFiles, Dataset, reader_name, visible_images
from delineate.formats.datasets.declaration import Declaration, declared_channels, declared_scheme, read_declaration
from delineate.formats.datasets.nnunet_raw import with_patients
from delineate.formats.datasets.repairs import BINARY_WHITE, MAP_255_TO_1, UNDECLARED_TO_BACKGROUND
from delineate.formats.images import read_file, read_mask
from delineate.formats.magic import image_ending, image_stem
from delineate.formats.raster import CHANNEL_SUFFIX

_log = logging.getLogger(__name__)

IMAGE_FOLDERS = ("images", "image", "imagestr", "img", "imgs", "scans")
MASK_FOLDERS = ("labels", "masks", "segmentations", "label", "mask", "labelstr", "segs", "annotations")
MASK_ENDINGS = re.compile(r"(?:^|[_\-. ])(?:mask|masks|label|labels|seg|segmentation|roi|gt|annotation)$", re.I)
IMAGE_ENDINGS = re.compile(r"(?:^|[_\-. ])(?:image|img|scan|volume)$", re.I)
TEST_FOLDERS = ("imagests", "test", "images_test")
MOST_LABELS = 255
"""More values than this are instance numbers, not classes."""

CT_LOWEST, CT_HIGHEST = -900, 200
"""An image of whole numbers that reaches from air (-900 HU) to bone is taken as CT (Hounsfield units)."""
_CT_TOKEN = re.compile(r"(?:^|[^a-z])ct(?:[^a-z]|$)", re.I)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pair:
    """An image (one or more channel files) and a mask under one key; either may be missing."""

    key: str
    images: tuple[Path, ...]
    mask: Path | None


def open_folder_pairs(root: Path, repairs: frozenset[str]) -> Dataset | None:
    """Return the dataset of a plain folder, or None if no image has a mask that belongs to it.

    Raises
    ------
    DatasetError
        If the label values of the masks cannot be classes, or labels.json has faults.
    """
    pairs = _beside_folders(root) or _beside_files(root)
    complete = [pair for pair in pairs if pair.images and pair.mask]
    if not complete:
        return None
    example = complete[0].images
    ending = image_ending(example[0]) or example[0].suffix
    cases = tuple(_case(pair, complete[0]) for pair in pairs)
    return Dataset(
        name=root.resolve().name,
        root=root,
        layout="folder_pairs",
        channel_names=_channels(root, example),
        scheme=_scheme(root, [pair.mask for pair in complete if pair.mask], repairs),
        training=with_patients(root, cases),
        testing=with_patients(root, _unlabelled(root)),
        file_ending=ending,
        declared_training_count=len(cases),
        reader_name=reader_name(ending, example[0]),
        repairs=repairs,
    )


def _beside_folders(root: Path) -> list[_Pair]:
    """Pair images/ with labels/ by the path below them, without endings, role words and channel numbers."""
    image_folder, mask_folder = _folder(root, IMAGE_FOLDERS), _folder(root, MASK_FOLDERS)
    if image_folder is None or mask_folder is None:
        return []
    masks = [(_key(path, mask_folder, MASK_ENDINGS), path) for path in visible_images(mask_folder)]
    mask_keys = {key for key, _ in masks}
    images: dict[str, list[Path]] = {}
    for path in visible_images(image_folder):
        key = _key(path, image_folder, IMAGE_ENDINGS)
        bare = CHANNEL_SUFFIX.sub("", key)
        images.setdefault(bare if bare in mask_keys and key not in mask_keys else key, []).append(path)
    return _short_keys(_joined(images, masks))


def _beside_files(root: Path) -> list[_Pair]:
    """Pair files of one folder by what is left of their stems without ``image`` or ``mask``."""
    images: dict[str, list[Path]] = {}
    masks = []
    for path in visible_images(root):
        if MASK_ENDINGS.search(image_stem(path)):
            masks.append((_key(path, root, MASK_ENDINGS), path))
        else:
            images.setdefault(_key(path, root, IMAGE_ENDINGS), []).append(path)
    return _short_keys(_joined(images, masks))


def _joined(images: dict[str, list[Path]], masks: list[tuple[str, Path]]) -> list[_Pair]:
    """Return one pair per key; files of one key that are no channels of one image become pairs of their own."""
    pairs = []
    by_key: dict[str, list[Path]] = {}
    for key, path in masks:
        by_key.setdefault(key, []).append(path)
    for key in sorted(set(images) | set(by_key)):
        found = sorted(images.get(key, []))
        channels = len(found) > 1 and all(CHANNEL_SUFFIX.search(image_stem(path)) for path in found)
        groups: list[tuple[Path, ...]] = [tuple(found)] if channels or not found else [(path,) for path in found]
        own_masks: list[Path | None] = list(by_key.get(key, [])) or [None]
        for i in range(max(len(groups), len(own_masks))):
            pairs.append(
                _Pair(key=key, images=groups[min(i, len(groups) - 1)], mask=own_masks[min(i, len(own_masks) - 1)])
            )
    return pairs


def _short_keys(pairs: list[_Pair]) -> list[_Pair]:
    """Turn keys that are paths into case ids: the file's or the folder's name if that is unique, else both."""
    paths = [Path(pair.key) for pair in pairs]
    distinct = len(set(paths))
    for part in (lambda p: p.name, lambda p: p.parent.name, lambda p: "_".join(p.parts)):
        names = [part(path) for path in paths]
        if all(names) and len(set(names)) == distinct:
            break
    return [
        _Pair(key=name.strip("_-. ") or name, images=p.images, mask=p.mask)
        for name, p in zip(names, pairs, strict=True)
    ]


def _key(path: Path, folder: Path, role: re.Pattern[str]) -> str:
    relative = path.relative_to(folder)
    return str(relative.parent / role.sub("", image_stem(path)))


def _case(pair: _Pair, example: _Pair) -> CaseFiles:
    """Return the case with the paths that it should have: where a file is missing, a name like the example's."""
    images, mask = pair.images, pair.mask
    if not images and mask is not None:
        images = (example.images[0].parent / f"{pair.key}{image_ending(example.images[0])}",)
    if mask is None and example.mask is not None:
        mask = example.mask.parent / f"{pair.key}{image_ending(example.mask)}"
    return CaseFiles(case_id=pair.key, patient_id=pair.key, images=images, labels=mask)


def _unlabelled(root: Path) -> tuple[CaseFiles, ...]:
    folder = _folder(root, TEST_FOLDERS)
    images = visible_images(folder) if folder else []
    return tuple(CaseFiles(case_id=image_stem(p), patient_id=image_stem(p), images=(p,)) for p in images)


def _folder(root: Path, names: Iterable[str]) -> Path | None:
    present = {path.name.casefold(): path for path in root.iterdir() if path.is_dir()}
    return next((present[name] for name in names if name in present), None)


def _declared(root: Path) -> Declaration | None:
    """Return dataset.json, or labels.json ({"liver": 1} with or without background) in its form."""
    if (root / "dataset.json").is_file():
        return read_declaration(root / "dataset.json")
    if not (root / "labels.json").is_file():
        return None
    declaration = read_declaration(root / "labels.json")
    labels = declaration.content.get("labels", declaration.content)
    names_zero = isinstance(labels, dict) and (0 in labels.values() or "0" in labels)
    declaration.content = {
        **(declaration.content if "labels" in declaration.content else {}),
        "labels": labels if names_zero or not isinstance(labels, dict) else {"background": 0, **labels},
    }
    return declaration


def _scheme(root: Path, masks: list[Path], repairs: frozenset[str]) -> LabelScheme:
    declaration = _declared(root)
    if declaration is not None and "labels" in declaration.content:
        scheme = declared_scheme(declaration)
        declaration.finish()
        return scheme
    found: set[int] = set()
    for values in map(_label_values, masks):
        found |= {1} if values <= {0, BINARY_WHITE} and BINARY_WHITE in values else values
    foreground = sorted(found - {0})
    if UNDECLARED_TO_BACKGROUND in repairs:
        foreground = [value for i, value in enumerate(foreground, start=1) if value == i]
    return _found_scheme(root, foreground)


def _label_values(path: Path) -> set[int]:
    """Return the whole numbers that a mask holds; an unreadable mask holds none here and is a fault of the verifier."""
    try:
        array = read_mask(path).array
    except InputError:
        return set()
    values = np.unique(array)
    return {int(v) for v in values[np.isfinite(values)] if v == int(v)}


def _found_scheme(root: Path, values: list[int]) -> LabelScheme:
    if not values:
        raise DatasetError(f"{root}: expected masks with foreground; every mask that can be read is empty.")
    if len(values) > MOST_LABELS:
        raise DatasetError(
            f"{root}: expected classes in the masks; found {len(values)} different values, which look like instance "
            "numbers. Give masks whose values are classes."
        )
    if values != list(range(1, len(values) + 1)):
        raise DatasetError(
            f"{root}: expected mask values 1, 2, 3, ... without gaps; found {values}. Change the values in the masks, "
            'or write a labels.json such as {"liver": 1, "spleen": 2} with every value up to the highest, or use '
            f"`--repair {UNDECLARED_TO_BACKGROUND}` to keep those before the first gap. "
            f"Masks of 0 and 255 alone need only `--repair {MAP_255_TO_1}`."
        )
    names = tuple(f"label_{value}" for value in values)
    _log.info("%s: no labels.json; labels found in the masks: %s", root, ", ".join(names))
    return LabelScheme.simple(*names)


def _channels(root: Path, images: tuple[Path, ...]) -> tuple[str, ...]:
    """Return channel names: as declared, R G B for colour pictures, CT where name or values say so, else numbers."""
    declaration = _declared(root)
    if declaration is not None and ("channel_names" in declaration.content or "modality" in declaration.content):
        names = declared_channels(declaration)
        declaration.finish()
        return names
    channels = [channel for path in images for channel in _read_channels(path)]
    if len(images) == 1 and len(channels) == 3 and channels[0].array.dtype == np.uint8:
        return ("R", "G", "B")
    named_ct = any(_CT_TOKEN.search(image_stem(path)) for path in images)
    if len(channels) == 1:
        return ("CT",) if named_ct or _looks_like_ct(channels[0]) else ("image",)
    return tuple(f"channel_{i}" for i in range(len(channels)))


def _read_channels(path: Path) -> list[Image]:
    image = read_file(path)
    return [Image(array=image.array[i : i + 1], grid=image.grid) for i in range(image.channels)]


def _looks_like_ct(image: Image) -> bool:
    low, high = float(image.array.min()), float(image.array.max())
    whole = np.issubdtype(image.array.dtype, np.integer) or bool(np.all(np.rint(image.array) == image.array))
    return whole and low <= CT_LOWEST and high >= CT_HIGHEST
