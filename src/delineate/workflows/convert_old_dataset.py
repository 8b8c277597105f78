"""A dataset of nnU-Net v1 becomes one of nnU-Net v2: the same files, another declaration.

References
----------
nnU-Net 2.8.1, ``dataset_conversion/convert_raw_dataset_from_old_nnunet_format.py``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from delineate.errors import DatasetError, UsageError
from delineate.execution import Cancellation, atomic_path
from delineate.formats.datasets.convert_decathlon import nnunet_declaration, write_declaration
from delineate.formats.nnunet.workspace import RAW, NnunetDataset, NnunetFolders, dataset_names, number_of

NEEDED = ("imagesTr", "labelsTr")
TAKEN_ALONG = ("imagesTs", "labelsTs", "imagesVal", "labelsVal")
FORGOTTEN = ("tensorImageSize", "numTest")
"""Keys of version 1 that mean nothing in version 2."""


def convert_old_dataset(
    source: Path, name: str, folders: NnunetFolders, *, cancellation: Cancellation | None = None
) -> NnunetDataset:
    """Write ``nnUNet_raw/DatasetXXX_Name``; it appears whole or not at all.

    Parameters
    ----------
    source
        The old task's folder, with ``imagesTr``, ``labelsTr`` and ``dataset.json``.
    name
        Of the new dataset, ``DatasetXXX_Name``.
    folders
        Where to write, and where to look whether the number is taken.
    cancellation
        Who may stop it.

    Raises
    ------
    UsageError
        If the name has another form, its number is taken, or there is no raw folder.
    DatasetError
        If the old folder has faults.
    Interrupted
        If a stop was requested; nothing is left.
    """
    folders.require(RAW)
    if taken := dataset_names(folders, number_of(name)):
        raise UsageError(f"The number of {name} is taken by {', '.join(taken)}. Choose another.")
    missing = [part for part in NEEDED if not (source / part).is_dir()]
    if missing:
        raise DatasetError(
            f"{source}: expected the folder of a task of nnU-Net v1 with imagesTr and labelsTr; missing: "
            f"{', '.join(missing)}."
        )
    declaration = {key: value for key, value in nnunet_declaration(source).items() if key not in FORGOTTEN}
    place = NnunetDataset(name=name, folders=folders)
    with atomic_path(place.raw) as unfinished:
        for part in (*NEEDED, *(part for part in TAKEN_ALONG if (source / part).is_dir())):
            _copy(source / part, unfinished / part, cancellation or Cancellation())
        write_declaration(unfinished, declaration)
    return place


def _copy(source: Path, target: Path, cancellation: Cancellation) -> None:
    target.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        cancellation.check()
        if file.is_file():
            shutil.copyfile(file, target / file.name)
