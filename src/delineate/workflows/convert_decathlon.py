"""A task of the Medical Segmentation Decathlon becomes a dataset in nnU-Net's raw folder."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Unpack

from delineate.errors import DatasetError, UsageError
from delineate.execution import Watched, atomic_path, map_items
from delineate.formats.datasets.convert_decathlon import (
    IMAGE_FOLDERS,
    LABEL_FOLDER,
    decathlon_files,
    decathlon_task,
    nnunet_declaration,
    split_channels,
    write_declaration,
)
from delineate.formats.nnunet.workspace import RAW, NnunetDataset, NnunetFolders, dataset_names


def convert_decathlon(
    source: Path,
    folders: NnunetFolders,
    *,
    number: int | None = None,
    workers: int = 1,
    **watched: Unpack[Watched],
) -> NnunetDataset:
    """Write ``nnUNet_raw/DatasetXXX_Name``; it appears whole or not at all.

    Parameters
    ----------
    source
        The task's folder, ``TaskXX_Name``.
    folders
        Where to write, and where to look whether the number is taken.
    number
        Of the new dataset; None: the task's.
    workers
        Images worked on at a time.
    watched
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    UsageError
        If the number is taken, or there is no raw folder.
    DatasetError
        If the task's folder has faults, or images cannot be read; names all of them.
    Interrupted
        If a stop was requested; nothing is left.
    """
    folders.require(RAW)
    task, name = decathlon_task(source)
    wanted = task if number is None else number
    if taken := dataset_names(folders, wanted):
        raise UsageError(
            f"The dataset number {wanted} is taken by {', '.join(taken)}. Choose another with -overwrite_id."
        )
    place = NnunetDataset(name=f"Dataset{wanted:03d}_{name}", folders=folders)
    declaration, files = nnunet_declaration(source), decathlon_files(source)
    with atomic_path(place.raw) as unfinished:
        for part in (*IMAGE_FOLDERS, LABEL_FOLDER):
            (unfinished / part).mkdir(parents=True)
        for mask in files[LABEL_FOLDER]:
            shutil.copyfile(mask, unfinished / LABEL_FOLDER / mask.name)
        images = [path for part in IMAGE_FOLDERS for path in files[part]]
        split = partial(_split, unfinished)
        outcomes = map_items(split, images, what="convert", workers=workers, backend="threads", **watched)
        if failures := [f"{o.item.name}: {o.error}" for o in outcomes if o.error is not None]:
            raise DatasetError(f"{len(failures)} image(s) of {source} cannot be converted.", failures)
        write_declaration(unfinished, declaration)
    return place


def _split(target: Path, image: Path) -> None:
    split_channels(image, target / image.parent.name)
