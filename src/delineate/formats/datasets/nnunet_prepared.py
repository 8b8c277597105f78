"""A dataset of which only nnU-Net's prepared folder is there: declaration and copies of the masks, no images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from delineate.formats.datasets.dataset import CaseFiles, Dataset, reader_name
from delineate.formats.datasets.declaration import (
    declared_channels,
    declared_count,
    declared_scheme,
    read_declaration,
)

REFERENCES = "gt_segmentations"


def open_nnunet_prepared(folder: Path, case_ids: Sequence[str]) -> Dataset:
    """Return the dataset of ``nnUNet_preprocessed/DatasetXXX_Name``; its cases have masks but no images to load.

    Parameters
    ----------
    folder
        Holds ``dataset.json`` and ``gt_segmentations``.
    case_ids
        The prepared cases.

    Raises
    ------
    DatasetError
        If ``dataset.json`` is missing or has faults; all of them are told.
    """
    declaration = read_declaration(folder / "dataset.json")
    channel_names, scheme = declared_channels(declaration), declared_scheme(declaration)
    ending = str(declaration.content.get("file_ending", ".nii.gz"))
    count = declared_count(declaration, len(case_ids))
    declaration.finish()
    references = folder / REFERENCES
    cases = tuple(
        CaseFiles(case_id=case_id, patient_id=case_id, images=(), labels=references / f"{case_id}{ending}")
        for case_id in sorted(case_ids)
    )
    wanted = declaration.content.get("overwrite_image_reader_writer")
    return Dataset(
        name=folder.name,
        root=folder,
        layout="nnunet_raw",
        channel_names=channel_names,
        scheme=scheme,
        training=cases,
        file_ending=ending,
        declared_training_count=count,
        reader_name=str(wanted) if wanted else reader_name(ending, cases[0].labels if cases else None),
    )
