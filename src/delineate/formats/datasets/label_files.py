"""Folders of label maps: which file belongs to which case, and how their values are read.

The rules for values are few and each one that changes something is told: a map of nothing but 0 and 255 is a binary
mask where there is one structure of value 1; values may be renamed on request; a value that nobody declared is never
dropped in silence. Knows files and values; measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.case import Structure
from delineate.errors import DatasetError
from delineate.formats.datasets.dataset import Dataset, visible_images
from delineate.formats.datasets.declaration import declared_scheme, read_declaration
from delineate.formats.datasets.folder_pairs import IMAGE_ENDINGS, MASK_ENDINGS, MOST_LABELS
from delineate.formats.datasets.patients import patients_of
from delineate.formats.datasets.repairs import (
    BINARY_WHITE,
    GEOMETRY_FROM_IMAGE,
    UNDECLARED_TO_BACKGROUND,
    is_black_and_white,
    repaired_values,
    with_grid,
)
from delineate.formats.images import read_file, read_mask
from delineate.formats.label_table import read_label_table
from delineate.formats.magic import image_ending, image_stem
from delineate.formats.raster import PICTURE_ENDINGS, TIFF_ENDINGS, has_spacing_file
from delineate.geometry.grid import Grid

MOST_COUNTED = 1 << 16
"""Values below this are counted in a table; larger ones by sorting."""

FIRST_CHANNEL = "_0000"
"""What nnU-Net's images end in; predictions that are named like their image have it too."""

DECLARATIONS = ("dataset.json", "labels.json")
"""Files that name the values of the label maps in their folder or in the folder above it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceFiles:
    """The reference label map of one case."""

    case_id: str
    patient_id: str
    labels: Path
    images: tuple[Path, ...] = ()
    """The image's channels, for pictures; empty if only label maps are known."""
    part: str = "reference"
    """``training`` or ``test`` in a dataset that has both."""


@dataclass(frozen=True, kw_only=True, slots=True)
class References:
    """Reference label maps and what their values mean."""

    name: str
    structures: tuple[Structure, ...]
    ignore: int | None = None
    """Reference voxels of this value do not count."""
    cases: tuple[ReferenceFiles, ...]
    modality: str | None = None
    """Name of the image's first channel, if it is known."""
    repairs: frozenset[str] = frozenset()
    notices: tuple[str, ...] = ()
    """Rules that were used to understand the folder, for the reader."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelRules:
    """How the values of a label map are read."""

    declared: frozenset[int]
    """Foreground values that a structure has, and the ignore value."""
    renamed: tuple[tuple[int, int], ...] = ()
    """Values of the file and what they are read as."""
    repairs: frozenset[str] = frozenset()

    @property
    def binary(self) -> bool:
        """Whether 0/255 masks are read as 0/1: the only structure has the value 1."""
        return self.declared == {1}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReadLabels:
    """A label map as read by the rules."""

    array: NDArray[Any]
    """``(z, y, x)`` or ``(y, x)``, an integer dtype; undeclared values are 0."""
    grid: Grid
    placed: bool
    """Whether the file says where its voxels lie and how large they are."""
    white: bool
    """Whether 255 was read as 1."""
    undeclared: Mapping[int, int] = field(default_factory=dict)
    """Voxels per value that is not declared."""


def references_of(dataset: Dataset) -> References:
    """Return the references of a dataset's training and test cases."""
    parts = (("training", dataset.training), ("test", dataset.testing))
    return References(
        name=dataset.name,
        structures=dataset.scheme.structures,
        ignore=dataset.scheme.ignore,
        cases=tuple(
            ReferenceFiles(case_id=c.case_id, patient_id=c.patient_id, labels=c.labels, images=c.images, part=part)
            for part, cases in parts
            for c in cases
            if c.labels is not None
        ),
        modality=dataset.channel_names[0],
        repairs=dataset.repairs,
    )


def open_label_folder(folder: Path, structures: tuple[Structure, ...] = ()) -> References:
    """Return the references of a plain folder of label maps, one file per case.

    What the values mean is taken from ``structures``, else from ``dataset.json`` or ``labels.json`` in the folder or
    above it, else from the files: every value becomes a structure, named by it.

    Raises
    ------
    DatasetError
        If the folder holds no label maps, two files have one name, the declaration has faults, or the values cannot be
        classes.
    """
    files = label_files(folder)
    if not files:
        raise DatasetError(f"{folder}: expected label maps such as case_1.nii.gz or case_1.png; found none.")
    patients = patients_of(folder, list(files))
    declared, ignore, notices = _declared(folder) if not structures else (structures, None, ())
    if not declared:
        declared, notices = _found_structures(folder, list(files.values()))
    return References(
        name=folder.resolve().name,
        structures=declared,
        ignore=ignore,
        cases=tuple(
            ReferenceFiles(case_id=case, patient_id=patients[case], labels=path) for case, path in files.items()
        ),
        notices=notices,
    )


def label_files(folder: Path) -> dict[str, Path]:
    """Return the label maps of a folder by the names of their cases.

    Files of the folder itself are called by their stems. If there are none, those below it are: by the folder of each
    if no folder has two (``{id}/segmentation.nii.gz``), else by their stems.

    Raises
    ------
    DatasetError
        If two files have one name; names all of them.
    """
    found = visible_images(folder)
    direct = [path for path in found if path.parent == folder]
    own_folders = not direct and len({path.parent for path in found}) == len(found)
    by_stem: dict[str, list[Path]] = {}
    for path in direct or found:
        by_stem.setdefault(path.parent.name if own_folders else image_stem(path), []).append(path)
    faults = [
        f"{stem}: {', '.join(str(p.relative_to(folder)) for p in paths)}"
        for stem, paths in by_stem.items()
        if len(paths) > 1
    ]
    if faults:
        raise DatasetError(f"{folder}: expected one label map per case; found several of one name.", faults)
    return {stem: paths[0] for stem, paths in sorted(by_stem.items())}


def same_case(stem: str) -> str:
    """Return a file's stem without words such as ``_seg`` or ``_mask`` and the number of the first channel."""
    bare = stem.removesuffix(FIRST_CHANNEL)
    return IMAGE_ENDINGS.sub("", MASK_ENDINGS.sub("", bare)).strip("_-. ") or stem


def read_by(rules: LabelRules, path: Path, images: Sequence[Path] = ()) -> ReadLabels:
    """Read a label map by the rules.

    Parameters
    ----------
    rules
        How values are read.
    path
        The file.
    images
        The case's image, from which the geometry is taken where the repair ``geometry-from-image`` is wanted.

    Raises
    ------
    ImageReadError
        If the file is missing, empty, truncated, damaged, or not an image.
    LabelError
        If a value is not a whole number, or colours are stored instead of values.
    """
    mask = read_mask(path)
    if GEOMETRY_FROM_IMAGE in rules.repairs and images:
        mask = with_grid(mask, read_file(images[0]).grid, str(path), rules.repairs)
    array = repaired_values(mask.array[0], str(path), rules.repairs)
    white = rules.binary and is_black_and_white(array)
    if white:
        array = np.asarray(array == BINARY_WHITE, np.uint8)
    array = _renamed(array, rules.renamed)
    undeclared = {v: n for v, n in value_counts(array).items() if v and v not in rules.declared}
    if undeclared:
        array = np.where(np.isin(array, list(undeclared)), 0, array).astype(array.dtype)
    told = {} if UNDECLARED_TO_BACKGROUND in rules.repairs else undeclared
    return ReadLabels(array=array, grid=mask.grid, placed=is_placed(path), white=white, undeclared=told)


def value_counts(array: NDArray[Any]) -> dict[int, int]:
    """Return how many voxels hold each value of an integer array of any shape."""
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= MOST_COUNTED:
        values, counts = np.unique(array, return_counts=True)
        return {int(v): int(n) for v, n in zip(values, counts, strict=True)}
    total = np.zeros(high + 1, np.int64)
    for part in array:  # slice by slice: counting turns the values into 64 bits
        total += np.bincount(part.reshape(-1), minlength=high + 1)
    return {int(v): int(total[v]) for v in np.flatnonzero(total)}


def is_placed(path: Path) -> bool:
    """Say whether an image file tells the size of its voxels: pictures do only with a spacing file beside them."""
    return image_ending(path) not in (*PICTURE_ENDINGS, *TIFF_ENDINGS) or has_spacing_file(path)


def _renamed(array: NDArray[Any], renamed: Sequence[tuple[int, int]]) -> NDArray[Any]:
    if not renamed:
        return array
    result = array.astype(np.int32)
    for old, new in renamed:
        result[array == old] = new
    return result


def _declared(folder: Path) -> tuple[tuple[Structure, ...], int | None, tuple[str, ...]]:
    """Return structures and ignore value of a declaration beside the label maps; nothing if there is none."""
    for place in (folder, folder.resolve().parent):
        for name in DECLARATIONS:
            if (place / name).is_file():
                declaration = read_declaration(place / name)
                labels = declaration.content.get("labels", declaration.content if name == "labels.json" else None)
                if not isinstance(labels, Mapping):
                    continue
                zero = 0 in labels.values() or "0" in labels
                declaration.content = {
                    **(declaration.content if "labels" in declaration.content else {}),
                    "labels": labels if zero else {"background": 0, **labels},
                }
                scheme = declared_scheme(declaration)
                declaration.finish()
                return scheme.structures, scheme.ignore, (f"Structures as {place / name} declares them.",)
    return (), None, ()


def _found_structures(folder: Path, files: Sequence[Path]) -> tuple[tuple[Structure, ...], tuple[str, ...]]:
    """Return one structure per value of the files, and what was understood."""
    rules = LabelRules(declared=frozenset())
    values: set[int] = set()
    for path in files:
        found = set(read_by(rules, path).undeclared)
        values |= {1} if found == {BINARY_WHITE} else found
    if not values:
        raise DatasetError(f"{folder}: expected label maps with foreground; all {len(files)} are empty.")
    if len(values) > MOST_LABELS or min(values) < 0:
        raise DatasetError(
            f"{folder}: expected values that are classes; found {len(values)} different ones from {min(values)} to "
            f"{max(values)}, which look like instance numbers. Name the structures with `--labels liver=1 tumour=2`."
        )
    names = read_label_table(files[0])
    if all(names.get(value) for value in values) and len({names[value] for value in values}) == len(values):
        named = tuple(Structure(name=names[value], values=(value,)) for value in sorted(values))
        return named, (f"Structures as the table in the header of {files[0].name} names them.",)
    words = (
        "No dataset.json or labels.json names the values of the references; structures are named by their value "
        "(name them with --labels liver=1 ...)."
    )
    return tuple(Structure(name=f"label {value}", values=(value,)) for value in sorted(values)), (words,)
