"""Dataset folders: nnU-Net raw, Medical Segmentation Decathlon, and plain folders of images and masks."""

from __future__ import annotations

from pathlib import Path

from delineate.errors import DatasetError
from delineate.formats.datasets.dataset import CaseFiles, Dataset, visible_images
from delineate.formats.datasets.declaration import read_declaration
from delineate.formats.datasets.folder_pairs import open_folder_pairs
from delineate.formats.datasets.instance_dataset import is_instance_dataset
from delineate.formats.datasets.msd import open_msd
from delineate.formats.datasets.nnunet_raw import open_nnunet_raw
from delineate.formats.datasets.repairs import REPAIRS, check_repairs
from delineate.formats.datasets.verify import Fault, Verification, verified, verify_dataset

__all__ = [
    "REPAIRS",
    "CaseFiles",
    "Dataset",
    "Fault",
    "Verification",
    "open_dataset",
    "verified",
    "verify_dataset",
]

_LAYOUTS = (
    "nnU-Net: dataset.json, imagesTr/{id}_0000.nii.gz, labelsTr/{id}.nii.gz",
    'Decathlon: dataset.json with "training": [{"image": ..., "label": ...}]',
    "two folders: images/{id}.ext and labels/{id}.ext (or masks, segmentations)",
    "files beside each other: {id}_image.ext and {id}_mask.ext",
    "a folder per case: {id}/image.ext and {id}/mask.ext",
)


def open_dataset(folder: Path, *, repairs: frozenset[str] = frozenset()) -> Dataset:
    """Recognise the layout of a folder and return its cases; no voxel of a case is read yet.

    Parameters
    ----------
    folder
        The dataset's folder.
    repairs
        Names of :data:`REPAIRS` that loading applies.

    Raises
    ------
    DatasetError
        If the folder is missing, has no layout that is understood, or its dataset.json has faults.
    UsageError
        If a repair is unknown.
    """
    wanted = check_repairs(repairs)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise DatasetError(f"{folder}: expected a folder with images and masks; found {found}. Check the path.")
    if (folder / "dataset.json").is_file():
        declaration = read_declaration(folder / "dataset.json")
        if isinstance(declaration.content.get("training"), list):
            return open_msd(folder, declaration, wanted)
        if "dataset" in declaration.content or (folder / "imagesTr").is_dir():
            return open_nnunet_raw(folder, declaration, wanted)
    dataset = open_folder_pairs(folder, wanted)
    if dataset is None and is_instance_dataset(folder):
        raise DatasetError(
            f"{folder} holds pictures with numbered objects; `delineate run` plans and trains them at once, other "
            "commands are for masks in labels/."
        )
    if dataset is None:
        raise DatasetError(
            f"{folder}: this folder's layout is not understood; {_seen(folder)}. {_advice(folder)}", _LAYOUTS
        )
    return dataset


def _seen(folder: Path) -> str:
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return f"found {len(names)} entries ({shown or 'none'}) and {len(visible_images(folder))} image files below them"


def _advice(folder: Path) -> str:
    if (folder / "dataset_description.json").is_file():
        return (
            "It looks like BIDS, which does not say which derivative is the mask of what. Make a dataset of it with "
            "`delineate convert-bids FOLDER --mask NAME=ENDING -o OUT`, where ENDING is how the names of the masks end "
            "(liver=seg-manual). Understood without this are:"
        )
    return "Arrange or link the files in one of the layouts below. Understood are:"
