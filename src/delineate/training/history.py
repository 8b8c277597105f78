"""The record of a training run: one JSON object per validation, and TensorBoard where it is installed."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from delineate.errors import ModelError, ResourceError

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"

Record = dict[str, Any]
"""What one validation found: step, seconds, loss, Dice per class, learning rate, speed."""


class History:
    """The open record of one run.

    Parameters
    ----------
    folder
        Where ``metrics.jsonl`` lies.
    position
        Length in bytes of what is valid; whatever a killed run wrote after its last checkpoint is cut off.
    step
        The step from which the run goes on.
    tensorboard
        Whether to write TensorBoard events too, if the package is there.
    """

    def __init__(self, folder: Path, *, position: int = 0, step: int = 0, tensorboard: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / METRICS_FILE
        self._stream = self.path.open("ab")
        self._stream.truncate(min(position, self.path.stat().st_size))
        self._stream.seek(0, os.SEEK_END)
        self._board: Any = None
        self._open_board = partial(_open_board, folder / TENSORBOARD_FOLDER, step) if tensorboard else None

    @property
    def position(self) -> int:
        """Length of the record in bytes."""
        return self._stream.tell()

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record.

        Raises
        ------
        ResourceError
            If the disk is full.
        """
        line = json.dumps(_without_nan(record), allow_nan=False) + "\n"
        try:
            self._stream.write(line.encode("utf-8"))
            self._stream.flush()
        except OSError as error:
            raise ResourceError(f"Could not write {self.path}: {error.strerror}. Free some space and go on.") from error
        self._show(record)

    def _show(self, record: Mapping[str, Any]) -> None:
        """Hand the record to TensorBoard, which is opened at the first record, because importing it takes seconds."""
        if self._open_board is not None:
            self._board, self._open_board = self._open_board(), None
        if self._board is not None:
            _show(self._board, record)

    def close(self) -> None:
        """Close the files."""
        self._stream.close()
        if self._board is not None:
            self._board.close()


class Unrecorded:
    """The record of a process that leaves it to the first of several."""

    position: int = 0

    def append(self, record: Mapping[str, Any]) -> None:
        """Write nothing."""

    def close(self) -> None:
        """Close nothing."""


def read_history(folder: Path) -> tuple[Record, ...]:
    """Return the records of the run in ``folder``, oldest first; none if there is no file.

    A last line that is still being written is left out.

    Raises
    ------
    ModelError
        If the file is damaged.
    """
    path = folder / METRICS_FILE
    if not path.exists():
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines(True)
        return tuple(json.loads(line) for line in lines if line.endswith("\n"))
    except ValueError as error:
        raise ModelError(f"{path} is damaged: {error}. Delete it; the record of the training is lost.") from error


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _open_board(folder: Path, step: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside tensorboard and protobuf are not the user's affair
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return None
        return SummaryWriter(str(folder), purge_step=step + 1 if step else None)


def _show(board: Any, record: Mapping[str, Any]) -> None:
    step = record["step"]
    for name, value in record.items():
        if name == "dice":
            for structure, dice in value.items():
                board.add_scalar(f"dice/{structure}", math.nan if dice is None else dice, step)
        elif isinstance(value, int | float) and name != "step":
            board.add_scalar(name, value, step)
