"""Zips of trained models as nnU-Net exchanges them: paths relative to the results folder.

Read and written are what ``nnUNetv2_export_model_to_zip`` and ``nnUNetv2_install_pretrained_model_from_zip`` write and
read (2.8.1, ``model_sharing``). nnU-Net unpacks whatever a zip holds; here the table of contents is checked first, and
an installed model appears whole or not at all.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from delineate.errors import ModelError, ResourceError, UsageError
from delineate.execution.atomic import atomic_path, remove_abandoned, staging_folder
from delineate.formats.nnunet.trained_model import (
    DATASET_FILE,
    FINAL_CHECKPOINT,
    FINGERPRINT_FILE,
    PLANS_FILE,
    trained_folders,
)
from delineate.formats.zip_entries import LARGEST_INFLATION, check_entries

SMALL_FILE = 64 * 2**20
"""Bytes that any file may have, however well it was compressed: plans and logs shrink a hundredfold."""
PER_FOLD = ("debug.json", "progress.png", "network_architecture.pdf", "validation/summary.json")
PER_MODEL = (PLANS_FILE, DATASET_FILE, FINGERPRINT_FILE)
PER_CROSS_VALIDATION = ("summary.json", "postprocessing.pkl", "postprocessing.json")


def is_model_zip(path: Path) -> bool:
    """Say whether a file is a zip that holds ``plans.json`` of a trained model of nnU-Net."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(PurePosixPath(name).name == PLANS_FILE for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


@contextmanager
def unpacked_models(path: Path, *, checkpoint: str | None = None) -> Iterator[Path]:
    """Yield a temporary folder with what a zip holds; it is removed afterwards.

    Parameters
    ----------
    path
        The zip.
    checkpoint
        Unpack no other checkpoints than those of this name, and only what describes the model; None: everything.

    Raises
    ------
    UnsafeModelError
        If the zip holds links, or names that lead out of it.
    ModelError
        If it is damaged, or files would become implausibly large.
    ResourceError
        If the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="delineate-model-") as folder:
        _unpack(path, Path(folder), wanted=lambda name: checkpoint is None or name in (*PER_MODEL, checkpoint))
        yield Path(folder)


def install_model_zip(path: Path, results: Path, *, overwrite: bool = False) -> tuple[Path, ...]:
    """Unpack a zip into nnU-Net's results folder; nothing appears there before all of it is unpacked.

    Parameters
    ----------
    path
        The zip, with paths relative to the results folder.
    results
        ``nnUNet_results``; made if it does not exist.
    overwrite
        Replace trained models of the same name; nnU-Net does so without asking.

    Returns
    -------
    tuple of Path
        The folders of the trained models.

    Raises
    ------
    UnsafeModelError
        If the zip holds links, or names that lead out of it.
    ModelError
        If it is damaged, or holds no trained model.
    UsageError
        If a model of that name is there already and ``overwrite`` is not set; nothing is changed then.
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    with _told_disk_errors(results), staging_folder(results / "install") as staged:
        _unpack(path, staged, wanted=lambda name: True)
        models = _installable(path, staged)
        _require_absent(results, [] if overwrite else models)
        for model in models:
            _place(staged / model, results / model)
        _merge(staged, results)
    return tuple(results / model for model in models)


def write_model_zip(
    target: Path,
    folders: Sequence[Path],
    *,
    folds: Sequence[str] | None = None,
    checkpoints: Sequence[str] = (FINAL_CHECKPOINT,),
) -> None:
    """Write trained models as a zip that nnU-Net installs; whole or not at all.

    Parameters
    ----------
    target
        The zip; an older one is replaced.
    folders
        ``DatasetXXX_Name/TRAINER__PLANS__CONFIGURATION`` each; the last two parts of the path become the path in the
        zip.
    folds
        Which folds of each; None: all that there are.
    checkpoints
        Which checkpoints of each fold.

    Raises
    ------
    ModelError
        If there is nothing to write, or a folder lacks plans, declaration, folds or a fold's checkpoint; all are named.
    ResourceError
        If the file cannot be written or the disk is full.
    """
    faults = [fault for folder in folders for fault in _lacking(folder, folds, checkpoints)]
    if faults or not folders:
        raise ModelError(f"Nothing was exported to {target}: {'; '.join(faults) or 'no trained model was given'}.")
    remove_abandoned(target.parent, target.name)
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in folders:
            for file in _exported(folder, folds, checkpoints):
                archive.write(file, PurePosixPath(folder.parent.name, folder.name, file.relative_to(folder).as_posix()))


# --- writing


def _folds(folder: Path, folds: Sequence[str] | None) -> list[Path]:
    if folds is not None:
        return [folder / f"fold_{fold}" for fold in folds]
    return sorted(child for child in folder.glob("fold_*") if child.is_dir())


def _lacking(folder: Path, folds: Sequence[str] | None, checkpoints: Sequence[str]) -> list[str]:
    needed = [folder / PLANS_FILE, folder / DATASET_FILE]
    needed += [fold / name for fold in _folds(folder, folds) for name in checkpoints]
    faults = [f"{file} is missing" for file in needed if not file.is_file()]
    return faults if _folds(folder, folds) else [*faults, f"{folder} has no folds"]


def _exported(folder: Path, folds: Sequence[str] | None, checkpoints: Sequence[str]) -> list[Path]:
    files = [fold / name for fold in _folds(folder, folds) for name in (*PER_FOLD, *checkpoints)]
    files += [part / name for part in folder.glob("crossval_results_folds_*") for name in PER_CROSS_VALIDATION]
    files += [folder / name for name in PER_MODEL]
    return [file for file in files if file.is_file()]


# --- unpacking


def _unpack(path: Path, folder: Path, *, wanted: Callable[[str], bool]) -> None:
    """Unpack the files whose last part of the name is wanted."""
    try:
        with zipfile.ZipFile(io.BytesIO() if path.stat().st_size == 0 else path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            check_entries(path, archive.infolist())
            _check_sizes(path, entries)
            for entry in entries:
                if wanted(PurePosixPath(entry.filename).name):
                    archive.extract(entry, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ModelError(f"{path} is no readable zip of a trained model: {error}. Copy it again.") from error
    except FileNotFoundError as error:
        raise ModelError(f"There is no file {path}.") from error
    except OSError as error:
        raise ResourceError(
            f"Could not unpack {path} ({error.strerror}). Free some space, or unpack it by hand."
        ) from error


def _check_sizes(path: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    for entry in entries:
        if entry.file_size > max(SMALL_FILE, LARGEST_INFLATION * entry.compress_size):
            raise ModelError(
                f"{path}: {entry.filename} would become {entry.file_size} bytes, which cannot be right. It is refused."
            )
    total = sum(entry.file_size for entry in entries)
    if total > SMALL_FILE + LARGEST_INFLATION * path.stat().st_size:
        raise ModelError(f"{path} would become {total} bytes, which cannot be right. It is refused.")


def _installable(path: Path, staged: Path) -> list[Path]:
    """Return the trained models of an unpacked zip, relative to it."""
    models = [folder.relative_to(staged) for folder in trained_folders(staged)]
    if not models or any(len(model.parts) != 2 for model in models):
        raise ModelError(
            f"{path} cannot be installed: expected DatasetXXX_Name/TRAINER__PLANS__CONFIGURATION, found "
            f"{', '.join(map(str, models)) or 'no trained model'}. Copy it again if it was cut short, or unpack it "
            "by hand."
        )
    return models


def _require_absent(results: Path, models: Sequence[Path]) -> None:
    standing = [str(model) for model in models if (results / model).exists()]
    if standing:
        raise UsageError(f"{results} already has {', '.join(standing)}. Remove it, or ask for it to be overwritten.")


def _place(source: Path, target: Path) -> None:
    """Move a complete folder to its place; an older one goes only now."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.replace(source.with_name(f".replaced-{source.name}"))
    source.replace(target)


def _merge(staged: Path, results: Path) -> None:
    """Move what is left, the results of ensembles for instance, to its place."""
    for file in sorted(staged.rglob("*")):
        relative = file.relative_to(staged)
        if file.is_file() and not any(part.startswith(".replaced-") for part in relative.parts):
            (results / relative).parent.mkdir(parents=True, exist_ok=True)
            file.replace(results / relative)


@contextmanager
def _told_disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResourceError(f"Could not write to {folder} ({error.strerror}). Choose another folder.") from error
