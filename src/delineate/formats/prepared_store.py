"""The folder of prepared cases, which nnU-Net can train from as well.

Per case nnU-Net finds ``{id}.b2nd`` (intensities), ``{id}_seg.b2nd`` (labels) and ``{id}.pkl`` (properties). Delineate
never unpickles: it reads ``delineate/{id}.record`` (trace, settings, file sizes, sampled voxels) instead. The record is
written last; a case without it, or with files of another size than it says, is not there. The records stand in a
folder of their own, because nnU-Net refuses folders with files of several endings.

References
----------
nnU-Net 2.8.1: ``training/dataloading/nnunet_dataset.py`` for codec, blocks, chunks and the names of the properties.
"""

from __future__ import annotations

import math
import os
import pickle  # only written, for nnU-Net; never read
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from delineate.case.prepared import Prepared, Trace
from delineate.errors import ResourceError, UsageError
from delineate.execution import atomic_path
from delineate.formats.blosc_frames import compressed_frame
from delineate.formats.case_record import damaged, read_facts, read_locations, write_record
from delineate.formats.nnunet.case_properties import spatial_properties

SIDE_FOLDER = "delineate"
PART_FOLDER = ".partial"
"""Where files are until they are complete. It stays, because removing a folder can cost more than the writing."""
RECORD = ".record"
ENDINGS = (".b2nd", "_seg.b2nd", ".pkl", RECORD)
"""The files of a case in the order in which they are put in place."""
MOST_BLOCK_BYTES = 128 * 1024
"""Blocks are what one read decompresses at least (nnU-Net)."""
MOST_CHUNK_BYTES = 6 * 1024**2
"""Chunks are what lies together in the file (nnU-Net)."""
CHUNK_TO_PATCH = 1.5
"""Chunks reach at most this multiple of the patch along an axis (nnU-Net)."""

Shape4 = tuple[int, int, int, int]


class StoredArray:
    """An array in a file; slicing reads and decompresses only the blocks that are touched.

    Parameters
    ----------
    path
        A ``.b2nd`` file of a (channel, z, y, x) array.
    first_channel
        Drop the channel axis and show channel 0 only: (z, y, x).

    Raises
    ------
    ImageReadError
        If the file is missing or damaged.
    """

    def __init__(self, path: Path, *, first_channel: bool = False) -> None:
        self._path = path
        self._prefix: tuple[int, ...] = (0,) if first_channel else ()
        try:
            self._file = blosc2.open(urlpath=str(path), mode="r", dparams={"nthreads": 1}, **_mapped())
        except (RuntimeError, OSError, ValueError) as error:
            raise damaged(path) from error
        self.shape: tuple[int, ...] = tuple(self._file.shape[len(self._prefix) :])
        self.dtype: np.dtype[Any] = self._file.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read the part that slices or integers name; a numpy array.

        Raises
        ------
        ImageReadError
            If the part cannot be decompressed.
        """
        try:
            return np.asarray(self._file[(*self._prefix, *(key if isinstance(key, tuple) else (key,)))])
        except RuntimeError as error:
            raise damaged(self._path) from error

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the whole array."""
        return np.asarray(self[...], dtype=dtype)


def _mapped() -> dict[str, str]:
    # memory maps of blosc2 do not work on Windows
    return {} if os.name == "nt" else {"mmap_mode": "r"}


@dataclass(frozen=True, kw_only=True, eq=False)  # no slots: `locations` is cached
class StoredCase:
    """A prepared case on disk; arrays are read when sliced.

    Attributes
    ----------
    array
        (channel, z, y, x) float32.
    labels
        (z, y, x) int16, -1 outside the body.
    trace
        The way back to the image's grid.
    location_labels
        The label values that each key of ``locations`` stands for.
    previous
        (z, y, x): what the previous stage of a cascade said; None without a cascade.
    """

    case_id: str
    array: StoredArray
    labels: StoredArray
    trace: Trace
    location_labels: Mapping[int, tuple[int, ...]]
    record_file: Path
    previous: StoredArray | None = None

    @cached_property
    def locations(self) -> dict[int, NDArray[np.int32]]:
        """Sampled voxels per structure: key -> (n, 3) int32 indices (z, y, x); read at the first use."""
        return read_locations(self.record_file, self.trace.prepared_shape)

    def load(self) -> Prepared:
        """Read everything into memory."""
        return Prepared(
            array=self.array[...],
            labels=self.labels[...],
            trace=self.trace,
            locations=self.locations,
            location_labels=self.location_labels,
        )


class PreparedStore:
    """A folder of prepared cases of one configuration.

    Parameters
    ----------
    folder
        Made at the first write.
    settings
        What the preparation depends on, in any spelling, for instance a hash
        (:func:`delineate.preprocessing.preparation_key`). A case written under other settings counts as not there.
        Empty: take every case.
    patch_size
        The patches that will be read, 2 or 3 axes; the file's blocks follow it. None: whole volumes.
    """

    def __init__(self, folder: Path, *, settings: str = "", patch_size: tuple[int, ...] | None = None) -> None:
        self.folder = Path(folder)
        self._settings = settings
        self._patch_size = patch_size

    def write(self, case_id: str, prepared: Prepared) -> None:
        """Write one case; it appears whole or not at all, and replaces an older one.

        Raises
        ------
        UsageError
            If the case has no labels: there is nothing to train from.
        ResourceError
            If the folder cannot be written or the disk is full.
        """
        if prepared.labels is None:
            raise UsageError(f"Only cases with labels are stored for training; case {case_id} has none.")
        part = self.folder / SIDE_FOLDER / PART_FOLDER
        parts = {path.name: path for path in (part / f"{case_id}{ending}" for ending in ENDINGS)}
        try:
            part.mkdir(parents=True, exist_ok=True)
            # the record goes first and comes last: between, the case is not there
            self._record_file(case_id).unlink(missing_ok=True)
            self._write_parts(case_id, prepared, parts)
            for name, path in parts.items():
                path.replace(self._place(name))
        except OSError as error:
            raise ResourceError(
                f"Could not write case {case_id} into {self.folder} ({error.strerror}). Free some space or choose "
                "another folder, and run the same command again."
            ) from error
        finally:
            for path in parts.values():
                path.unlink(missing_ok=True)

    def has(self, case_id: str) -> bool:
        """Say whether the case is there, complete, and prepared under the store's settings."""
        record = read_facts(self._record_file(case_id))
        if record is None or (self._settings and record.get("settings") != self._settings):
            return False
        return all(_size(self.folder / name) == size for name, size in record["files"].items())

    def adopt(
        self,
        case_id: str,
        trace: Trace,
        locations: Mapping[int, NDArray[np.int32]],
        location_labels: Mapping[int, tuple[int, ...]],
    ) -> None:
        """Take a case that nnU-Net prepared: its files stay as they are, what they lack is written beside them.

        Parameters
        ----------
        case_id
            Of files ``{id}.b2nd``, ``{id}_seg.b2nd`` and ``{id}.pkl`` in the folder.
        trace
            The way back to the image's grid.
        locations, location_labels
            As in :class:`~delineate.case.prepared.Prepared`.

        Raises
        ------
        ResourceError
            If the folder cannot be written or the disk is full.
        """
        names = [f"{case_id}{ending}" for ending in ENDINGS if ending != RECORD]
        facts = self._facts(case_id, trace, location_labels, {name: _size(self.folder / name) for name in names})
        with atomic_path(self._record_file(case_id)) as temporary:
            write_record(temporary, facts, locations, trace.prepared_shape)

    def discard(self, case_id: str) -> None:
        """Remove all files of a case, nnU-Net's among them; nothing happens where there are none."""
        for ending in reversed(ENDINGS):
            self._place(f"{case_id}{ending}").unlink(missing_ok=True)

    def modified(self, case_id: str) -> float:
        """Return when the case was stored, as seconds of the file system's clock; -inf if it is not there."""
        record = self._record_file(case_id)
        return record.stat().st_mtime if record.exists() else -math.inf

    def names(self) -> tuple[str, ...]:
        """Return the ids of all cases with files in the folder, those that nnU-Net prepared among them, sorted."""
        found = (path.name for path in self.folder.glob("*.b2nd"))
        return tuple(sorted(name.removesuffix(".b2nd") for name in found if not name.endswith("_seg.b2nd")))

    def case_ids(self) -> tuple[str, ...]:
        """Return the ids of all complete cases of the store's settings, sorted."""
        found = (path.name.removesuffix(RECORD) for path in (self.folder / SIDE_FOLDER).glob(f"*{RECORD}"))
        return tuple(sorted(case_id for case_id in found if self.has(case_id)))

    def open(self, case_id: str) -> StoredCase:
        """Open one case for reading patches.

        Raises
        ------
        ImageReadError
            If the case is missing, incomplete or damaged.
        """
        record = read_facts(self._record_file(case_id))
        if record is None:
            raise damaged(self._record_file(case_id))
        for name, size in record["files"].items():
            if _size(self.folder / name) != size:
                raise damaged(self.folder / name)
        return StoredCase(
            case_id=case_id,
            array=StoredArray(self.folder / f"{case_id}.b2nd"),
            labels=StoredArray(self.folder / f"{case_id}_seg.b2nd", first_channel=True),
            trace=Trace.from_json(record["trace"]),
            location_labels={int(key): tuple(values) for key, values in record["location_labels"].items()},
            record_file=self._record_file(case_id),
        )

    def _record_file(self, case_id: str) -> Path:
        return self.folder / SIDE_FOLDER / f"{case_id}{RECORD}"

    def _place(self, name: str) -> Path:
        return self.folder / SIDE_FOLDER / name if name.endswith(RECORD) else self.folder / name

    def _write_parts(self, case_id: str, prepared: Prepared, parts: Mapping[str, Path]) -> None:
        """Write all files of a case under temporary names, the record with the sizes of the others last."""
        array_file, labels_file, properties_file, record_file = parts.values()
        trace = prepared.trace
        labels = np.ascontiguousarray(prepared.labels, np.int16)[None]
        array = np.ascontiguousarray(prepared.array, np.float32)
        _write_array(array_file, array, self._patch_size, _byte_filter(trace))
        _write_array(labels_file, labels, self._patch_size, blosc2.Filter.SHUFFLE)
        properties_file.write_bytes(pickle.dumps(_nnunet_properties(prepared)))
        sizes = {name: path.stat().st_size for name, path in parts.items() if path != record_file}
        facts = self._facts(case_id, trace, prepared.location_labels, sizes)
        write_record(record_file, facts, prepared.locations, trace.prepared_shape)

    def _facts(
        self,
        case_id: str,
        trace: Trace,
        location_labels: Mapping[int, tuple[int, ...]],
        sizes: Mapping[str, int],
    ) -> dict[str, Any]:
        return {
            "case_id": case_id,
            "settings": self._settings,
            "files": dict(sizes),
            "trace": trace.to_json(),
            "location_labels": {str(key): list(values) for key, values in location_labels.items()},
        }


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


def _write_array(path: Path, array: NDArray[Any], patch_size: tuple[int, ...] | None, byte_filter: Any) -> None:
    patch = patch_size if patch_size is not None else array.shape[1:]
    blocks, chunks = block_shapes(array.shape, patch, array.itemsize)
    # compressed in memory and written at once: quicker than blosc2's own writing, and a full disk is told as such
    path.write_bytes(compressed_frame(array, chunks, blocks, byte_filter=byte_filter))


def _byte_filter(trace: Trace) -> Any:
    """Return the filter that makes intensities smaller: interpolated values gain by shuffling, repeated ones lose."""
    return blosc2.Filter.NOFILTER if trace.prepared_shape == trace.cropped_shape else blosc2.Filter.SHUFFLE


def block_shapes(shape: tuple[int, ...], patch_size: tuple[int, ...], itemsize: int) -> tuple[Shape4, Shape4]:
    """Return nnU-Net's block and chunk shapes of a stored array.

    A block starts as the patch rounded up to powers of two and is halved along the axis that covers most of its target
    until it fits :data:`MOST_BLOCK_BYTES`. A chunk grows from it block by block along the axis that covers least, up to
    1.5 patches and :data:`MOST_CHUNK_BYTES`; axes on which the patch is one voxel thin do not grow.

    Parameters
    ----------
    shape
        (channel, z, y, x) of the array.
    patch_size
        (z, y, x) or (y, x).
    itemsize
        Bytes per voxel.
    """
    image = tuple(int(size) for size in shape[1:])
    patch = (1, *patch_size) if len(patch_size) == 2 else tuple(patch_size)
    target = tuple(
        max(1, min(size, math.floor(CHUNK_TO_PATCH * edge))) for size, edge in zip(image, patch, strict=True)
    )
    block = [min(_power_of_two_above(edge), size) for edge, size in zip(patch, image, strict=True)]
    while math.prod(block) * itemsize > MOST_BLOCK_BYTES:
        axis = max((a for a in range(3) if block[a] > 1), key=lambda a: (block[a] / target[a], a))
        block[axis] = max(1, _power_of_two_below(block[axis]))
    growing = tuple(axis for axis in range(3) if patch[axis] > 1)
    chunk = _grown(block, image, target, growing, itemsize)
    return (1, block[0], block[1], block[2]), (1, chunk[0], chunk[1], chunk[2])


def _grown(
    block: list[int], image: tuple[int, ...], target: tuple[int, ...], growing: tuple[int, ...], itemsize: int
) -> list[int]:
    chunk = list(block)
    while True:
        candidates = []
        for axis in growing:
            larger = list(chunk)
            larger[axis] = min(chunk[axis] + block[axis], target[axis])
            size = math.prod(larger) * itemsize
            if chunk[axis] < target[axis] and size <= MOST_CHUNK_BYTES:
                candidates.append((chunk[axis] / target[axis], -image[axis], axis, larger))
        if not candidates:
            return chunk
        chunk = min(candidates, key=lambda candidate: candidate[:3])[3]


def _power_of_two_above(size: int) -> int:
    return 1 << (size - 1).bit_length() if size > 1 else 1


def _power_of_two_below(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1) if size > 1 else 1


def _nnunet_properties(prepared: Prepared) -> dict[str, Any]:
    """Return the properties that nnU-Net keeps beside a case."""
    trace = prepared.trace
    original = [0.0] * len(trace.transpose)
    for axis, spacing in zip(trace.transpose, trace.spacing_mm, strict=True):
        original[axis] = spacing
    return {
        **spatial_properties(trace.grid),
        "spacing": original,
        "shape_before_cropping": trace.shape,
        "bbox_used_for_cropping": [list(edge) for edge in trace.box],
        "shape_after_cropping_and_before_resampling": trace.cropped_shape,
        "class_locations": _nnunet_locations(prepared),
    }


def _nnunet_locations(prepared: Prepared) -> dict[Any, Any]:
    """Return nnU-Net's ``class_locations``: int or tuple of labels -> (n, 4), channel first, or an empty list."""
    found: dict[Any, Any] = {}
    for key, voxels in prepared.locations.items():
        values = prepared.location_labels[key]
        name = values[0] if len(values) == 1 else values
        found[name] = np.pad(voxels.astype(np.int64), ((0, 0), (1, 0))) if len(voxels) else []
    return found
