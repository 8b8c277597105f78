"""A dataset: which files belong to which case and patient, and what their labels mean.

The values here hold paths, not voxels; :meth:`Dataset.load` reads one case. Which folder layout it came from is decided
in the sister modules. Knows no training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from delineate.case import Case, LabelScheme
from delineate.formats.datasets.repairs import joined_channels, label_map
from delineate.formats.images import read_file, read_mask
from delineate.formats.magic import image_ending
from delineate.formats.raster import PICTURE_ENDINGS, TIFF_ENDINGS

Layout = Literal["nnunet_raw", "msd", "folder_pairs"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseFiles:
    """The files of one case."""

    case_id: str
    patient_id: str
    """Cases of one patient never fall on both sides of a split."""
    images: tuple[Path, ...]
    """One file per channel in channel order, or one file that holds all channels."""
    labels: Path | None = None
    """Reference mask, or None if nobody drew one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """A folder of cases that a layout module understood.

    The paths are those that the layout promises; whether each file is there and sound is found by
    :func:`delineate.formats.datasets.verify.verify_dataset`.
    """

    name: str
    root: Path
    layout: Layout
    channel_names: tuple[str, ...]
    """One per channel; the names choose the normalisation (``CT``) as in nnU-Net."""
    scheme: LabelScheme
    training: tuple[CaseFiles, ...]
    """Cases with reference masks, sorted by case id."""
    testing: tuple[CaseFiles, ...] = ()
    """Cases that are held out; with reference masks only if the folder has them."""
    file_ending: str
    """For example ``.nii.gz``."""
    declared_training_count: int
    """``numTraining`` of dataset.json, else the number found; nnU-Net's batch size rule uses it."""
    reader_name: str
    """What nnU-Net's plans call `image_reader_writer`."""
    repairs: frozenset[str] = frozenset()
    """Repairs that :meth:`load` applies; see :data:`delineate.formats.datasets.repairs.REPAIRS`."""
    surplus: tuple[Path, ...] = ()
    """Image files in the folders of the dataset that belong to no case."""

    def load(self, files: CaseFiles) -> Case:
        """Read one case: image ``(channel, z, y, x)`` or ``(channel, y, x)`` and labels on the same grid (LPS mm).

        Raises
        ------
        ImageReadError
            If a file is missing or damaged.
        GeometryError
            If channels and mask do not lie on one grid and this is not repaired.
        InputError
            If intensities are not finite and this is not repaired.
        LabelError
            If mask values are not whole numbers or not declared and this is not repaired.
        """
        channels = [read_file(path) for path in files.images]
        image = joined_channels(channels, [str(path) for path in files.images], self.repairs)
        labels = None
        if files.labels is not None:
            mask = read_mask(files.labels)
            labels = label_map(mask, image.grid, self.scheme, str(files.labels), self.repairs)
        return Case(case_id=files.case_id, patient_id=files.patient_id, image=image, labels=labels)


def visible_images(folder: Path) -> list[Path]:
    """Return the image files below a folder, sorted; hidden files (``._x.nii.gz`` of macOS archives) are left out."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.rglob("*") if image_ending(path) and path.is_file())
    return sorted(path for path in found if not any(p.startswith(".") for p in path.relative_to(folder).parts))


def reader_name(file_ending: str, example: Path | None) -> str:
    """Return nnU-Net's name of the reader for such files; for TIFF it depends on whether ``example`` is a stack."""
    if file_ending in PICTURE_ENDINGS:
        return "NaturalImage2DIO"
    if file_ending in TIFF_ENDINGS:
        stack = example is not None and example.is_file() and read_file(example).grid.dims == 3
        return "Tiff3DIO" if stack else "NaturalImage2DIO"
    return "SimpleITKIO"
