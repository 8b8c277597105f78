"""TotalSegmentator's weights as they lie on a disk: where to look, and what is missing.

    PLACE/DatasetNNN_Name/TRAINER__PLANS__CONFIGURATION/{plans.json, dataset.json, fold_0/checkpoint_final.pth}

A place is the folder of results, or TotalSegmentator's home folder with ``nnunet/results`` below it. Nothing is ever
downloaded, and nothing is asked of or told to a server. Zips are unpacked by ``formats.nnunet.model_zip``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from delineate.errors import ModelError
from delineate.planning.anatomy import Licence, SubModel

CHECKPOINT = "checkpoint_final.pth"
DOCUMENTS = ("plans.json", "dataset.json")
RESULTS = Path("nnunet", "results")
"""Folder of results inside TotalSegmentator's home folder."""
RELEASES = "https://github.com/wasserth/TotalSegmentator/releases"


def find_models(models: Sequence[SubModel], places: Sequence[Path], licence: Licence) -> dict[int, Path]:
    """Find the trained models' folders.

    Parameters
    ----------
    models
        What is needed.
    places
        Folders to look in, the first one first.
    licence
        What the weights of the task carry; told if they are missing.

    Returns
    -------
    dict
        Data set id -> folder of the trained model.

    Raises
    ------
    ModelError
        If models are missing or incomplete; names all of them, every place that was looked at, and where to get them.
    """
    found: dict[int, Path] = {}
    faults: list[str] = []
    for model in models:
        folder, fault = _find(model, places)
        if folder is not None:
            found[model.dataset_id] = folder
        else:
            faults.append(fault)
    if faults:
        raise ModelError(_missing(faults, models, places, licence, found))
    return found


def weights_hash(folder: Path) -> str:
    """Return the SHA-256 of all checkpoints of a trained model, in the order of their folds."""
    digest = hashlib.sha256()
    for checkpoint in sorted(folder.glob(f"fold_*/{CHECKPOINT}")):
        with checkpoint.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _find(model: SubModel, places: Sequence[Path]) -> tuple[Path | None, str]:
    """Return the model's folder, or None and what is wrong."""
    fault = f"{model.dataset_id}: {model.folder} is nowhere"
    for place in (p for given in places for p in (given, given / RESULTS)):
        for dataset in _datasets(place, model):
            folder = _trained(dataset, model)
            if folder is None:
                fault = f"{model.dataset_id}: {dataset} has no trained model {model.model_folder}"
            elif lacking := _lacking(folder, model):
                fault = f"{model.dataset_id}: {folder} is incomplete, missing are {', '.join(lacking)}"
            else:
                return folder, ""
    return None, fault


def _datasets(place: Path, model: SubModel) -> list[Path]:
    """Return the folders of a data set, that of the published name first."""
    named = place / model.folder
    others = sorted(path for path in place.glob(f"Dataset{model.dataset_id:03d}_*") if path.is_dir())
    return [named, *(path for path in others if path != named)] if named.is_dir() else others


def _trained(dataset: Path, model: SubModel) -> Path | None:
    """Return the published trained model, or the only one of the configuration: retrained models keep their trainer."""
    if (dataset / model.model_folder).is_dir():
        return dataset / model.model_folder
    same = [path for path in dataset.glob(f"*__{model.configuration}") if path.is_dir()]
    return same[0] if len(same) == 1 else None


def _lacking(folder: Path, model: SubModel) -> list[str]:
    documents = [name for name in DOCUMENTS if not (folder / name).is_file()]
    if model.folds is None:
        return documents + ([] if any(folder.glob(f"fold_*/{CHECKPOINT}")) else [f"fold_*/{CHECKPOINT}"])
    files = [f"fold_{fold}/{CHECKPOINT}" for fold in model.folds]
    return documents + [name for name in files if not (folder / name).is_file()]


def _missing(
    faults: Sequence[str],
    models: Sequence[SubModel],
    places: Sequence[Path],
    licence: Licence,
    found: Mapping[int, Path],
) -> str:
    absent = [model for model in models if model.dataset_id not in found]
    looked = "\n".join(f"    {place}" for place in places)
    zips = "\n".join(
        f"    {model.folder}.zip of release {model.release}"
        if model.release
        else f"    {model.folder}, from its authors"
        for model in absent
    )
    faults_text = "\n".join(f"    {fault}" for fault in faults)
    return (
        f"{len(absent)} of {len(models)} models are missing or incomplete:\n{faults_text}\n"
        f"  looked in (and in {RESULTS} below):\n{looked}\n"
        f"  what to download from {RELEASES} and give to `delineate anatomy --install ZIP ...`:\n{zips}\n"
        f"  licence: {licence.text}\n"
        "  Delineate downloads nothing by itself."
    )
