"""From an image to the array a network takes.

The order is nnU-Net's: transpose, crop to the body, normalise, resample, sample foreground voxels. Nothing is read or
written here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.case.image import Image, LabelMap
from delineate.case.prepared import Prepared, Trace
from delineate.errors import GeometryError, InputError, PlanError
from delineate.geometry.grid import Grid
from delineate.geometry.resample import find_separate_axis, resample, resampled_shape
from delineate.geometry.resample_labels import resample_labels
from delineate.planning.plan import Configuration, Plan
from delineate.preprocessing.normalize import normalize
from delineate.preprocessing.steps import (
    LOCATION_SEED,
    crop_to_body,
    lift,
    location_labels,
    sample_locations,
    volume_spacing,
)

PREPARATION_VERSION = 1
"""Raised whenever the same plan would give other arrays."""
IMAGE_ORDER = 3
"""Spline order of intensities (nnU-Net)."""


def prepare(
    image: Image,
    labels: LabelMap | None,
    plan: Plan,
    configuration: Configuration,
    *,
    seed: int = LOCATION_SEED,
    case_id: str = "",
) -> Prepared:
    """Crop, normalise and resample one case.

    Parameters
    ----------
    image
        (channel, z, y, x) or (channel, y, x) of any real dtype, with its grid; it is not changed.
    labels
        On the same grid, or None for a case to be predicted. With a scheme, foreground voxels are sampled.
    plan, configuration
        The decisions; the configuration should be one of the plan's.
    seed
        Seed of the foreground sample; the default draws nnU-Net's voxels.
    case_id
        Named in errors.

    Returns
    -------
    Prepared
        (channel, z, y, x) float32 with labels, trace and locations. 2-D configurations keep the slice axis as it is.

    Raises
    ------
    PlanError
        If the plan was made for another number of channels.
    GeometryError
        If the labels lie on another grid.
    InputError
        If the intensities are not finite, or cannot be normalised as planned.
    """
    _check(image, labels, configuration, case_id)
    axes = plan.transpose_forward
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which normalising refuses
        single = lift(image.array, image.grid).astype(np.float32, copy=False)
    array = single.transpose(0, *(axis + 1 for axis in axes))
    drawn = None if labels is None else lift(labels.array, labels.grid).transpose(axes)
    cropped, kept, box = crop_to_body(array, drawn)
    trace = trace_of(image.grid, configuration, axes, array.shape[1:], box)
    separate = find_separate_axis(trace.spacing_mm, trace.prepared_spacing_mm)
    normalized = _normalized(cropped, kept, plan, configuration, case_id)
    resampled = resample(normalized, trace.prepared_shape, IMAGE_ORDER, separate_axis=separate)
    if labels is None:
        return Prepared(array=resampled, labels=None, trace=trace)
    prepared_labels = resample_labels(kept, trace.prepared_shape, separate_axis=separate)
    groups = {} if labels.scheme is None else location_labels(labels.scheme)
    locations = sample_locations(prepared_labels, groups, seed=seed) if groups else {}
    return Prepared(array=resampled, labels=prepared_labels, trace=trace, locations=locations, location_labels=groups)


def preparation_key(plan: Plan, configuration: Configuration) -> str:
    """Return a hash of everything in plan and configuration that the prepared arrays depend on.

    Give it to :class:`delineate.formats.prepared_store.PreparedStore` as ``settings``, so that cases are prepared again
    when the plan changes, and only then.
    """
    facts = {
        "version": PREPARATION_VERSION,
        "transpose": plan.transpose_forward,
        "spacing_mm": configuration.spacing_mm,
        "normalization": configuration.normalization,
        "use_mask_for_norm": configuration.use_mask_for_norm,
        "intensities": [asdict(statistics) for statistics in plan.intensities],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _check(image: Image, labels: LabelMap | None, configuration: Configuration, case_id: str) -> None:
    if image.channels != len(configuration.normalization):
        raise PlanError(
            f"Configuration {configuration.name} was planned for {len(configuration.normalization)} channels; "
            f"the image {_of(case_id)}has {image.channels}. Give the channels that the plan names, in the same order."
        )
    if labels is not None and labels.grid.shape != image.grid.shape:
        raise GeometryError(
            f"Labels must lie on the image's grid of shape {image.grid.shape}; {_of(case_id)}they have shape "
            f"{labels.grid.shape}. Run `delineate verify` on the dataset."
        )


def _of(case_id: str) -> str:
    return f"of case {case_id} " if case_id else ""


def trace_of(
    grid: Grid,
    configuration: Configuration,
    axes: tuple[int, ...],
    shape: tuple[int, ...],
    box: tuple[tuple[int, int], ...],
) -> Trace:
    """Return the way back from a prepared case.

    Parameters
    ----------
    grid
        The image's own.
    configuration
        Says the spacing after resampling.
    axes
        ``transpose_forward`` of the plan.
    shape
        Shape of the transposed image before cropping, slice axis included.
    box
        What the crop kept, half-open (start, stop) per transposed axis.
    """
    original = volume_spacing(grid)
    spacing = tuple(original[axis] for axis in axes)
    target = configuration.spacing_mm
    prepared_spacing = target if len(target) == 3 else (spacing[0], *target)
    cropped_shape = [stop - start for start, stop in box]
    return Trace(
        grid=grid,
        transpose=tuple(axes),
        spacing_mm=spacing,
        prepared_spacing_mm=tuple(prepared_spacing),
        shape=tuple(shape),
        box=box,
        prepared_shape=resampled_shape(cropped_shape, spacing, prepared_spacing),
    )


def _normalized(
    array: NDArray[np.float32], labels: NDArray[Any], plan: Plan, configuration: Configuration, case_id: str
) -> NDArray[np.float32]:
    result = np.empty(array.shape, np.float32)
    for channel, scheme in enumerate(configuration.normalization):
        mask = labels >= 0 if configuration.use_mask_for_norm[channel] else None
        try:
            result[channel] = normalize(array[channel], scheme, statistics=plan.intensities[channel], mask=mask)
        except InputError as error:
            raise InputError(f"Channel {channel} {_of(case_id)}cannot be normalised: {error}") from error
    return result
