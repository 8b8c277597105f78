"""Checkpoints of a training run: written whole or not at all, checked when read, and never a place for code.

A checkpoint is a dictionary of tensors and plain values. The last two are kept, so that a damaged file costs one
interval of training and not the run.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch

from delineate.errors import ModelError, UnsafeModelError
from delineate.execution.atomic import atomic_path

LATEST_FILE = "checkpoint_latest.pt"
PREVIOUS_FILE = "checkpoint_previous.pt"
BEST_FILE = "checkpoint_best.pt"
FORMAT_VERSION = 1
"""Raised when a reader of today's checkpoints could not go on with a newer one."""

Payload = dict[str, Any]

_logger = logging.getLogger(__name__)


def save_checkpoint(folder: Path, payload: Mapping[str, Any]) -> None:
    """Write ``checkpoint_latest.pt``; the one before becomes ``checkpoint_previous.pt``.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full; the checkpoints on the disk stay as they were.
    """
    latest = folder / LATEST_FILE
    with atomic_path(latest) as temporary:
        _write(temporary, {"format": FORMAT_VERSION, **payload})
        if latest.exists():
            latest.replace(folder / PREVIOUS_FILE)
    _flush_folder(folder)


def save_weights(path: Path, payload: Mapping[str, Any]) -> None:
    """Write one file of weights beside the checkpoints, e.g. the best ones so far.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    with atomic_path(path) as temporary:
        _write(temporary, {"format": FORMAT_VERSION, **payload})


def has_checkpoint(folder: Path) -> bool:
    """Say whether there is a checkpoint, whole or damaged, in ``folder``."""
    return (folder / LATEST_FILE).exists() or (folder / PREVIOUS_FILE).exists()


def load_checkpoint(folder: Path) -> Payload:
    """Read the latest checkpoint of ``folder`` that is whole, on the CPU.

    If the latest one is damaged or missing, the previous one is used and a warning is logged.

    Raises
    ------
    ModelError
        If no whole checkpoint is left, or a newer program wrote it.
    UnsafeModelError
        If a checkpoint holds anything but tensors and plain values.
    """
    faults = []
    for path in (folder / LATEST_FILE, folder / PREVIOUS_FILE):
        try:
            payload = read_payload(path)
        except UnsafeModelError:
            raise
        except ModelError as error:
            faults.append(str(error))
            continue
        for fault in faults:
            _logger.warning("%s Training goes on from %s (step %s).", fault, path.name, payload.get("step"))
        return payload
    raise ModelError(
        f"No whole checkpoint is left in {folder}: {' '.join(faults)} "
        "Delete the checkpoint files there to start again, or choose another output folder."
    )


def read_payload(path: Path) -> Payload:
    """Read one checkpoint file on the CPU.

    Raises
    ------
    ModelError
        If it is missing, damaged, or written by a newer program.
    UnsafeModelError
        If it holds anything but tensors and plain values.
    """
    if not path.exists():
        raise ModelError(f"Checkpoint {path.name} is missing.")
    _check_sums(path)
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafeModelError(
            f"Checkpoint {path} holds more than tensors and plain values; it is not read, because that could run code."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ModelError(f"Checkpoint {path} is damaged ({type(error).__name__}).") from error
    return _of_this_format(path, payload)


def check_identity(folder: Path, found: str, expected: str) -> None:
    """Check that a checkpoint belongs to the training that is asked for.

    Parameters
    ----------
    folder
        Where the checkpoint lies; for the message.
    found, expected
        What the checkpoint was trained with and what is asked for now, as JSON objects.

    Raises
    ------
    ModelError
        If they differ; names each field that differs and what to do.
    """
    before, now = _flat(json.loads(found)), _flat(json.loads(expected))
    differing = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if not differing:
        return
    told = "; ".join(f"{key} was {before.get(key)!r} and is now {now.get(key)!r}" for key in differing[:5])
    more = f"; and {len(differing) - 5} more" if len(differing) > 5 else ""
    longer = {"recipe.iterations", "recipe.budget_seconds"} >= set(differing)
    hint = "To train a finished run longer, keep its settings and use --extend." if longer else ""
    raise ModelError(
        f"The checkpoint in {folder} belongs to another training: {told}{more}. "
        f"{hint}{' ' if hint else ''}Use the same settings to resume it, or choose another output folder."
    )


def _write(path: Path, payload: Mapping[str, Any]) -> None:
    with path.open("wb") as stream:
        guarded = _RememberingStream(stream)
        try:
            torch.save(dict(payload), guarded)  # type: ignore[arg-type]
        except RuntimeError as error:
            raise (guarded.error or error) from error
        stream.flush()
        os.fsync(stream.fileno())


class _RememberingStream:
    """A file that remembers why writing failed; torch hides a full disk behind an error of its own."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._stream.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._stream.flush()


def _flush_folder(folder: Path) -> None:
    """Make the renames durable; not every file system lets a folder be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        _logger.debug("This file system does not flush folders.")
    finally:
        os.close(handle)


def _check_sums(path: Path) -> None:
    """Compare the checksums inside the file; torch itself does not."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        raise ModelError(f"Checkpoint {path} is damaged ({type(error).__name__}: {error}).") from error
    if broken is not None:
        raise ModelError(f"Checkpoint {path} is damaged (checksum of '{broken}').")


def _of_this_format(path: Path, payload: Any) -> Payload:
    if not isinstance(payload, dict) or "format" not in payload:
        raise ModelError(f"File {path} is not a checkpoint of this program.")
    if payload["format"] > FORMAT_VERSION:
        raise ModelError(
            f"Checkpoint {path} has format {payload['format']}; this version reads up to {FORMAT_VERSION}. "
            "Use the newer version of the program that wrote it."
        )
    return payload


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        key: leaf for name, item in value.items() for key, leaf in _flat(item, f"{prefix}.{name}".lstrip(".")).items()
    }
