"""The fingerprint: what the planner knows of a dataset.

:func:`measure_case` looks at one case, :func:`pool` joins the cases. Spacings, shapes and intensities are nnU-Net's
numbers to the last bit (2.8.1, ``DatasetFingerprintExtractor``); the facts on structures are our own, for the budget.
Knows arrays and spacings, no files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.case.labels import LabelScheme
from delineate.errors import InputError, LabelError, PlanError
from delineate.planning.plan import IntensityStatistics
from delineate.planning.sampling import DrawStream, percentiles_of_counts

POOLED_SAMPLES = 100_000_000
"""Foreground intensities drawn over the whole dataset (nnU-Net ``num_foreground_voxels_for_intensitystats``)."""
PERCENTILES = (0.5, 50.0, 99.5)
PLANE_SPACING_FACTOR = 999
"""A plane becomes a volume of one slice this many times its largest spacing thick (nnU-Net's 2-D readers)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureFacts:
    """How much of one label value the training cases hold."""

    value: int
    name: str
    cases: int
    """Number of cases in which the value occurs."""
    median_volume_mm3: float
    """Over the cases in which it occurs; 0 if it never does."""
    smallest_volume_mm3: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """What the planner knows of a dataset. Axes are those of the files (z, y, x), before any transposing."""

    spacings_mm: tuple[tuple[float, ...], ...]
    """Per case, mm."""
    shapes_after_crop: tuple[tuple[int, ...], ...]
    """Per case, voxels, after cropping to the non-zero region."""
    intensities: tuple[IntensityStatistics, ...]
    """Per channel, over foreground voxels of all cases."""
    median_relative_size_after_cropping: float
    structures: tuple[StructureFacts, ...] = ()
    """Per label value, ascending; empty if read from a file of nnU-Net, which does not record it."""

    def __post_init__(self) -> None:
        if not self.spacings_mm or len(self.spacings_mm) != len(self.shapes_after_crop):
            raise PlanError(
                "A fingerprint needs one spacing and one shape per case and at least one case; got "
                f"{len(self.spacings_mm)} spacings and {len(self.shapes_after_crop)} shapes."
            )
        if any(len(s) != 3 for s in (*self.spacings_mm, *self.shapes_after_crop)):
            raise PlanError("Spacings and shapes of a fingerprint must have three axes (z, y, x).")
        if any(not math.isfinite(v) or v <= 0 for s in self.spacings_mm for v in s):
            raise PlanError("Spacings of a fingerprint must be positive and finite.")
        if any(n < 1 for s in self.shapes_after_crop for n in s):
            raise PlanError("Shapes of a fingerprint must have at least one voxel per axis.")

    @property
    def cases(self) -> int:
        """Number of training cases that were measured."""
        return len(self.spacings_mm)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CaseMeasurement:
    """What one case adds to the fingerprint."""

    spacing_mm: tuple[float, ...]
    shape_after_crop: tuple[int, ...]
    relative_size: float
    """Voxels after cropping / voxels before."""
    foreground: tuple[NDArray[np.float32], ...]
    """Per channel ``(n,)``: the foreground intensities in array order, or the draw from them, see ``drawn``."""
    drawn: bool
    """Whether ``foreground`` is the draw already: so when there are more voxels than draws, to save room."""
    voxels_of: dict[int, int]
    """Number of voxels per positive label value, whole image."""


def samples_per_case(cases: int, total: int = POOLED_SAMPLES) -> int:
    """Return how many foreground intensities each of ``cases`` cases contributes.

    Raises
    ------
    PlanError
        If there is no case.
    """
    if cases < 1:
        raise PlanError("A fingerprint needs at least one training case; got none.")
    return total // cases


def measure_case(
    array: NDArray[Any],
    labels: NDArray[Any] | None,
    spacing_mm: Sequence[float],
    *,
    samples: int,
    case_id: str = "",
) -> CaseMeasurement:
    """Measure one case.

    Parameters
    ----------
    array
        ``(channel, z, y, x)`` or ``(channel, y, x)`` intensities; taken as float32, as nnU-Net reads them.
    labels
        ``(z, y, x)`` or ``(y, x)`` label values on the same grid, or None.
    spacing_mm
        Per spatial axis of the array, mm. A plane becomes a volume of one thick slice.
    samples
        How many intensities the case contributes, see :func:`samples_per_case`.
    case_id
        For error messages.

    Raises
    ------
    InputError
        If intensities are not finite numbers (NaN).
    LabelError
        If the labels do not have the shape of the image.
    """
    volume, spacing = _as_volume(np.asarray(array, dtype=np.float32), spacing_mm)
    if np.isnan(volume).any():
        raise InputError(f"The image of case '{case_id}' holds NaN; replace the NaN voxels, for example by 0.")
    box = nonzero_box(volume)
    cropped = volume[(slice(None), *box)]
    mask, voxels_of = _foreground(labels, volume.shape[1:], box, case_id)
    values = tuple(channel[mask] for channel in cropped)
    drawn = len(values[0]) > samples
    return CaseMeasurement(
        spacing_mm=spacing,
        shape_after_crop=tuple(int(n) for n in cropped.shape[1:]),
        relative_size=float(np.prod(cropped.shape[1:]) / np.prod(volume.shape[1:])),
        foreground=_drawn(values, samples) if drawn else values,
        drawn=drawn,
        voxels_of=voxels_of,
    )


def _as_volume(
    array: NDArray[np.float32], spacing_mm: Sequence[float]
) -> tuple[NDArray[np.float32], tuple[float, ...]]:
    spacing = tuple(float(s) for s in spacing_mm)
    if array.ndim == 3:
        return array[:, None], (PLANE_SPACING_FACTOR * max(spacing), *spacing)
    return array, spacing


def nonzero_box(array: NDArray[Any]) -> tuple[slice, ...]:
    """Return the bounding box of the voxels that are not 0 in every channel; the whole array if there is none.

    ``array`` is ``(channel, z, y, x)``; one slice per spatial axis. Filling the holes of the mask, as nnU-Net does
    before, cannot change its box and is left out.
    """
    mask = (array != 0).any(axis=0)
    if not mask.any():
        return tuple(slice(0, n) for n in mask.shape)
    axes = range(mask.ndim)
    hits = [np.flatnonzero(mask.any(axis=tuple(a for a in axes if a != axis))) for axis in axes]
    return tuple(slice(int(h[0]), int(h[-1]) + 1) for h in hits)


def _foreground(
    labels: NDArray[Any] | None, shape: tuple[int, ...], box: tuple[slice, ...], case_id: str
) -> tuple[NDArray[np.bool_], dict[int, int]]:
    if labels is None:
        return np.zeros([s.stop - s.start for s in box], dtype=np.bool_), {}
    volume = labels[None] if labels.ndim == 2 else labels
    if volume.shape != shape:
        raise LabelError(
            f"The labels of case '{case_id}' must have the image's shape {shape}; got {volume.shape}. "
            "Check that image and mask belong together."
        )
    present, counts = np.unique(volume[volume > 0], return_counts=True)
    return volume[box] > 0, {int(v): int(n) for v, n in zip(present, counts, strict=True)}


def _drawn(values: Sequence[NDArray[np.float32]], samples: int) -> tuple[NDArray[np.float32], ...]:
    indices = DrawStream(samples).indices([len(channel) for channel in values])
    return tuple(channel[chosen] for channel, chosen in zip(values, indices, strict=True))


def pool(measurements: Sequence[CaseMeasurement], *, samples: int, scheme: LabelScheme | None = None) -> Fingerprint:
    """Join the measurements of all training cases.

    Parameters
    ----------
    measurements
        In the order of the sorted case ids: float32 sums depend on the order, and this is nnU-Net's.
    samples
        The same number that was given to :func:`measure_case`.
    scheme
        Gives the structures their names.

    Raises
    ------
    PlanError
        If there is no case, the numbers of channels differ, or no case has a foreground voxel.
    """
    if not measurements:
        raise PlanError("A fingerprint needs at least one training case; got none.")
    channels = {len(m.foreground) for m in measurements}
    if len(channels) != 1:
        raise PlanError(f"All cases need the same number of channels; found {sorted(channels)}.")
    stream = DrawStream(samples)
    return Fingerprint(
        spacings_mm=tuple(m.spacing_mm for m in measurements),
        shapes_after_crop=tuple(m.shape_after_crop for m in measurements),
        intensities=tuple(_statistics(_pooled(measurements, c, stream)) for c in range(channels.pop())),
        median_relative_size_after_cropping=float(np.median([m.relative_size for m in measurements])),
        structures=_structures(measurements, scheme),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Pool:
    """The drawn intensities of one channel over all cases, and where they come from."""

    values: NDArray[Any]
    """Every draw, in the order of the cases."""
    sources: NDArray[Any]
    """The voxels that were drawn from, if no case was drawn early."""
    counts: NDArray[np.int64]
    """How often each of ``sources`` was drawn; empty if a case was drawn early."""


def _pooled(measurements: Sequence[CaseMeasurement], channel: int, stream: DrawStream) -> _Pool:
    used = [m for m in measurements if len(m.foreground[channel])]
    if not used:
        raise PlanError(
            "No training case has a foreground voxel, so nothing can be learned. Check that the label files belong to "
            "the images and that the labels are declared with the values that the files hold."
        )
    # nnU-Net joins an empty *double* list for a case without foreground, which makes the pool double precision
    dtype = np.float32 if len(used) == len(measurements) else np.float64
    values = np.empty((len(used), stream.samples), dtype=dtype)
    counts = []
    for row, m in zip(values, used, strict=True):
        voxels = m.foreground[channel]
        if m.drawn:
            row[:] = voxels
            continue
        indices = stream.indices([len(v) for v in m.foreground[: channel + 1]])[channel]
        row[:] = voxels[indices]
        counts.append(np.bincount(indices, minlength=len(voxels)))
    complete = len(counts) == len(used)
    return _Pool(
        values=values.reshape(-1),
        sources=np.concatenate([m.foreground[channel] for m in used]).astype(dtype) if complete else values[:0, 0],
        counts=np.concatenate(counts) if complete else np.empty(0, dtype=np.int64),
    )


def _statistics(pooled: _Pool) -> IntensityStatistics:
    values = pooled.values
    mean, std = float(np.mean(values)), float(np.std(values))
    low, high = float(np.min(values)), float(np.max(values))
    if len(pooled.counts):
        p_low, median, p_high = percentiles_of_counts(pooled.sources, pooled.counts, PERCENTILES)
    else:
        # last, because it may reorder the values in place: one copy of 1e8 numbers less
        p_low, median, p_high = np.percentile(values, np.array(PERCENTILES), overwrite_input=True)
    return IntensityStatistics(
        mean=mean,
        median=float(median),
        std=std,
        min=low,
        max=high,
        percentile_99_5=float(p_high),
        percentile_00_5=float(p_low),
    )


def _structures(measurements: Sequence[CaseMeasurement], scheme: LabelScheme | None) -> tuple[StructureFacts, ...]:
    names = _names(scheme)
    values = sorted({v for m in measurements for v in m.voxels_of} | set(names))
    return tuple(_facts(value, names.get(value, f"label {value}"), measurements) for value in values)


def _names(scheme: LabelScheme | None) -> dict[int, str]:
    if scheme is None:
        return {}
    names = {value: f"label {value}" for value in scheme.values}
    names.update({s.values[0]: s.name for s in scheme.structures if len(s.values) == 1})
    return names


def _facts(value: int, name: str, measurements: Sequence[CaseMeasurement]) -> StructureFacts:
    volumes = [m.voxels_of[value] * math.prod(m.spacing_mm) for m in measurements if value in m.voxels_of]
    return StructureFacts(
        value=value,
        name=name,
        cases=len(volumes),
        median_volume_mm3=float(np.median(volumes)) if volumes else 0.0,
        smallest_volume_mm3=min(volumes, default=0.0),
    )
