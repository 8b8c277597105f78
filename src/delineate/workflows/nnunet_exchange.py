"""Trained models out of nnU-Net's results folder and into it, as the zips that nnU-Net exchanges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from delineate.errors import ModelError
from delineate.formats.nnunet.model_zip import install_model_zip, write_model_zip
from delineate.formats.nnunet.workspace import RESULTS, NnunetFolders


def export_models(
    target: Path, models: Sequence[Path], folds: Sequence[str], checkpoints: Sequence[str], *, strict: bool = True
) -> tuple[Path, ...]:
    """Write trained models as one zip.

    Parameters
    ----------
    target
        The zip; an older one is replaced.
    models
        Folders of trained models, one per configuration.
    folds
        Which folds of each.
    checkpoints
        File names of the checkpoints of each fold.
    strict
        Every model and fold must be there; otherwise those that are there are exported.

    Returns
    -------
    tuple of Path
        The models that were exported.

    Raises
    ------
    ModelError
        If models, folds or checkpoints are missing; all are named.
    ResourceError
        If the file cannot be written or the disk is full.
    """
    there = [model for model in models if model.is_dir()]
    missing = [str(model) for model in models if model not in there]
    if not there or (strict and missing):
        raise ModelError(
            f"Nothing was exported to {target}: there are no trained models {', '.join(missing)}. Name with -c the "
            "configurations that are there, or give --not_strict to leave out what is missing."
        )
    present = [fold for fold in folds if all((model / f"fold_{fold}").is_dir() for model in there)]
    write_model_zip(target, there, folds=folds if strict else present, checkpoints=checkpoints)
    return tuple(there)


def install_models(source: Path, folders: NnunetFolders) -> tuple[Path, ...]:
    """Unpack a zip into the results folder; models of the same name are replaced, as nnU-Net does.

    Raises
    ------
    UsageError
        If there is no results folder.
    UnsafeModelError
        If the zip holds links, or names that lead out of it.
    ModelError
        If it is damaged, or holds no trained model.
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    return install_model_zip(source, folders.require(RESULTS), overwrite=True)
