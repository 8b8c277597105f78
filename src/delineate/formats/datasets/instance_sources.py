"""Annotations of objects as other programs and data sets store them, read into pictures with numbered objects.

    masks      {id}/images/*.png with {id}/masks/*.png, one object per mask (Data Science Bowl 2018)
    hovernet   {id}.npy, H x W x 4 or 5: colour, instance, type (patches of HoVer-Net)
    mat        Images/{id}.png with Labels/{id}.mat: inst_map, type_map (CoNSeP, Kumar, CPM-17)
    monuseg    {id}.tif with {id}.xml: regions of vertices (Aperio ImageScope)
    geojson    {id}.png with {id}.geojson: polygons with a classification (QuPath)
    coco       one JSON with images, annotations (polygons or run lengths) and categories

Polygons are in pixels from the picture's upper left corner. Nothing that is read is executed: .npy without pickles,
.mat through scipy's reader.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from delineate.errors import DatasetError, DelineateError, LabelError
from delineate.formats.datasets.instance_dataset import colours_of
from delineate.formats.images import read_file, read_mask
from delineate.formats.magic import image_ending, image_stem
from delineate.masks.drawn_objects import (
    DrawnObjects,
    PlacedMask,
    mask_of_polygons,
    mask_of_runs,
    number_objects,
    runs_of_text,
    trimmed,
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReadCase:
    """A picture with its objects."""

    picture: NDArray[Any]
    """(y, x, 1 or 3)."""
    instances: NDArray[np.int32]
    """(y, x), 0 background."""
    types: NDArray[np.int64] | None
    """(largest number + 1,) type of every object; 0: not told."""
    remarks: tuple[str, ...] = ()
    """What had to be decided, or is odd."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SourceCase:
    """A picture that can be read."""

    case_id: str
    read: Callable[[], ReadCase]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InstanceSourceFolder:
    """A folder of annotated pictures in one of the forms above."""

    kind: str
    cases: tuple[SourceCase, ...]
    type_names: tuple[str, ...]
    """Of types 1, 2, ...; empty where the files do not name them."""


def open_instance_source(folder: Path) -> InstanceSourceFolder:
    """Recognise the form of a folder; pictures are not read yet.

    Raises
    ------
    DatasetError
        If no form fits.
    """
    for opens in (_coco, _mask_folders, _arrays, _mat, _monuseg, _geojson):
        found = opens(folder) if folder.is_dir() else None
        if found is not None:
            return found
    forms = [line.strip() for line in (__doc__ or "").splitlines() if line.startswith("    ")]
    raise DatasetError(f"{folder}: expected annotated pictures in one of these forms:", forms)


# --- one mask per object ----------------------------------------------------------------------------------------------


def _mask_folders(folder: Path) -> InstanceSourceFolder | None:
    cases = sorted(path for path in folder.iterdir() if (path / "images").is_dir() and (path / "masks").is_dir())
    if not cases:
        return None
    return InstanceSourceFolder(
        kind="masks",
        cases=tuple(SourceCase(case_id=path.name, read=lambda path=path: _read_masks(path)) for path in cases),  # type: ignore[misc]
        type_names=(),
    )


def _read_masks(case: Path) -> ReadCase:
    pictures = _images(case / "images")
    if len(pictures) != 1:
        raise LabelError(f"{case / 'images'}: expected one picture; found {len(pictures)}.")
    picture = colours_of(read_file(pictures[0]).array, pictures[0])
    masks, odd = [], []
    for path in _images(case / "masks"):
        array = read_mask(path).array[0]
        if array.shape != picture.shape[:2]:
            raise LabelError(f"{path}: expected the size of the picture, {picture.shape[:2]}; found {array.shape}.")
        if len(np.unique(array)) > 2:
            odd.append(f"{path.name} has more than two values; every one but 0 was taken for the object")
        masks.append(trimmed(array))
    drawn = number_objects(masks, picture.shape[:2])
    return ReadCase(picture=picture, instances=drawn.instances, types=None, remarks=(*odd, *_remarks(drawn)))


# --- arrays -----------------------------------------------------------------------------------------------------------


def _arrays(folder: Path) -> InstanceSourceFolder | None:
    files = sorted(folder.glob("*.npy"))
    if not files:
        return None
    return InstanceSourceFolder(
        kind="hovernet",
        cases=tuple(SourceCase(case_id=path.stem, read=lambda path=path: _read_array(path)) for path in files),  # type: ignore[misc]
        type_names=(),
    )


def _read_array(path: Path) -> ReadCase:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise LabelError(f"{path}: expected an array without pickled objects ({error}).") from error
    if array.ndim != 3 or array.shape[2] not in (4, 5):
        raise LabelError(f"{path}: expected height x width x 4 (colour, instance) or 5 (and type); got {array.shape}.")
    instances = _whole(array[..., 3], path)
    picture = array[..., :3]
    if picture.min() < 0 or picture.max() > 255:
        raise LabelError(f"{path}: expected colours from 0 to 255; found {picture.min():g} to {picture.max():g}.")
    types, remarks = None, tuple[str, ...]()
    if array.shape[2] == 5:
        types, remarks = types_of_pixels(instances, _whole(array[..., 4], path).astype(np.int64))
    return ReadCase(picture=picture.astype(np.uint8), instances=instances, types=types, remarks=remarks)


def _mat(folder: Path) -> InstanceSourceFolder | None:
    labels = next((folder / name for name in ("Labels", "labels") if (folder / name).is_dir()), folder)
    images = next((folder / name for name in ("Images", "images") if (folder / name).is_dir()), folder)
    return _beside("mat", labels, ".mat", images, _read_mat)


def _read_mat(path: Path, picture: NDArray[Any]) -> ReadCase:
    from scipy.io import loadmat

    try:
        content = loadmat(path)
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        raise LabelError(f"{path}: expected a MATLAB file up to version 7.2 ({error}).") from error
    if "inst_map" not in content:
        known = ", ".join(name for name in content if not name.startswith("__"))
        raise LabelError(f"{path}: expected the variable inst_map; found {known or 'nothing'}.")
    instances = _whole(np.asarray(content["inst_map"]), path)
    _require_size(path, picture, instances.shape)
    types, remarks = None, tuple[str, ...]()
    if "type_map" in content:
        types, remarks = types_of_pixels(instances, _whole(np.asarray(content["type_map"]), path).astype(np.int64))
    return ReadCase(picture=picture, instances=instances, types=types, remarks=remarks)


# --- polygons ---------------------------------------------------------------------------------------------------------


def _monuseg(folder: Path) -> InstanceSourceFolder | None:
    labels = next((folder / name for name in ("Annotations", "annotations") if (folder / name).is_dir()), folder)
    images = next((folder / name for name in ("Tissue Images", "Images", "images") if (folder / name).is_dir()), folder)
    return _beside("monuseg", labels, ".xml", images, _read_monuseg)


def _read_monuseg(path: Path, picture: NDArray[Any]) -> ReadCase:
    try:
        root = ElementTree.parse(path).getroot()
        regions = [
            np.array([(float(v.attrib["Y"]), float(v.attrib["X"])) for v in region.iter("Vertex")]).reshape(-1, 2)
            for region in root.iter("Region")
        ]
    except (ElementTree.ParseError, KeyError, ValueError, OSError) as error:
        raise LabelError(f"{path}: expected regions of vertices with X and Y ({error}).") from error
    shape = (picture.shape[0], picture.shape[1])
    drawn = number_objects([mask_of_polygons([region], shape) for region in regions], shape)
    return ReadCase(picture=picture, instances=drawn.instances, types=None, remarks=_remarks(drawn))


def _geojson(folder: Path) -> InstanceSourceFolder | None:
    files = sorted(folder.rglob("*.geojson"))
    names: set[str] = set()
    for path in files:
        names |= {name for name in map(_class_of, _features(path)) if name}
    ordered = tuple(sorted(names))
    images = folder / "images" if (folder / "images").is_dir() else folder
    return _beside(
        "geojson", folder, ".geojson", images, lambda path, picture: _read_geojson(path, picture, ordered), ordered
    )


def _read_geojson(path: Path, picture: NDArray[Any], names: tuple[str, ...]) -> ReadCase:
    shape, masks, kinds = (picture.shape[0], picture.shape[1]), list[PlacedMask](), [0]
    skipped = 0
    for feature in _features(path):
        rings = _rings(feature, path)
        if not rings:
            skipped += 1
            continue
        masks.append(mask_of_polygons(rings, shape))
        name = _class_of(feature)
        kinds.append(names.index(name) + 1 if name in names else 0)
    drawn = number_objects(masks, shape)
    remarks = [f"{skipped} shapes are no polygons and were left out"] if skipped else []
    return ReadCase(
        picture=picture,
        instances=drawn.instances,
        types=np.array(kinds, dtype=np.int64) if names else None,
        remarks=(*remarks, *_remarks(drawn)),
    )


def _features(path: Path) -> list[Mapping[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        features = content["features"] if isinstance(content, dict) else content
        return [feature for feature in features if isinstance(feature, dict)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabelError(f"{path}: expected a GeoJSON FeatureCollection ({error}).") from error


def _rings(feature: Mapping[str, Any], path: Path) -> list[NDArray[np.float64]]:
    """Return the rings of the nucleus of a cell, else of the shape; none if it is no polygon."""
    geometry = feature.get("nucleusGeometry") or feature.get("geometry") or {}
    kind, coordinates = geometry.get("type"), geometry.get("coordinates", [])
    polygons = {"Polygon": [coordinates], "MultiPolygon": coordinates}.get(str(kind), [])
    try:
        return [np.array(ring, dtype=np.float64)[:, 1::-1] for polygon in polygons for ring in polygon]
    except (ValueError, IndexError, TypeError) as error:
        raise LabelError(f"{path}: a polygon has no rings of (x, y) ({error}).") from error


def _class_of(feature: Mapping[str, Any]) -> str:
    told = (feature.get("properties") or {}).get("classification") or {}
    if isinstance(told, str):
        return told
    return str(told.get("name") or ": ".join(told.get("names") or ()))


# --- COCO -------------------------------------------------------------------------------------------------------------


def _coco(folder: Path) -> InstanceSourceFolder | None:
    for path in sorted(folder.glob("*.json")) + sorted(folder.glob("annotations/*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and {"images", "annotations"} <= set(content):
            return _coco_of(path, folder, content)
    return None


def _coco_of(path: Path, folder: Path, content: Mapping[str, Any]) -> InstanceSourceFolder:
    categories = sorted(content.get("categories", []), key=lambda category: int(category["id"]))
    numbers = {int(category["id"]): index for index, category in enumerate(categories, start=1)}
    by_image: dict[Any, list[Mapping[str, Any]]] = {}
    for annotation in content["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    files = {file.name: file for file in sorted(folder.rglob("*")) if image_ending(file)}
    cases = []
    for image in content["images"]:
        name, mine = Path(str(image["file_name"])).name, by_image.get(image["id"], [])

        def read(name: str = name, mine: Sequence[Mapping[str, Any]] = mine) -> ReadCase:
            if name not in files:
                raise LabelError(f"{path}: the picture {name} is not below {folder}.")
            return _read_coco(path, colours_of(read_file(files[name]).array, files[name]), mine, numbers)

        cases.append(SourceCase(case_id=image_stem(Path(name)), read=read))
    names = tuple(str(category["name"]) for category in categories)
    return InstanceSourceFolder(kind="coco", cases=tuple(cases), type_names=names if len(names) > 1 else ())


def _read_coco(
    path: Path, picture: NDArray[Any], annotations: Sequence[Mapping[str, Any]], numbers: Mapping[int, int]
) -> ReadCase:
    shape, masks, kinds, crowds = (picture.shape[0], picture.shape[1]), list[PlacedMask](), [0], 0
    for annotation in annotations:
        if annotation.get("iscrowd"):
            crowds += 1
            continue
        masks.append(_coco_mask(path, annotation, shape))
        kinds.append(numbers.get(int(annotation.get("category_id", -1)), 0))
    drawn = number_objects(masks, shape)
    remarks = [f"{crowds} crowds (several objects in one) were left out"] if crowds else []
    types = np.array(kinds, dtype=np.int64) if len(numbers) > 1 else None
    return ReadCase(picture=picture, instances=drawn.instances, types=types, remarks=(*remarks, *_remarks(drawn)))


def _coco_mask(path: Path, annotation: Mapping[str, Any], shape: tuple[int, int]) -> PlacedMask:
    shown = annotation.get("segmentation")
    try:
        if isinstance(shown, dict):
            size = tuple(shown["size"])
            if size != shape:
                raise LabelError(f"run lengths are of a plane of {size}; the picture has {shape}")
            counts = shown["counts"]
            return mask_of_runs(runs_of_text(counts) if isinstance(counts, str) else counts, shape)
        parts = [mask_of_polygons([np.array(p, dtype=np.float64).reshape(-1, 2)[:, ::-1]], shape) for p in shown or ()]
    except (LabelError, KeyError, TypeError, ValueError) as error:
        raise LabelError(f"{path}: annotation {annotation.get('id')}: {error}.") from error
    return parts[0] if len(parts) == 1 else _union(parts, shape)


def _union(parts: Sequence[PlacedMask], shape: tuple[int, int]) -> PlacedMask:
    plane = np.zeros(shape, dtype=bool)
    for part in parts:
        plane[part.top : part.top + part.mask.shape[0], part.left : part.left + part.mask.shape[1]] |= part.mask
    return trimmed(plane)


# --- what they share --------------------------------------------------------------------------------------------------


def _beside(
    kind: str,
    labels: Path,
    ending: str,
    images: Path,
    read: Callable[[Path, NDArray[Any]], ReadCase],
    type_names: tuple[str, ...] = (),
) -> InstanceSourceFolder | None:
    """Return annotation files with the pictures of the same stem."""
    files = sorted(path for path in labels.rglob(f"*{ending}"))
    if not files:
        return None
    pictures = {image_stem(path): path for path in sorted(images.rglob("*")) if image_ending(path)}

    def reader(path: Path) -> Callable[[], ReadCase]:
        def read_both() -> ReadCase:
            if path.stem not in pictures:
                raise LabelError(f"{path}: no picture of this name lies in {images}.")
            return read(path, colours_of(read_file(pictures[path.stem]).array, pictures[path.stem]))

        return read_both

    cases = tuple(SourceCase(case_id=path.stem, read=reader(path)) for path in files)
    return InstanceSourceFolder(kind=kind, cases=cases, type_names=type_names)


def types_of_pixels(
    instances: NDArray[np.int32], kinds: NDArray[np.int64]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the most frequent type of every object, and what disagrees: pixels of other types, objects without one.

    Parameters
    ----------
    instances, kinds
        (y, x): object numbers and type numbers, 0 for none.

    Raises
    ------
    LabelError
        If the two have different sizes.
    """
    if instances.shape != kinds.shape:
        raise LabelError(f"Types and instances need one size; got {kinds.shape} and {instances.shape}.")
    width = int(kinds.max(initial=0)) + 1
    rows = int(instances.max(initial=0)) + 1
    votes = np.bincount(instances.ravel() * width + kinds.ravel(), minlength=rows * width).reshape(rows, width)
    present, typed = votes.sum(axis=1) > 0, votes.copy()
    typed[:, 0] = 0
    types = np.where(typed.sum(axis=1) > 0, typed.argmax(axis=1), 0).astype(np.int64)
    types[0], present[0] = 0, False
    disagree = int((votes[1:].sum(axis=1) - votes[np.arange(1, rows), types[1:]]).sum())
    outside, without = int(votes[0, 1:].sum()), int((present & (types == 0)).sum())
    told = (
        (disagree, "pixels have another type than most of their object"),
        (outside, "pixels have a type but belong to no object"),
        (without, "objects have no type"),
    )
    return types, tuple(f"{count} {what}" for count, what in told if count)


def read_all(source: InstanceSourceFolder) -> Iterator[tuple[str, ReadCase | DelineateError]]:
    """Yield every case, or why it cannot be read."""
    for case in source.cases:
        try:
            yield case.case_id, case.read()
        except DelineateError as error:
            yield case.case_id, error


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if image_ending(path) and not path.name.startswith("."))


def _whole(values: NDArray[Any], path: Path) -> NDArray[np.int32]:
    rounded = np.rint(values)
    if not np.array_equal(rounded, values) or values.min(initial=0) < 0:
        raise LabelError(f"{path}: expected whole numbers from 0 for objects and types; found others.")
    whole: NDArray[np.int32] = rounded.astype(np.int32)
    return whole


def _require_size(path: Path, picture: NDArray[Any], found: tuple[int, ...]) -> None:
    if picture.shape[:2] != found:
        raise LabelError(f"{path}: expected the size of the picture, {picture.shape[:2]}; found {found}.")


def _remarks(drawn: DrawnObjects) -> tuple[str, ...]:
    remarks = []
    if drawn.overlapping:
        remarks.append(f"{drawn.overlapping} pixels belong to several objects; the smallest one got them")
    if drawn.hidden:
        remarks.append(f"{len(drawn.hidden)} objects have no pixel of their own and were left out")
    return tuple(remarks)
