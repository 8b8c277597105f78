"""TotalSegmentator's weights as they lie on a disk: where to look, what is missing, and how a zip is installed.

    PLACE/DatasetNNN_Name/TRAINER__PLANS__CONFIGURATION/{plans.json, dataset.json, fold_0/checkpoint_final.pth}

A place is the folder of results, or TotalSegmentator's home folder with ``nnunet/results`` below it. Nothing is ever
downloaded, and nothing is asked of or told to a server.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from delineate.errors import ModelError, ResourceError, UnsafeModelError, UsageError
from delineate.planning.anatomy import Licence, SubModel

CHECKPOINT = "checkpoint_final.pth"
DOCUMENTS = ("plans.json", "dataset.json")
RESULTS = Path("nnunet", "results")
"""Folder of results inside TotalSegmentator's home folder."""
RELEASES = "https://github.com/wasserth/TotalSegmentator/releases"
LARGEST_INFLATION = 50
"""How many times larger than in the zip a large file may become; weights hardly shrink at all."""
SMALL_FILE = 64 * 2**20
"""Bytes that any file may have, however well it was compressed."""
_DATASET = re.compile(r"Dataset(\d{3})_\w+")


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


def install_weights(path: Path, results: Path) -> tuple[Path, ...]:
    """Unpack a downloaded zip of weights into the folder of results; its data sets appear whole or not at all.

    Parameters
    ----------
    path
        ``DatasetNNN_Name.zip`` as it is attached to a release.
    results
        The folder of results; made if it does not exist.

    Returns
    -------
    tuple of Path
        The data sets' folders.

    Raises
    ------
    UnsafeModelError
        If the zip holds links, or names that lead out of it.
    ModelError
        If it is damaged, or is no zip of weights.
    UsageError
        If a data set of that name is installed already.
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    try:
        results.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(prefix=".partial-install-", dir=results) as staged,
            zipfile.ZipFile(path) as archive,
        ):
            names = _checked_datasets(path, archive, results)
            archive.extractall(staged)
            return tuple(_placed(Path(staged, name), results / name) for name in names)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ModelError(f"{path} is no readable zip: {error}. It may be cut short; download it again.") from error
    except FileNotFoundError as error:
        raise ModelError(f"There is no file {path}. Give the zip that was downloaded from {RELEASES}.") from error
    except OSError as error:
        raise ResourceError(f"Could not write {results} ({error.strerror}). Choose another folder.") from error


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


def _checked_datasets(path: Path, archive: zipfile.ZipFile, results: Path) -> tuple[str, ...]:
    """Return the names of the data sets in a zip whose table of contents is harmless."""
    names = [entry.filename for entry in archive.infolist()]
    for entry in archive.infolist():
        parts = PurePosixPath(entry.filename)
        if parts.is_absolute() or ".." in parts.parts or "\\" in entry.filename or ":" in entry.filename:
            raise UnsafeModelError(f"{path} holds a file whose name leads out of it, '{entry.filename}'. Refused.")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise UnsafeModelError(f"{path} holds a link, '{entry.filename}', instead of a file. It is refused.")
        if entry.flag_bits & 0x1:
            raise ModelError(f"{path} is encrypted. Unpack it with its password and give the folder as --weights.")
        if entry.file_size > max(SMALL_FILE, LARGEST_INFLATION * entry.compress_size):
            raise ModelError(f"{path}: {entry.filename} would become {entry.file_size} bytes, which cannot be right.")
    if len(set(names)) != len(names):
        raise UnsafeModelError(f"{path} holds several files of one name. It is refused.")
    datasets = tuple(dict.fromkeys(PurePosixPath(name).parts[0] for name in names))
    if not datasets or not all(_DATASET.fullmatch(name) for name in datasets) or not _has_model(names):
        raise ModelError(
            f"{path} is no zip of weights: expected DatasetNNN_Name/TRAINER__PLANS__CONFIGURATION/plans.json; found at "
            f"its top: {', '.join(datasets[:5]) or 'nothing'}."
        )
    if present := [name for name in datasets if (results / name).exists()]:
        raise UsageError(f"{results / present[0]} is there already. Move it away to install {path}.")
    return datasets


def _has_model(names: Sequence[str]) -> bool:
    return any(len(p.parts) == 3 and p.name == DOCUMENTS[0] for p in map(PurePosixPath, names))


def _placed(staged: Path, target: Path) -> Path:
    shutil.move(staged, target)
    return target
