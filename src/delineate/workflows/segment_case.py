"""From an image to a draft segmentation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from delineate import __version__
from delineate.case import Image, Provenance, Result
from delineate.case.prepared import Trace
from delineate.errors import UsageError
from delineate.execution import Cancellation, Progress
from delineate.inference import EmptyTiles, gather_logits, stream_logits
from delineate.preprocessing import (
    air_finder,
    background_logits,
    prepare,
    restore_labels,
    restore_probabilities,
    restore_stream,
)

if TYPE_CHECKING:
    from delineate.workflows.model import Model


def segment_case(
    image: Image,
    model: Model,
    *,
    probabilities: bool = False,
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
    probabilities
        Also return the probabilities on the image's grid.
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
        If tiles of air are to be left out and the model was not made for CT.
    PlanError
        If the model was trained on another number of channels.
    InputError
        If the image cannot be normalised.
    Interrupted
        If a stop was requested.
    """
    began = time.perf_counter()
    package = model.package
    prepared = prepare(image, None, package.plan, package.configuration, case_id=case_id)
    slabs = stream_logits(
        model.ensemble,
        prepared.array,
        model.tiling,
        skip=_empty_tiles(image, prepared.trace, model),
        progress=progress,
        cancellation=cancellation,
    )
    detail = None
    if probabilities:
        logits = gather_logits(slabs, prepared.trace.prepared_shape)
        labels = restore_labels(logits, prepared.trace, package.scheme)
        detail = restore_probabilities(logits, prepared.trace, package.scheme)
    else:
        labels = restore_stream(slabs, prepared.trace, package.scheme)
    return Result(
        case_id=case_id,
        labels=labels,
        probabilities=detail,
        provenance=Provenance(
            software=f"delineate {__version__}",
            model=package.identity,
            settings={
                "folds": list(package.weights),
                "step": model.tiling.step,
                "mirror_axes": list(model.tiling.mirror_axes),
                "precision": model.tiling.precision,
                "device": model.machine.device,
                "backend": "torch" if model.ensemble.backend is None else type(model.ensemble.backend).__name__,
                "air_below_hu": model.air_below_hu,
            },
            seconds=time.perf_counter() - began,
        ),
    )


def _empty_tiles(image: Image, trace: Trace, model: Model) -> EmptyTiles | None:
    """Return which tiles the model leaves out of this image; None: none."""
    if model.air_below_hu is None:
        return None
    schemes = model.package.configuration.normalization
    if set(schemes) != {"ct"}:
        raise UsageError(
            f"Tiles of air are known by their Hounsfield units; the model's channels are normalised as "
            f"{', '.join(schemes)}, not as CT. Predict without leaving out air."
        )
    is_air = air_finder(image, trace, below_hu=model.air_below_hu)
    return EmptyTiles(is_empty=is_air, background=background_logits(model.package.scheme))
