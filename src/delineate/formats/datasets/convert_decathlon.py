"""A folder of the Medical Segmentation Decathlon as nnU-Net's raw dataset: one file per channel, nnU-Net's declaration.

Files of one channel and masks are copied byte by byte; 4-D images are split along their last axis.

References
----------
nnU-Net 2.8.1, ``dataset_conversion/convert_MSD_dataset.py``.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

from delineate.case import Image
from delineate.errors import DatasetError
from delineate.formats.datasets.declaration import Declaration, declared_channels, declared_scheme, read_declaration
from delineate.formats.images import read_file, write_image
from delineate.formats.nifti import HEADER_BYTES, parse_header

ENDING = ".nii.gz"
"""The only format of the Decathlon."""
IMAGE_FOLDERS = ("imagesTr", "imagesTs")
LABEL_FOLDER = "labelsTr"
_TASK = re.compile(r"Task(\d+)_([^_]+)")


def decathlon_task(source: Path) -> tuple[int, str]:
    """Return number and name of a task from its folder's name, ``Task05_Prostate``.

    Raises
    ------
    DatasetError
        If the folder is not called like that.
    """
    match = _TASK.fullmatch(source.resolve().name)
    if match is None:
        raise DatasetError(
            f"{source}: expected a folder called TaskXX_Name, which gives the dataset its number and name; found "
            f"'{source.resolve().name}'. Rename the folder as the Decathlon calls it."
        )
    return int(match[1]), match[2]


def decathlon_files(source: Path) -> dict[str, tuple[Path, ...]]:
    """Return the files of every folder of a task, sorted; names that begin with ``.`` or ``_`` are left out.

    Raises
    ------
    DatasetError
        If training images or masks are missing; all faults are told.
    """
    found = {
        name: tuple(sorted(path for path in (source / name).glob(f"*{ENDING}") if not path.name.startswith((".", "_"))))
        for name in (*IMAGE_FOLDERS, LABEL_FOLDER)
    }
    images, labels = ({path.name for path in found[name]} for name in ("imagesTr", LABEL_FOLDER))
    faults = [f"{name} is missing or empty" for name in ("imagesTr", LABEL_FOLDER) if not found[name]]
    faults += [f"imagesTr/{name} has no mask of its name" for name in sorted(images - labels)]
    faults += [f"labelsTr/{name} has no image of its name" for name in sorted(labels - images)]
    if faults:
        raise DatasetError(f"{source}: expected a task of the Decathlon with images and masks.", faults)
    return found


def nnunet_declaration(source: Path) -> dict[str, Any]:
    """Return nnU-Net's ``dataset.json`` for a task: the task's own without lists of files, labels by name.

    Raises
    ------
    DatasetError
        If the task's ``dataset.json`` is missing or has faults.
    """
    declaration = read_declaration(source / "dataset.json")
    declared_channels(declaration)
    declared_scheme(declaration)
    declaration.finish()
    content = dict(declaration.content)
    labels, channels = content["labels"], _channels(declaration)
    for key in ("training", "test", "modality"):
        content.pop(key, None)
    content["labels"] = {name: int(value) for value, name in labels.items()}
    content["file_ending"] = ENDING
    content["channel_names"] = channels
    return content


def write_declaration(folder: Path, content: dict[str, Any]) -> None:
    """Write ``dataset.json``; the last file, so that a folder without it is not finished."""
    (folder / "dataset.json").write_text(json.dumps(content, indent=4), encoding="utf-8")


def split_channels(source: Path, folder: Path) -> None:
    """Write an image as one file per channel, ``{name}_0000.nii.gz`` and so on, into ``folder``.

    Raises
    ------
    ImageReadError
        If the file is damaged or no image.
    ResourceError
        If the disk is full or the folder cannot be written.
    """
    image, stem = read_file(source), source.name.removesuffix(ENDING)
    if image.channels == 1 and _axes(source) == image.grid.dims:
        shutil.copyfile(source, folder / f"{stem}_0000{ENDING}")
        return
    for channel, array in enumerate(image.array):
        write_image(folder / f"{stem}_{channel:04d}{ENDING}", Image(array=array[None], grid=image.grid))


def _axes(path: Path) -> int:
    """Return the number of axes in the file, an axis of one volume counted."""
    with gzip.open(path) as stream:
        return len(parse_header(stream.read(HEADER_BYTES), path).dim)


def _channels(declaration: Declaration) -> Any:
    return declaration.content.get("modality", declaration.content.get("channel_names"))
