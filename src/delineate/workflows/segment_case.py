"""From an image to a draft segmentation."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from delineate import __version__
from delineate.case import Image, LabelMap, Provenance, Result
from delineate.errors import UsageError
from delineate.execution import Cancellation, Progress, Silent, Watched
from delineate.inference import EmptyTiles, gather_logits, stream_logits
from delineate.inference.half_sums import predict_logits_in_half
from delineate.metrics.trust import Assessment, Behaviour, assess_case
from delineate.preprocessing import (
    air_finder,
    background_logits,
    restore_labels,
    restore_probabilities,
    restore_stream,
)
from delineate.workflows.postprocess import postprocessed
from delineate.workflows.prepare_for_model import ModelInput, prepare_for_model
from delineate.workflows.watch_case import Watch, observation_of, watching

if TYPE_CHECKING:
    from delineate.workflows.model import Model


def segment_case(
    image: Image,
    model: Model,
    *,
    previous: LabelMap | None = None,
    probabilities: bool = False,
    assess: bool = False,
    case_id: str = "",
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> Result:
    """Segment one image: prepare, predict, restore.

    Parameters
    ----------
    image
        (channel, z, y, x) or (channel, y, x) on its grid.
    model
        The trained model.
    previous
        Cascades only: the label map of the stage before on the image's grid; None: that stage is predicted too.
    probabilities
        Also return the probabilities on the image's grid, at the model's temperature.
    assess
        Also say how far the result can be trusted; see :mod:`delineate.metrics.trust`.
    case_id
        For messages and the result.
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Returns
    -------
    Result
        The label map on the image's own grid, and how it was made.

    Raises
    ------
    UsageError
        If a label map of a previous stage is missing or given in vain, tiles of air are to be left out and the model
        was not made for CT, or a result with nnU-Net's rounding is to be assessed.
    PlanError
        If the model was trained on another number of channels.
    InputError
        If the image cannot be normalised.
    Interrupted
        If a stop was requested.
    """
    began = time.perf_counter()
    package = model.package
    watched = Watched(progress=progress or Silent(), cancellation=cancellation or Cancellation())
    if assess and model.rounding == "nnunet":
        raise UsageError("A result with nnU-Net's rounding cannot be assessed; predict without that rounding.")
    given = prepare_for_model(image, model, previous, case_id=case_id, cancellation=cancellation)
    with watching(model) if assess else nullcontext() as watch:
        raw, detail = _predicted(given, model, watch, probabilities=probabilities, **watched)
        behaviour = None if watch is None else watch.behaviour()
    labels = postprocessed(given.labels_back(raw), package.postprocessing)
    return Result(
        case_id=case_id,
        labels=labels,
        probabilities=None if detail is None else given.array_back(detail),
        assessment=None if behaviour is None else _assessment(behaviour, image, labels, model, case_id),
        provenance=Provenance(
            software=f"delineate {__version__}",
            model=package.identity,
            settings={
                "folds": list(package.weights),
                "step": model.tiling.step,
                "mirror_axes": list(model.tiling.mirror_axes),
                "precision": "int8" if model.int8 else model.tiling.precision,
                "rounding": model.rounding,
                "device": model.machine.device,
                "postprocessing": [list(step.values) for step in package.postprocessing],
                "backend": "torch" if model.ensemble.backend is None else type(model.ensemble.backend).__name__,
                "air_below_hu": model.air_below_hu,
                "temperature": list(model.temperature),
            },
            seconds=time.perf_counter() - began,
        ),
    )


def _predicted(
    given: ModelInput, model: Model, watch: Watch | None, *, probabilities: bool, **watched: Unpack[Watched]
) -> tuple[LabelMap, NDArray[Any] | None]:
    """Return label map and, if wanted, probabilities on the grid of the image as it was prepared."""
    array, trace, scheme = given.prepared.array, given.prepared.trace, model.package.scheme
    if model.rounding == "nnunet":
        logits = predict_logits_in_half(model.ensemble, array, model.tiling, cancellation=watched["cancellation"])
    else:
        skip = _empty_tiles(given, model)
        if watch is None:
            slabs = stream_logits(model.ensemble, array, model.tiling, skip=skip, **watched)
        else:
            slabs = watch.stream(array, skip=skip, **watched)
        if not probabilities:
            return restore_stream(slabs, trace, scheme), None
        logits = gather_logits(slabs, trace.prepared_shape)
    labels = restore_labels(logits, trace, scheme, mode=model.rounding)
    if not probabilities:
        return labels, None
    return labels, restore_probabilities(_cooled(logits, model.temperature), trace, scheme)


def _cooled(logits: NDArray[Any], temperature: tuple[float, ...]) -> NDArray[Any]:
    """Divide logits (head, z, y, x), in place, by their temperature: one, or one per head; no labels change by it."""
    for head in range(len(logits) if temperature else 0):
        logits[head] /= np.asarray(temperature[head % len(temperature)], logits.dtype)
    return logits


def _assessment(behaviour: Behaviour, image: Image, labels: LabelMap, model: Model, case_id: str) -> Assessment:
    observation = observation_of(behaviour, image, labels, model)
    return assess_case(observation, model.package.trust, case_id=case_id)


def _empty_tiles(given: ModelInput, model: Model) -> EmptyTiles | None:
    """Return which tiles the model leaves out of this image; None: none."""
    if model.air_below_hu is None:
        return None
    schemes = model.package.configuration.normalization
    if set(schemes) != {"ct"}:
        raise UsageError(
            f"Tiles of air are known by their Hounsfield units; the model's channels are normalised as "
            f"{', '.join(schemes)}, not as CT. Predict without leaving out air."
        )
    is_air = air_finder(given.image, given.prepared.trace, below_hu=model.air_below_hu)
    return EmptyTiles(is_empty=is_air, background=background_logits(model.package.scheme))
