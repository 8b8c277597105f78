"""The properties that nnU-Net pickles beside a prepared or predicted case: written as it does, read without executing.

Reading goes through an unpickler that makes nothing but plain containers and numbers. Arrays (nnU-Net keeps sampled
voxels there) are stepped over; whoever needs them samples again.

References
----------
nnU-Net 2.8.1: ``preprocessing/preprocessors/default_preprocessor.py``, ``inference/export_prediction.py``.
"""

from __future__ import annotations

import io
import pickle  # reading is restricted, see _PlainUnpickler
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.errors import ImageReadError, UnsafeModelError
from delineate.execution import atomic_path, write_bytes
from delineate.geometry.grid import Grid

PLANE_SPACING = 999.0
"""nnU-Net's spacing along the absent axis of a picture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseProperties:
    """What is needed to find back from a prepared case to its image; axes after the plan's transposition."""

    shape: tuple[int, ...]
    """Before cropping."""
    box: tuple[tuple[int, int], ...]
    """Half-open (start, stop) per axis that the crop kept."""


def read_case_properties(path: Path) -> CaseProperties:
    """Read ``{id}.pkl`` of a prepared case.

    Raises
    ------
    UnsafeModelError
        If the file asks for code or for a type that is not on the list of harmless ones.
    ImageReadError
        If it is missing, damaged, or lacks shape and box.
    """
    try:
        found = _PlainUnpickler(io.BytesIO(path.read_bytes()), source=path).load()
        shape, box = found["shape_before_cropping"], found["bbox_used_for_cropping"]
        return CaseProperties(
            shape=tuple(int(size) for size in shape), box=tuple((int(start), int(stop)) for start, stop in box)
        )
    except FileNotFoundError as error:
        raise ImageReadError(f"{path}: expected the properties of a prepared case; there is no such file.") from error
    except (pickle.UnpicklingError, EOFError, OSError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ImageReadError(
            f"{path}: expected nnU-Net's properties of a prepared case with `shape_before_cropping` and "
            f"`bbox_used_for_cropping`; the file cannot be understood ({error}). Prepare the case again."
        ) from error


def spatial_properties(grid: Grid) -> dict[str, Any]:
    """Return what nnU-Net's image readers keep of an image: ``spacing`` (z, y, x) and, for volumes, ``sitk_stuff``."""
    if grid.dims == 2:
        return {"spacing": [PLANE_SPACING, *grid.spacing_mm]}
    return {
        "spacing": list(grid.spacing_mm),
        "sitk_stuff": {
            "spacing": grid.spacing_mm[::-1],
            "origin": grid.origin_mm,
            # SimpleITK: row-major matrix whose columns are the directions of the x, y and z axis
            "direction": tuple(float(v) for v in np.asarray(grid.direction)[::-1].T.ravel()),
        },
    }


def write_probabilities(truncated: Path, probabilities: NDArray[Any], grid: Grid) -> None:
    """Write probabilities as nnU-Net's ensembling reads them: ``{truncated}.npz`` and ``{truncated}.pkl``.

    Parameters
    ----------
    truncated
        Folder and case id.
    probabilities
        (head, z, y, x), or (head, y, x) of a plane, which gets nnU-Net's axis of one slice; stored as float32.
    grid
        The image's own grid.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    whole = probabilities if probabilities.ndim == 4 else probabilities[:, None]
    with atomic_path(truncated.with_name(f"{truncated.name}.npz")) as temporary:
        np.savez_compressed(temporary, probabilities=whole.astype(np.float32, copy=False))
    write_bytes(truncated.with_name(f"{truncated.name}.pkl"), pickle.dumps(spatial_properties(grid)))


class _Skipped:
    """Stands for an array whose content is not needed."""

    def __setstate__(self, state: object) -> None:
        pass


class _NumberType:
    """Stands for ``numpy.dtype`` while a numpy scalar is rebuilt."""

    def __init__(self, name: str, *_: object) -> None:
        self.name, self.order = name, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1] if state[1] in ("<", ">") else "="

    def number(self, data: object) -> float | int:
        """Return the Python number of the bytes."""
        if self.name not in _NUMBERS or not isinstance(data, bytes):
            raise pickle.UnpicklingError(f"numpy scalars of type {self.name!r} are not allowed")
        value: float | int = np.frombuffer(data, np.dtype(self.order + self.name))[0].item()
        return value


_NUMBERS = ("f2", "f4", "f8", "b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")


def _skipped(*_: object) -> _Skipped:
    return _Skipped()


def _scalar(kind: object, data: object) -> float | int:
    if not isinstance(kind, _NumberType):
        raise pickle.UnpicklingError("a numpy scalar must be made of a number type and bytes")
    return kind.number(data)


def _bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r} are not allowed")
    return text.encode("latin1")


_REBUILT: dict[str, Any] = {
    "numpy.dtype": _NumberType,
    "numpy.ndarray": _Skipped,
    "_codecs.encode": _bytes,
    **{
        f"numpy.{core}.{name}": make
        for core in ("core", "_core")
        for name, make in (
            ("multiarray.scalar", _scalar),
            ("multiarray._reconstruct", _skipped),
            ("numeric._frombuffer", _skipped),
        )
    },
}
"""Everything that such a file may ask for -> what is made here in its place."""


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, *, source: Path) -> None:
        super().__init__(stream)
        self._source = source

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in _REBUILT:
            raise UnsafeModelError(
                f"{self._source} asks for {module}.{name}, which the properties of a prepared case have no use for; "
                "nothing of it was executed. Delete the file and prepare the case again."
            )
        return _REBUILT[f"{module}.{name}"]
