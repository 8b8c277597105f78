"""From a label map in a file, and the DICOM series that it was drawn on, to a draft."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from delineate import __version__
from delineate.case import LabelMap, Provenance, Result, Structure
from delineate.clinical.attributes import require_identified
from delineate.clinical.coding import code_structures
from delineate.clinical.results import DraftResult
from delineate.errors import GeometryError, InputError, LabelError, UsageError
from delineate.formats.datasets.dataset import visible_images
from delineate.formats.dicom.reading import DicomVolume, read_dicom
from delineate.formats.dicom.source_series import SourceSeries
from delineate.formats.images import read_labels
from delineate.formats.magic import image_ending, image_stem
from delineate.formats.nnunet.dataset_json import scheme_from_json
from delineate.geometry.grid import Grid

NOT_STATED = "not stated"
ON_VOXELS = 0.05
"""Voxels; label maps whose voxels lie farther than this from the images' are refused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A draft that was read from files."""

    draft: DraftResult
    notices: tuple[str, ...]


def load_draft(
    labels: Path,
    images: Path,
    *,
    structures: Sequence[Structure] = (),
    series_uid: str | None = None,
    part: str | None = None,
    model: str = NOT_STATED,
) -> Loaded:
    """Return a label map and the series that it was drawn on as a draft.

    Parameters
    ----------
    labels
        An image of label values; on the series' voxels, with any order and direction of axes. Or a folder of masks,
        one image per structure named after it (or by the ``structures.csv`` beside the folder), which may overlap.
    images
        The folder of the DICOM series.
    structures
        What the values mean; none: as said beside the label map (``dataset.json``, ``structures.csv``), or unnamed.
    series_uid, part
        Which series and which volume of it, if there are several.
    model
        What made the label map, for the objects.

    Raises
    ------
    ImageReadError
        If the label map or the series cannot be read.
    GeometryError
        If the label map does not lie on the voxels of the series.
    LabelError
        If it holds negative values, or two structures have one name.
    InputError
        If there is nothing to write, or the images lack the identifiers that objects must repeat.
    """
    volume = read_dicom(images, series_uid=series_uid, part=part)
    require_identified(volume.source)
    masks: tuple[Structure, ...] = ()
    if labels.is_dir():
        if structures:
            raise UsageError("Masks in a folder are named by their files; leave --structure and --structures out.")
        found, masks = _merged_masks(labels, volume.source.grid)
        named = tuple(structure for structure in masks if structure.values)
    else:
        found = on_grid(read_labels(labels), volume.source.grid, str(labels))
        named = tuple(structures) or structures_beside(labels)
    values = [int(v) for v in np.unique(found.array) if v != 0]
    if values and values[0] < 0:
        raise LabelError(f"{labels}: label values are 0 or more; found {values[0]}. Give it a value, or make it 0.")
    notices = _findings(volume)
    if any(not structure.values for structure in masks):
        notices.append(f"empty masks were left out: {sorted({s.name for s in masks} - {s.name for s in named})}.")
    unnamed = sorted(set(values) - {v for s in named for v in s.values})
    if unnamed:
        notices.append(f"values without a name: {unnamed}; name them with --structure NAME=VALUE.")
        named = (*named, *(Structure(name=f"label {value}", values=(value,)) for value in unnamed))
    if not named:
        raise InputError(f"{labels}: holds no structure and none is named; there is nothing to write.")
    result = Result(
        case_id=labels.name, labels=found, provenance=Provenance(software=f"delineate {__version__}", model=model)
    )
    return draft_of(result, volume.source, named, notices)


def _merged_masks(folder: Path, grid: Grid) -> tuple[LabelMap, tuple[Structure, ...]]:
    """Return masks that may overlap as one label map: every combination of masks that occurs is a value of its own."""
    files = [path for path in visible_images(folder) if image_ending(path)]
    if not files:
        raise InputError(f"{folder}: expected a label map, or a folder with one mask per structure; found no image.")
    combination = np.zeros(grid.shape, dtype=np.int64)
    combinations: list[tuple[int, ...]] = [()]
    for number, file in enumerate(files):
        mask = on_grid(read_labels(file), grid, str(file)).array > 0
        combination[mask] += len(combinations)
        present, combination = np.unique(combination, return_inverse=True)
        combination = combination.reshape(grid.shape)
        both = [*combinations, *((*one, number) for one in combinations)]
        combinations = [both[int(value)] for value in present]
        if 0 not in present:  # masks that fill the whole image leave no background
            combinations, combination = [(), *combinations], combination + 1
    names = _names_of_files(folder)
    structures = tuple(
        Structure(
            name=names.get(file.name) or image_stem(file),
            values=tuple(v for v, one in enumerate(combinations) if number in one),
        )
        for number, file in enumerate(files)
    )
    return LabelMap(array=combination.astype(np.uint16), grid=grid), structures


def _names_of_files(folder: Path) -> dict[str, str]:
    """Return file name -> structure of the table that ``from-rtstruct`` and ``from-seg`` write beside masks.

    File systems do not take every name; where there is no such table the files' own names stand.
    """
    table = folder.parent / "structures.csv"
    try:
        rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError):
        return {}
    return {row["file"]: row["name"].strip() for row in rows if row.get("file") and row.get("name")}


def draft_of(
    result: Result, source: SourceSeries, structures: Sequence[Structure], notices: Sequence[str] = ()
) -> Loaded:
    """Return a result on a series as a draft with coded structures.

    Raises
    ------
    LabelError
        If two structures have one name, so that nobody could tell them apart.
    """
    twice = sorted(name for name, count in Counter(s.name for s in structures).items() if count > 1)
    if twice:
        raise LabelError(f"Several structures are called {', '.join(twice)}; give each a name of its own.")
    coding = code_structures(structures, series_uid=source.series_uid)
    draft = DraftResult(result=result, source=source, structures=coding.structures)
    told = [] if source.header.get("PatientID") else ["the images have no Patient ID, so the objects have none"]
    held = set(np.unique(result.labels.array).tolist())
    empty = [one.name for one in coding.structures if not held & set(one.values)]
    if empty:
        told.append(f"no voxel is marked as {', '.join(empty)}")
    return Loaded(draft=draft, notices=(*notices, *told, *coding.notices))


def _findings(volume: DicomVolume) -> list[str]:
    return [f"{finding.code}: {finding.words}" for finding in volume.report.findings]


def structures_beside(labels: Path) -> tuple[Structure, ...]:
    """Return the structures that a file beside a label map names; none if there is no such file.

    Raises
    ------
    InputError
        If the file cannot be understood.
    """
    for name in ("dataset.json", "structures.csv"):
        for folder in (labels.parent, labels.parent.parent):
            if (folder / name).is_file():
                return read_structures(folder / name)
    return ()


def read_structures(path: Path) -> tuple[Structure, ...]:
    """Return the structures of a ``dataset.json``, or of a table with the columns ``value`` and ``name``.

    Raises
    ------
    InputError
        If the file cannot be understood.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return scheme_from_json(json.loads(text), source=str(path)).structures
        rows = list(csv.DictReader(text.splitlines()))
        return tuple(Structure(name=row.get("name") or row["structure"], values=(int(row["value"]),)) for row in rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: expected a dataset.json with `labels`, or a table with the columns value and name ({error})."
        ) from error


def structure_of(words: str) -> Structure:
    """Return the structure of ``NAME=VALUE``, or of ``NAME=VALUE,VALUE`` for a region.

    Raises
    ------
    UsageError
        If it is not of that form.
    """
    name, _, values = words.rpartition("=")
    try:
        numbers = tuple(int(value) for value in values.split(","))
    except ValueError:
        numbers = ()
    if not name.strip() or not numbers or min(numbers) < 1:
        raise UsageError(f"A structure is NAME=VALUE, with a value from 1 on; got '{words}'.")
    return Structure(name=name.strip(), values=numbers)


def on_grid(labels: LabelMap, grid: Grid, name: str) -> LabelMap:
    """Return a label map with its axes in the order and direction of a grid; no voxel is moved or interpolated.

    Raises
    ------
    GeometryError
        If its voxels are not those of the grid.
    """
    if labels.grid.shape == grid.shape and labels.grid.matches(grid):
        return LabelMap(array=labels.array, grid=grid, scheme=labels.scheme)
    if labels.grid.dims != grid.dims:
        raise GeometryError(f"{name}: expected a label map of {grid.dims} axes; got {labels.grid.dims}.")
    between = np.linalg.inv(labels.grid.affine) @ grid.affine  # index of the grid -> index of the label map
    turn = np.round(between[:3, :3])
    order = [int(np.abs(turn[:, axis]).argmax()) for axis in range(3)]
    corners = np.array([[z, y, x, 1.0] for z in (0, 1) for y in (0, 1) for x in (0, 1)])
    corners[:, :3] *= np.array(grid.shape) - 1
    exact = np.eye(4)
    exact[:3, :3] = turn
    exact[:3, 3] = [labels.grid.shape[axis] - 1 if turn[axis].sum() < 0 else 0 for axis in range(3)]
    apart = float(np.abs((between - exact) @ corners.T).max())
    fits = sorted(order) == [0, 1, 2] and tuple(labels.array.shape[axis] for axis in order) == grid.shape
    if not fits or apart > ON_VOXELS:
        found = "; ".join(labels.grid.differences(grid)) or "other voxels"
        raise GeometryError(
            f"{name}: does not lie on the voxels of the series ({found}). Export needs a label map of that series."
        )
    turned = labels.array.transpose(order)
    flips = tuple(axis for axis in range(3) if turn[order[axis], axis] < 0)
    return LabelMap(array=np.ascontiguousarray(np.flip(turned, flips)), grid=grid, scheme=labels.scheme)
