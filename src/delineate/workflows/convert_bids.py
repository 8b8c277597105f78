"""A BIDS folder becomes a dataset in nnU-Net's raw layout, with a table of its cases."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from delineate.case import LabelMap
from delineate.errors import DatasetError, DelineateError, LabelError, UsageError
from delineate.execution import Watched, atomic_path, map_items
from delineate.formats.datasets import Dataset, open_dataset
from delineate.formats.datasets.bids import BidsCase, BidsWish, CaseColumns, MaskSource, case_columns, select_bids
from delineate.formats.datasets.merge_masks import (
    MaskCounts,
    Merging,
    binary_mask,
    count_masks,
    merge_masks,
    plan_merging,
)
from delineate.formats.images import label_ending, read_file, read_mask, write_labels
from delineate.formats.magic import image_ending
from delineate.formats.nnunet.dataset_json import dataset_json
from delineate.geometry.grid import Grid

__all__ = ["BidsConversion", "BidsWish", "MaskSource", "convert_bids"]

TABLE = "cases.csv"
"""The table of the cases beside the converted dataset."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BidsConversion:
    """What was written, and what the user should know of it."""

    dataset: Dataset
    columns: tuple[str, ...]
    """Of ``cases.csv``, after case and patient."""
    left_out: tuple[str, ...]
    """Ids of cases without any mask."""
    strays: tuple[str, ...]
    """In words: voxels of inner structures outside of the outer ones."""


def convert_bids(
    source: Path,
    out: Path,
    wish: BidsWish,
    *,
    order: Sequence[str] = (),
    hard_link: bool = False,
    workers: int = 1,
    **watched: Unpack[Watched],
) -> BidsConversion:
    """Write images, label maps, ``dataset.json`` and ``cases.csv`` to ``out``; it appears whole or not at all.

    Parameters
    ----------
    source
        Folder with ``dataset_description.json``.
    out
        The new dataset's folder, which must not exist or be empty.
    wish
        Which images and masks.
    order
        Structures in the order in which they are painted where their masks overlap; see
        :func:`~delineate.formats.datasets.merge_masks.plan_merging`.
    hard_link
        Link the images instead of copying them, where the file system can.
    workers
        Cases worked on at a time.
    watched
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    UsageError
        If ``out`` is not empty.
    DatasetError
        If the folder is not understood, or has faults; all of them are told.
    Interrupted
        If a stop was requested; nothing is left.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: expected a folder that does not exist yet or is empty. Choose another --out.")
    selection = select_bids(source, wish)
    table = case_columns(source, selection.cases)
    counts, unusable = _examine(selection.cases, wish, workers, watched)
    faults = [*selection.faults, *table.faults, *_endings(selection.cases), *unusable]
    merging = _merging(counts, wish, order, faults)
    if faults or merging is None or not selection.cases:
        raise DatasetError(f"{source}: {len(faults)} fault(s) stand against the conversion.", faults or ["no case"])
    ending = image_ending(selection.cases[0].images[0]) or ""
    with atomic_path(out) as unfinished:
        (unfinished / "imagesTr").mkdir(parents=True)
        (unfinished / "labelsTr").mkdir()
        write = partial(_write, unfinished, wish, merging, hard_link)
        outcomes = map_items(write, selection.cases, what="convert", workers=workers, backend="threads", **watched)
        if failures := [f"{o.item.case_id}: {o.error}" for o in outcomes if o.error is not None]:
            raise DatasetError(f"{len(failures)} case(s) of {source} cannot be written.", failures)
        (unfinished / TABLE).write_text(_csv(table), encoding="utf-8")
        content = dataset_json(
            channel_names=tuple(_channel_name(suffix) for suffix in selection.suffixes),
            scheme=merging.scheme,
            training_cases=len(selection.cases),
            file_ending=ending,
            name=out.resolve().name,
        )
        (unfinished / "dataset.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        if out.is_dir():
            out.rmdir()
    return BidsConversion(
        dataset=open_dataset(out), columns=table.columns, left_out=selection.left_out, strays=merging.strays
    )


def _examine(
    cases: Sequence[BidsCase], wish: BidsWish, workers: int, watched: Watched
) -> tuple[dict[str, MaskCounts], list[str]]:
    """Read every image and mask once: the counts of the sound cases, and the faults of the others."""
    outcomes = map_items(partial(_count, wish), cases, what="verify", workers=workers, backend="threads", **watched)
    counts = {o.item.case_id: o.value for o in outcomes if o.value is not None}
    faults = []
    for outcome in outcomes:
        if isinstance(outcome.error, DatasetError):
            faults += [f"{outcome.item.case_id}: {fault}" for fault in outcome.error.faults]
        elif outcome.error is not None:
            faults.append(f"{outcome.item.case_id}: {outcome.error}")
    return counts, faults


def _count(wish: BidsWish, case: BidsCase) -> MaskCounts:
    masks, _ = _masks(wish, case)
    return count_masks(masks)


def _masks(wish: BidsWish, case: BidsCase) -> tuple[dict[str, NDArray[np.bool_]], Grid]:
    """Return the masks of a case and the grid of its first image, after all files were looked at."""
    faults: list[str] = []
    grid: Grid | None = None
    for path in case.images:
        try:
            image = read_file(path)
        except DelineateError as error:
            faults.append(str(error))
            continue
        if image.channels != 1:
            faults.append(f"{path}: expected one channel; found {image.channels}. Save each channel as an image")
        grid = grid or image.grid
        faults += _differences(path, grid, image.grid)
    masks = {}
    for source in wish.sources:
        path = case.masks[source.structure]
        try:
            mask = read_mask(path)
            masks[source.structure] = binary_mask(mask.array[0], str(path), source.value)
            faults += _differences(path, grid or mask.grid, mask.grid)
        except DelineateError as error:
            faults.append(str(error))
    if faults or grid is None:
        raise DatasetError(f"{case.case_id} cannot be used.", faults)
    return masks, grid


def _differences(path: Path, expected: Grid, found: Grid) -> list[str]:
    differences = expected.differences(found)
    return [f"{path}: expected the grid of the image; found {'; '.join(differences)}"] if differences else []


def _endings(cases: Sequence[BidsCase]) -> list[str]:
    """Say which images have another ending than most; nnU-Net's layout has one for all."""
    by_ending: dict[str, list[Path]] = {}
    for path in (path for case in cases for path in case.images):
        by_ending.setdefault(image_ending(path) or "", []).append(path)
    usual = max(by_ending, key=lambda ending: len(by_ending[ending]), default="")
    return [
        f"{path}: expected the ending {usual} as of the other images; convert it"
        for ending, paths in by_ending.items()
        for path in paths
        if ending != usual
    ]


def _merging(
    counts: Mapping[str, MaskCounts], wish: BidsWish, order: Sequence[str], faults: list[str]
) -> Merging | None:
    try:
        return plan_merging(counts, [source.structure for source in wish.sources], order)
    except LabelError as error:
        faults.append(str(error))
        return None


def _write(folder: Path, wish: BidsWish, merging: Merging, hard_link: bool, case: BidsCase) -> None:
    ending = image_ending(case.images[0]) or ""
    for channel, path in enumerate(case.images):
        _place(path, folder / "imagesTr" / f"{case.case_id}_{channel:04d}{ending}", hard_link=hard_link)
    masks, grid = _masks(wish, case)
    labels = LabelMap(array=merge_masks(masks, merging), grid=grid, scheme=merging.scheme)
    write_labels(folder / "labelsTr" / f"{case.case_id}{label_ending(ending)}", labels)


def _place(source: Path, target: Path, *, hard_link: bool) -> None:
    if hard_link:
        try:
            os.link(source.resolve(), target)
        except OSError:  # another file system, or one without links
            pass
        else:
            return
    shutil.copyfile(source, target)


def _csv(table: CaseColumns) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["case", "patient", *table.columns])
    writer.writerows(table.rows)
    return stream.getvalue()


def _channel_name(suffix: str) -> str:
    """Return the channel's name; computed tomography must be called CT, which chooses its normalisation."""
    return "CT" if suffix.casefold() == "ct" else suffix
