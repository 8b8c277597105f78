"""The label map of a cascade's previous stage as further channels of the next stage's input.

Two ways lead there. In prediction the map lies on the image's grid and goes through the same steps as the image
(:func:`prepare_with_previous`). In training the logits of the previous stage go straight to the prepared grid of the
next one (:func:`restore_to_next_stage`).

References
----------
nnU-Net 2.8.1, ``inference/data_iterators.py`` and ``inference/export_prediction.py`` (``resample_and_save``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from delineate.case.image import Image, LabelMap
from delineate.case.labels import LabelScheme
from delineate.case.prepared import Prepared, Trace
from delineate.geometry.grid import Grid
from delineate.planning.plan import Configuration, Plan
from delineate.preprocessing.prepare import prepare
from delineate.preprocessing.restore import restore_labels


def prepare_with_previous(
    image: Image,
    previous: LabelMap,
    plan: Plan,
    configuration: Configuration,
    scheme: LabelScheme,
    *,
    case_id: str = "",
) -> Prepared:
    """Prepare an image for the second stage of a cascade.

    Parameters
    ----------
    image
        (channel, z, y, x) or (channel, y, x) with its grid.
    previous
        What the previous stage said, on the same grid.
    plan, configuration
        The decisions; the configuration is that of the second stage.
    scheme
        Its label values become channels, ascending.
    case_id
        Named in errors.

    Returns
    -------
    Prepared
        (channel + label, z, y, x) float32 without labels.

    Raises
    ------
    PlanError
        If the plan was made for another number of channels.
    GeometryError
        If the label map lies on another grid.
    InputError
        If the image cannot be normalised.
    """
    bare = LabelMap(array=previous.array, grid=previous.grid)  # without a scheme no foreground voxels are sampled
    prepared = prepare(image, bare, plan, configuration, case_id=case_id)
    stage = cast("NDArray[np.int16]", prepared.labels)
    return replace(prepared, array=with_one_hot(prepared.array, stage, scheme.values), labels=None)


def with_one_hot(array: NDArray[np.float32], labels: NDArray[Any], values: Sequence[int]) -> NDArray[np.float32]:
    """Return an array (channel, z, y, x) with one more channel per label value: 1 where labels (z, y, x) have it."""
    channels = len(array)
    result = np.empty((channels + len(values), *array.shape[1:]), np.float32)
    result[:channels] = array
    for channel, value in enumerate(values, start=channels):
        np.equal(labels, value, out=result[channel], casting="unsafe")
    return result


def restore_to_next_stage(
    logits: NDArray[Any], trace: Trace, scheme: LabelScheme, shape: tuple[int, ...]
) -> NDArray[Any]:
    """Return the label map that a stage says, on the prepared grid of the next stage.

    Both grids cover the same crop of the same image, so the logits are stretched to the new shape; which axis is
    treated apart is decided by the spacing of this stage alone, as in nnU-Net.

    Parameters
    ----------
    logits
        (head, z, y, x) of this stage on its prepared grid.
    trace
        Of this stage.
    scheme
        Of both stages.
    shape
        (z, y, x) of the next stage's prepared case.

    Returns
    -------
    NDArray
        (z, y, x) uint8 or uint16.

    Raises
    ------
    ModelError
        If the logits do not fit trace and scheme, or are not finite.
    """
    spacing = trace.prepared_spacing_mm
    stretch = Trace(
        grid=Grid.regular(shape, spacing),
        transpose=(0, 1, 2),
        spacing_mm=spacing,
        prepared_spacing_mm=spacing,
        shape=shape,
        box=tuple((0, size) for size in shape),
        prepared_shape=trace.prepared_shape,
    )
    return restore_labels(logits, stretch, scheme).array
