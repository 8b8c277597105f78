"""Masks of several raters: which file of which folder belongs to which case, and which voxels it means.

People name and encode masks as their tool does. What is understood is a rule, not a guess: :func:`match_files` says
how names are matched, :func:`read_rater_mask` which values are the structure; what fits neither is told. Knows nothing
of agreement.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.case import Structure
from delineate.errors import DatasetError, LabelError, UsageError
from delineate.formats.datasets.dataset import visible_images
from delineate.formats.images import read_labels
from delineate.formats.magic import image_ending, image_stem
from delineate.formats.raster import PICTURE_ENDINGS, TIFF_ENDINGS, has_spacing_file
from delineate.geometry.grid import Grid

MODEL = "model"
"""Stands for the folder of predictions where raters are named."""

ROLE_WORDS = re.compile(
    r"^(?:mask|label|seg|segmentation|roi|gt|annotation|contour)s?[_\-. ]+"
    r"|[_\-. ]+(?:mask|label|seg|segmentation|roi|gt|annotation|contour)s?$",
    re.I,
)
"""What a file name may say besides the case."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RaterFiles:
    """The masks of one case."""

    case_id: str
    masks: Mapping[str, Path]
    """Rater and file, in the order of the raters."""
    prediction: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchedFiles:
    """The files of all folders by case."""

    cases: tuple[RaterFiles, ...]
    """Sorted by case id; a case may have any number of masks."""
    unmatched: tuple[Path, ...]
    """Files that belong to no case."""
    by_part: tuple[tuple[Path, str], ...]
    """Files that were matched by a part of their name, and the case."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RaterMask:
    """One file as its rater meant it."""

    structures: Mapping[str, NDArray[np.bool_]]
    """Structure and bool mask ``(z, y, x)`` or ``(y, x)``."""
    grid: Grid
    says_geometry: bool
    """Whether the file says where it lies; pictures without a spacing file do not."""
    foreground: int | None
    """Of a mask of two values: the one that is the structure."""


def rater_folders(words: Sequence[str | Path]) -> dict[str, Path]:
    """Return the raters' names and folders as they are given on a command line.

    Parameters
    ----------
    words
        One folder that holds a sub-folder per rater; or several of ``NAME=FOLDER`` or plain folders, whose names are
        the raters'.

    Raises
    ------
    UsageError
        If a folder is missing, two raters have one name, or there are fewer than two; tells all of them.
    """
    named = [_named(str(word)) for word in words]
    if len(named) == 1 and "=" not in str(words[0]) and named[0][1].is_dir():
        root = named[0][1]
        named = [(path.name, path) for path in sorted(root.iterdir()) if path.is_dir() and path.name[0] != "."]
    faults = [f"{path} is no folder" for _, path in named if not path.is_dir()]
    names = [name for name, _ in named]
    faults += [f"two folders are called {name}" for name in sorted({n for n in names if names.count(n) > 1})]
    if not faults and len(named) < 2:
        faults = [f"there is no second rater; found: {', '.join(names) or 'none'}"]
    if faults:
        raise UsageError(
            "Raters are one folder with a sub-folder per rater, or several NAME=FOLDER: " + "; ".join(faults) + "."
        )
    return dict(named)


def match_files(
    raters: Mapping[str, Path],
    predictions: Path | Mapping[str, Path | None] | None = None,
    case_ids: Sequence[str] | None = None,
) -> MatchedFiles:
    """Find the masks of every case.

    Cases are ``case_ids``, else the predictions' names; then also every name that two raters share. A file belongs to a
    case if its name without ending and without words such as ``seg`` or ``mask`` at either end is the case's; else if
    the case's name stands in it between other signs than letters and numbers (``P1_B01_final`` for ``B01``; the longest
    such name counts). Capitals do not matter.

    Parameters
    ----------
    raters
        Name and folder.
    predictions
        Folder of a model's label maps, or the label map of each case; those cases are then the only ones.
    case_ids
        If given, there are no other cases.

    Raises
    ------
    DatasetError
        If several files of one folder belong to one case; tells all such cases.
    """
    if isinstance(predictions, Mapping):
        return _with_predictions(match_files(raters, None, case_ids or list(predictions)), predictions)
    files = {name: visible_images(folder) for name, folder in raters.items()}
    predicted = visible_images(predictions) if predictions is not None else []
    known = list(case_ids) if case_ids is not None else [image_stem(path) for path in predicted]
    if case_ids is None:
        known += _shared_keys(files, known)
    found: dict[str, dict[str, list[Path]]] = {case_id: {} for case_id in sorted(known)}
    unmatched, by_part = [], []
    for name, paths in ({MODEL: predicted} | files).items():
        for path in paths:
            case_id = _case_of(path, known)
            if case_id is None:
                unmatched.append(path)
                continue
            found[case_id].setdefault(name, []).append(path)
            if image_stem(path) != case_id:
                by_part.append((path, case_id))
    _require_single(found)
    return MatchedFiles(
        cases=tuple(_files(case_id, masks) for case_id, masks in found.items()),
        unmatched=tuple(unmatched),
        by_part=tuple(by_part),
    )


def read_rater_mask(path: Path, structures: Sequence[Structure] | None, *, inverted: bool = False) -> RaterMask:
    """Read one mask as bool arrays.

    Without ``structures`` a mask holds 0 and at most one other value (1, 255, ...): that one is the structure, or 0 is
    if the mask is ``inverted``. With ``structures`` it holds label values; 0 and 255 alone mean 0 and 1 if only the
    value 1 is declared. Equal channels of a picture are one, and an alpha channel does not count.

    Raises
    ------
    ImageReadError
        If the file cannot be read.
    LabelError
        If its values are others than these, or colours, or if an inverted mask holds several structures.
    """
    labels = read_labels(path)
    values = _values(labels.array)
    says_geometry = image_ending(path) not in (*PICTURE_ENDINGS, *TIFF_ENDINGS) or has_spacing_file(path)
    foreground = next((value for value in values if value), None)
    if structures is None or _is_white(structures, values):
        if len(values) > 2 or (len(values) == 2 and values[0] != 0):
            raise LabelError(
                f"{path}: expected a mask of 0 and one other value; found {_listed(values)}. Declare what the values "
                "mean, or save the mask without grey levels."
            )
        name = structures[0].name if structures else "structure"
        masks = {name: (labels.array == 0) if inverted else (labels.array != 0)}
        foreground = 0 if inverted else foreground
    elif inverted:
        raise LabelError(f"{path}: expected 0 and 1, or 0 and 255, in an inverted mask; found {_listed(values)}.")
    else:
        masks = _declared(labels.array, values, structures, path)
    return RaterMask(structures=masks, grid=labels.grid, says_geometry=says_geometry, foreground=foreground)


def _with_predictions(matched: MatchedFiles, predictions: Mapping[str, Path | None]) -> MatchedFiles:
    cases = tuple(replace(case, prediction=predictions.get(case.case_id)) for case in matched.cases)
    return replace(matched, cases=cases)


def _named(word: str) -> tuple[str, Path]:
    name, equals, folder = word.partition("=")
    return (name, Path(folder)) if equals else (Path(word).name, Path(word))


def _require_single(found: Mapping[str, Mapping[str, Sequence[Path]]]) -> None:
    faults = [
        f"{name}: {len(paths)} files belong to case {case_id}: {paths[0]}, {paths[1]}{', ...' if paths[2:] else ''}"
        for case_id, masks in found.items()
        for name, paths in masks.items()
        if len(paths) > 1
    ]
    if faults:
        raise DatasetError(
            "Every rater may have one mask of a case. Move the others, or name the folders below.", faults
        )


def _files(case_id: str, masks: Mapping[str, Sequence[Path]]) -> RaterFiles:
    drawn = {name: paths[0] for name, paths in masks.items() if name != MODEL}
    return RaterFiles(case_id=case_id, masks=drawn, prediction=masks[MODEL][0] if MODEL in masks else None)


def _key(text: str) -> str:
    """Return a name without role words at its ends, in small letters."""
    bare, before = text.casefold(), ""
    while bare != before:
        before, bare = bare, ROLE_WORDS.sub("", bare)
    return bare


def _shared_keys(files: Mapping[str, Sequence[Path]], known: Sequence[str]) -> list[str]:
    """Return names of cases that two raters or more have and that are not known yet, spelt as the first has them."""
    spelt: dict[str, str] = {}
    owners: dict[str, set[str]] = {}
    for name, paths in files.items():
        for path in paths:
            if _case_of(path, known) is None:
                bare = _key(stem := image_stem(path))
                start = stem.casefold().find(bare)
                spelt.setdefault(bare, stem[start : start + len(bare)])
                owners.setdefault(bare, set()).add(name)
    return [spelt[bare] for bare, names in owners.items() if len(names) > 1]


def _case_of(path: Path, known: Iterable[str]) -> str | None:
    stem, bare = image_stem(path), _key(image_stem(path))
    by_name = [case_id for case_id in known if stem == case_id] or [c for c in known if _key(c) == bare]
    if by_name:
        return by_name[0]
    inside = [c for c in known if re.search(rf"(?<![0-9a-z]){re.escape(c.casefold())}(?![0-9a-z])", stem.casefold())]
    return max(inside, key=len, default=None)


def _is_white(structures: Sequence[Structure], values: Sequence[int]) -> bool:
    """Say whether a mask of 0 and 255 stands for the only structure, value 1."""
    return [s.values for s in structures] == [(1,)] and set(values) <= {0, 1, 255} and len(values) <= 2


def _values(array: NDArray[Any]) -> list[int]:
    return [int(value) for value in np.unique(array)]


def _declared(
    array: NDArray[Any], values: Sequence[int], structures: Sequence[Structure], path: Path
) -> dict[str, NDArray[np.bool_]]:
    declared = {value for structure in structures for value in structure.values} | {0}
    if unknown := [value for value in values if value not in declared]:
        raise LabelError(
            f"{path}: expected label values {_listed(sorted(declared))}; found {_listed(unknown)} as well."
        )
    return {structure.name: np.isin(array, structure.values) for structure in structures}


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:6])) + (f", ... ({len(values)} values)" if len(values) > 6 else "")
