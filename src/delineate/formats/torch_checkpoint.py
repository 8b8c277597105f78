"""Reads torch checkpoints, nnU-Net's `.pth` among them, without ever executing what they carry; and writes them.

A `.pth` is a zip archive with a pickle inside, and a pickle is a program. It is run by torch's restricted
unpickler, which knows tensors and plain containers only; what nnU-Net's checkpoints hold beyond that (numpy
scalars in the training log) is rebuilt here by code of our own, as Python numbers. Everything else is refused.
This is the only module of the room that knows torch.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from delineate.errors import ModelError, UnsafeModelError
from delineate.execution.atomic import atomic_path

_ALLOWED_LOCK = threading.Lock()
"""torch keeps its allow-list per process; two readers at a time would take it from each other."""

DAMAGED_PICKLE = "Failed to load pickle data"
"""Start of the text by which newer torch tells damage from a refusal."""

_SCALAR_FORMATS: Mapping[str, str] = {
    "f2": "e", "f4": "f", "f8": "d", "b1": "?",
    "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
}  # fmt: skip
"""numpy's short dtype names -> codes of the `struct` module."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NnunetCheckpoint:
    """What prediction needs of nnU-Net's checkpoint.

    Attributes
    ----------
    weights
        nnU-Net's state dict, on the CPU, under nnU-Net's names (``networks.nnunet_weights`` translates them).
    trainer_name
        Class name of the trainer.
    configuration
        Name of the configuration in the plan.
    mirror_axes
        Spatial axes that may be flipped in prediction, None if the checkpoint does not say.
    init_args
        The trainer's arguments: plans, dataset_json, fold, ...; plain types.
    epochs
        Epochs done when it was written, None if the checkpoint does not say.
    best_dice
        Highest smoothed pseudo-Dice so far, None if the checkpoint does not say.
    """

    weights: dict[str, torch.Tensor]
    trainer_name: str
    configuration: str
    mirror_axes: tuple[int, ...] | None
    init_args: dict[str, Any]
    epochs: int | None = None
    best_dice: float | None = None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint that ``torch.save`` wrote; tensors come to the CPU, numpy scalars become Python numbers.

    Raises
    ------
    UnsafeModelError
        If the file asks for code or for a type that is not on the list of harmless ones.
    ModelError
        If the file is missing, truncated, damaged, or no checkpoint.
    """
    _check_container(path)
    allowed: list[Any] = [(make, name) for name, make in _REBUILT.items()]
    with _ALLOWED_LOCK, safe_globals(allowed):
        _check_globals(path)
        content = _load(path)
    if not isinstance(content, dict):
        raise ModelError(f"A checkpoint must hold a dictionary; {path} holds a {type(content).__name__}.")
    return content


def read_nnunet_checkpoint(path: Path) -> NnunetCheckpoint:
    """Read nnU-Net's `checkpoint_*.pth`.

    Raises
    ------
    UnsafeModelError
        If the file asks for code or for a type that is not on the list of harmless ones.
    ModelError
        If the file is missing, truncated, damaged, or not of nnU-Net.
    """
    content = read_checkpoint(path)
    weights, trainer = content.get("network_weights"), content.get("trainer_name")
    init_args = content.get("init_args")
    configuration = init_args.get("configuration") if isinstance(init_args, dict) else None
    if not isinstance(weights, dict) or not isinstance(init_args, dict) or not isinstance(configuration, str):
        raise ModelError(
            f"An nnU-Net checkpoint must hold `network_weights` and `init_args` with a configuration; {path} holds "
            f"{', '.join(map(str, content)) or 'nothing'}."
        )
    axes = content.get("inference_allowed_mirroring_axes")
    return NnunetCheckpoint(
        weights=dict(weights),
        trainer_name=str(trainer),
        configuration=configuration,
        mirror_axes=None if axes is None else tuple(int(axis) for axis in axes),
        init_args=init_args,
        epochs=_whole(content.get("current_epoch")),
        best_dice=_finite(content.get("_best_ema")),
    )


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint of tensors and plain values with ``torch.save``, whole or not at all.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    with atomic_path(path) as temporary:
        torch.save(dict(content), temporary)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _check_container(path: Path) -> None:
    try:
        is_zip, head = zipfile.is_zipfile(path), _first_bytes(path)
    except OSError as error:
        raise ModelError(f"The checkpoint {path} cannot be read: {error.strerror}.") from error
    if is_zip:
        _check_sums(path)
        return
    if head.startswith(b"PK"):
        raise ModelError(f"The checkpoint {path} is truncated: its table of contents is missing. Copy it again.")
    if asked := _globals_of_bare_pickle(path):
        raise UnsafeModelError(
            f"The model file {path} is a bare pickle, which could execute code (it asks for {', '.join(asked)}); it "
            "was not opened. Save the weights with `torch.save` of torch 1.6 or newer, or as safetensors."
        )
    raise ModelError(f"The file {path} is no torch checkpoint: a zip archive was expected. Choose another file.")


def _check_sums(path: Path) -> None:
    """Compare every member with its checksum, which torch itself does not do."""
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, RuntimeError) as error:
        raise _damaged(path) from error
    if wrong is not None:
        raise _damaged(path)


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(4)


def _globals_of_bare_pickle(path: Path) -> list[str]:
    """Return the names that a pickle outside a zip archive would import, without running it; [] if it is no pickle."""
    asked = []
    try:
        for name in _imported_names(path.read_bytes()):
            asked.append(name)
    except (ValueError, struct.error, UnicodeError):
        pass  # not a pickle from here on; what was seen so far counts
    return sorted(set(asked))


def _imported_names(data: bytes) -> Iterator[str]:
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif isinstance(argument, str):
            strings.append(argument)


def _check_globals(path: Path) -> None:
    """Name everything that the archive would import and that is not allowed, before a single step of it is run."""
    try:
        refused = sorted(get_unsafe_globals_in_checkpoint(path))
    except ValueError as error:
        raise UnsafeModelError(
            f"The model file {path} is a TorchScript program, not a checkpoint of weights; it was not opened."
        ) from error
    except pickle.UnpicklingError as error:
        raise _refused(path, str(error)) from error
    except (RuntimeError, EOFError) as error:
        raise _damaged(path) from error
    if refused:
        raise _refused(path, f"it asks for {', '.join(refused)}")


def _load(path: Path) -> object:
    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _damaged(path) if DAMAGED_PICKLE in str(error) else _refused(path, _reason(error)) from error
    except (RuntimeError, EOFError, ValueError, TypeError, LookupError, AttributeError, struct.error) as error:
        raise _damaged(path) from error
    return content


def _reason(error: pickle.UnpicklingError) -> str:
    """Return what was refused: torch wraps the restricted unpickler's sentence into a text about its options."""
    inner = error.__context__ if isinstance(error.__context__, pickle.UnpicklingError) else error
    return str(inner).splitlines()[0].rstrip(".")


def _refused(path: Path, why: str) -> UnsafeModelError:
    return UnsafeModelError(
        f"The model file {path} carries more than weights and plain values ({why}); nothing of it was executed. "
        "Only open models from a source you trust, and ask it for a file with weights only."
    )


def _damaged(path: Path) -> ModelError:
    return ModelError(f"The checkpoint {path} is damaged or incomplete. Copy it again, or use another checkpoint.")


class _NumericType:
    """Stands for ``numpy.dtype`` while a numpy scalar is rebuilt; knows fixed-size numbers only."""

    def __init__(self, name: str, *_: object) -> None:
        if name not in _SCALAR_FORMATS:
            raise pickle.UnpicklingError(f"numpy scalars of type {name!r} are not allowed")
        self.code = _SCALAR_FORMATS[name]
        self.byte_order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.byte_order = state[1] if state[1] in ("<", ">") else "="


def _number(kind: object, data: object) -> float:
    """Return the Python number that a pickled numpy scalar holds."""
    if not isinstance(kind, _NumericType) or not isinstance(data, bytes):
        raise pickle.UnpicklingError("a numpy scalar must be made of a number type and bytes")
    value: float = struct.unpack(kind.byte_order + kind.code, data)[0]
    return value


_REBUILT: Mapping[str, Callable[..., object]] = {
    "numpy.dtype": _NumericType,
    "numpy.core.multiarray.scalar": _number,  # numpy 1
    "numpy._core.multiarray.scalar": _number,  # numpy 2
}
"""Types that nnU-Net's checkpoints hold beside torch's own -> what rebuilds them here."""
