"""Patches of prepared cases for training steps.

The batch of step k is a pure function of the cases, the settings, the seed and k: nothing is carried from one step to
the next. A resumed run therefore sees exactly what an uninterrupted one would have seen, and batches may be made ahead
of time. Knows numpy only; no torch, no files.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from delineate.case.prepared import ANNOTATED_KEY, OUTSIDE_LABEL
from delineate.errors import DatasetError
from delineate.planning.recipe import CaseOrder

DEFAULT_CACHE_BYTES = 4 << 30
"""Prepared cases kept in memory; Hippocampus needs 0.1 GiB."""
OPEN_CASES = 64
"""Cases beyond the cache whose handles and foreground locations stay open."""


class Sliceable(Protocol):
    """An array that may lie on disk and gives numpy arrays when sliced."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""

    def __getitem__(self, key: Any, /) -> Any:
        """Return a part as a numpy array."""


class PreparedCase(Protocol):
    """One prepared case, as :class:`delineate.formats.prepared_store.PreparedStore` opens it."""

    @property
    def array(self) -> Sliceable:
        """(c, z, y, x) float32."""

    @property
    def labels(self) -> Sliceable | None:
        """(z, y, x) integer, -1 outside the nonzero crop."""

    @property
    def locations(self) -> Mapping[int, NDArray[Any]]:
        """Per structure a sample (n, 3) of its voxels, (z, y, x); see :class:`~delineate.case.prepared.Prepared`."""

    @property
    def previous(self) -> Sliceable | None:
        """(z, y, x) integer: what the previous stage of a cascade said; None without a cascade."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingCases:
    """The cases of one fold and how to open them."""

    training: tuple[str, ...]
    validation: tuple[str, ...]
    open: Callable[[str], PreparedCase]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How patches are drawn; see :class:`delineate.planning.recipe.Recipe` for the sources of the values."""

    batch_size: int
    patch_size: tuple[int, ...]
    """2 or 3 axes; with 2 axes a slice of a case is drawn."""
    drawn_size: tuple[int, ...] | None = None
    """Size to cut around each patch, to leave room for rotation and scaling (nnU-Net's initial patch size); None: the
    patch itself. The patch is its centre."""
    foreground_fraction: float
    seed: int
    stream: int = 0
    """Separates the random numbers of training (0) and validation (1)."""
    case_order: CaseOrder = "shuffled"
    """``with_replacement`` as nnU-Net, or every case once per round: steadier when there are few steps."""
    ignore: bool = False
    """Whether voxels may be unannotated; patches are then centred on annotated ones."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Patches:
    """A batch of patches."""

    images: NDArray[np.float32]
    """(B, c, *drawn), 0 beyond the image."""
    labels: NDArray[np.int16]
    """(B, *drawn), -1 beyond the image."""
    previous: NDArray[np.int16] | None = None
    """(B, *drawn), what the previous stage of a cascade said, -1 beyond the image."""
    case_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """Where a patch is cut out."""

    case_id: str
    plane: int | None
    """Slice of the volume for patches with 2 axes."""
    corner: tuple[int, ...]
    """First index of the patch per axis."""


class PatchSampler:
    """Draws the batch of any step.

    Parameters
    ----------
    case_ids
        Cases to draw from.
    cache
        Gives the cases.
    sampling
        How to draw.

    Raises
    ------
    DatasetError
        If there is no case.
    """

    def __init__(self, case_ids: Sequence[str], cache: CaseCache, sampling: Sampling) -> None:
        if not case_ids:
            raise DatasetError("Patches were to be drawn, but the fold has no case; a fold needs at least one.")
        self.case_ids = tuple(case_ids)
        self.sampling = sampling
        self._cache = cache

    def draw(self, step: int, share: slice = slice(None)) -> Patches:
        """Return the batch of ``step``, or only a share of its samples; the same one whenever it is asked for.

        The places of all samples are drawn, so that the shares of several processes make up the one batch.
        """
        rng = np.random.default_rng([self.sampling.seed, self.sampling.stream, step])
        case_ids = [self._case_id(step, position, rng) for position in range(self.sampling.batch_size)]
        places = [self._place(case_id, position, rng) for position, case_id in enumerate(case_ids)]
        drawn = [self._cut_out(place) for place in places[share]]
        previous = [stage for *_, stage in drawn if stage is not None]
        if previous and len(previous) < len(drawn):
            raise DatasetError(f"Some of the cases {', '.join(case_ids)} have a previous stage and some have none.")
        return Patches(
            images=np.stack([image for image, *_ in drawn]),
            labels=np.stack([labels for _, labels, _ in drawn]),
            previous=np.stack(previous) if previous else None,
            case_ids=tuple(case_ids[share]),
        )

    def _case_id(self, step: int, position: int, rng: np.random.Generator) -> str:
        if self.sampling.case_order == "with_replacement":
            return self.case_ids[int(rng.integers(len(self.case_ids)))]
        turn, place = divmod(step * self.sampling.batch_size + position, len(self.case_ids))
        order = np.random.default_rng([self.sampling.seed, self.sampling.stream, turn, len(self.case_ids)])
        return self.case_ids[int(order.permutation(len(self.case_ids))[place])]

    def _place(self, case_id: str, position: int, rng: np.random.Generator) -> _Place:
        case = self._cache.get(case_id)
        centre = self._centre(case, position, rng)
        shape, plane = case.array.shape[1:], None
        if len(self.sampling.patch_size) == 2:
            plane = int(rng.integers(shape[0])) if centre is None else int(centre[0])
            centre, shape = None if centre is None else centre[1:], shape[1:]
        corner = _lower_corner(shape, self.sampling.patch_size, centre, rng)
        return _Place(case_id=case_id, plane=plane, corner=corner)

    def _cut_out(self, place: _Place) -> tuple[NDArray[np.float32], NDArray[np.int16], NDArray[np.int16] | None]:
        case = self._cache.get(place.case_id)
        array, labels, previous = case.array, case.labels, case.previous
        if labels is None:
            raise DatasetError(f"Case {place.case_id} has no labels; training and validation need them.")
        if place.plane is not None:
            array, labels = array[:, place.plane], labels[place.plane]
            previous = None if previous is None else previous[place.plane]
        patch, drawn = self.sampling.patch_size, self.sampling.drawn_size or self.sampling.patch_size
        lower = [low - (have // 2 - want // 2) for low, have, want in zip(place.corner, drawn, patch, strict=True)]
        stage = None if previous is None else _cut(previous, lower, drawn, fill=OUTSIDE_LABEL, dtype=np.int16)
        image = _cut(array, lower, drawn, fill=0, dtype=np.float32)
        return image, _cut(labels, lower, drawn, fill=OUTSIDE_LABEL, dtype=np.int16), stage

    def _centre(self, case: PreparedCase, position: int, rng: np.random.Generator) -> NDArray[Any] | None:
        """Return the voxel (z, y, x) on which this patch is centred, or None for a random place."""
        if is_foreground_position(position, self.sampling.batch_size, self.sampling.foreground_fraction):
            present = present_classes(case)
            if present:
                return _any_of(case.locations[present[rng.integers(len(present))]], rng)
        annotated = case.locations.get(ANNOTATED_KEY) if self.sampling.ignore else None
        return _any_of(annotated, rng) if annotated is not None and len(annotated) else None


def is_foreground_position(position: int, batch_size: int, fraction: float) -> bool:
    """Say whether this position of a batch is centred on foreground (nnU-Net: the last ones of a batch)."""
    return position >= round(batch_size * (1.0 - fraction))


def present_classes(case: PreparedCase) -> list[int]:
    """Return the keys of the structures that ``case`` shows, ascending: label values, or region numbers from 1."""
    return sorted(key for key, found in case.locations.items() if key > 0 and len(found))


def largest_shape(case_ids: Sequence[str], cache: CaseCache) -> tuple[int, int, int]:
    """Return per axis (z, y, x) the size of the largest case."""
    shapes = np.array([cache.get(case_id).array.shape[1:] for case_id in case_ids])
    z, y, x = (int(size) for size in shapes.max(axis=0))
    return z, y, x


class CaseCache:
    """Opens cases and keeps them: as arrays in memory up to a limit, beyond that as handles.

    Used by one thread at a time, because handles of compressed files are.

    Parameters
    ----------
    open_case
        Opens a case by its id.
    limit_bytes
        Memory for arrays; the first cases asked for stay, because all are drawn equally often.
    """

    def __init__(self, open_case: Callable[[str], PreparedCase], limit_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self._open = open_case
        self._limit = limit_bytes
        self._resident: dict[str, PreparedCase] = {}
        self._handles: OrderedDict[str, PreparedCase] = OrderedDict()
        self.resident_bytes = 0

    def get(self, case_id: str) -> PreparedCase:
        """Return the case of that id."""
        return self._resident.get(case_id) or self._handles.get(case_id) or self._admit(case_id)

    def _admit(self, case_id: str) -> PreparedCase:
        case = self._open(case_id)
        maps = 1 if case.previous is None else 2
        size = math.prod(case.array.shape) * 4 + math.prod(case.array.shape[1:]) * 2 * maps
        if self.resident_bytes + size <= self._limit:
            self.resident_bytes += size
            self._resident[case_id] = _in_memory(case)
            return self._resident[case_id]
        self._handles[case_id] = case
        if len(self._handles) > OPEN_CASES:
            self._handles.popitem(last=False)
        return case


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _ResidentCase:
    array: NDArray[np.float32]
    labels: NDArray[np.int16] | None
    locations: Mapping[int, NDArray[Any]]
    previous: NDArray[np.int16] | None


def _in_memory(case: PreparedCase) -> _ResidentCase:
    return _ResidentCase(
        array=np.ascontiguousarray(case.array[:], dtype=np.float32),
        labels=None if case.labels is None else np.ascontiguousarray(case.labels[:], dtype=np.int16),
        locations=dict(case.locations),
        previous=None if case.previous is None else np.ascontiguousarray(case.previous[:], dtype=np.int16),
    )


def _any_of(places: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    chosen: NDArray[Any] = np.asarray(places[rng.integers(len(places))])
    return chosen


def _lower_corner(
    shape: Sequence[int], patch: Sequence[int], centre: NDArray[Any] | None, rng: np.random.Generator
) -> tuple[int, ...]:
    """Return the first index of a patch per axis: around ``centre`` if given, and never beyond the image needlessly.

    An axis shorter than the patch is padded on both sides alike, as in nnU-Net.
    """
    corner = []
    for axis, (size, length) in enumerate(zip(shape, patch, strict=True)):
        missing = max(length - size, 0)
        lowest, highest = -(missing // 2), max(size - length, -(missing // 2))
        if centre is None:
            corner.append(int(rng.integers(lowest, highest + 1)))
        else:
            corner.append(min(max(int(centre[axis]) - length // 2, lowest), highest))
    return tuple(corner)


def _cut(array: Any, lower: Sequence[int], patch: Sequence[int], *, fill: int, dtype: type[np.generic]) -> NDArray[Any]:
    """Cut a patch out of the last axes of ``array``; what lies outside is ``fill``."""
    leading = tuple(array.shape[: len(array.shape) - len(patch)])
    sizes = array.shape[len(leading) :]
    spans = [_overlap(low, length, size) for low, length, size in zip(lower, patch, sizes, strict=True)]
    whole = (slice(None),) * len(leading)
    out = np.full((*leading, *patch), fill, dtype=dtype)
    out[whole + tuple(target for target, _ in spans)] = array[whole + tuple(source for _, source in spans)]
    return out


def _overlap(low: int, length: int, size: int) -> tuple[slice, slice]:
    start, stop = max(low, 0), max(min(low + length, size), max(low, 0))
    return slice(start - low, stop - low), slice(start, stop)
