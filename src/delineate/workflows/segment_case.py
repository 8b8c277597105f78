"""From an image to a draft segmentation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from delineate import __version__
from delineate.case import Image, LabelMap, Provenance, Result
from delineate.execution import Cancellation, Progress, Silent, Watched
from delineate.inference import predict_logits
from delineate.inference.half_sums import predict_logits_in_half
from delineate.preprocessing import restore_labels, restore_probabilities
from delineate.workflows.postprocess import postprocessed
from delineate.workflows.prepare_for_model import prepare_for_model

if TYPE_CHECKING:
    from delineate.workflows.model import Model


def segment_case(
    image: Image,
    model: Model,
    *,
    previous: LabelMap | None = None,
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
    previous
        Cascades only: the label map of the stage before on the image's grid; None: that stage is predicted too.
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
        If a label map of a previous stage is missing or given in vain.
    PlanError
        If the model was trained on another number of channels.
    InputError
        If the image cannot be normalised.
    Interrupted
        If a stop was requested.
    """
    began = time.perf_counter()
    package = model.package
    given = prepare_for_model(image, model, previous, case_id=case_id, cancellation=cancellation)
    prepared = given.prepared
    if model.rounding == "nnunet":
        logits = predict_logits_in_half(model.ensemble, prepared.array, model.tiling, cancellation=cancellation)
    else:
        watched = Watched(progress=progress or Silent(), cancellation=cancellation or Cancellation())
        logits = predict_logits(model.ensemble, prepared.array, model.tiling, **watched)
    labels = restore_labels(logits, prepared.trace, package.scheme, mode=model.rounding)
    detail = restore_probabilities(logits, prepared.trace, package.scheme) if probabilities else None
    return Result(
        case_id=case_id,
        labels=postprocessed(given.labels_back(labels), package.postprocessing),
        probabilities=None if detail is None else given.array_back(detail),
        provenance=Provenance(
            software=f"delineate {__version__}",
            model=package.identity,
            settings={
                "folds": list(package.weights),
                "step": model.tiling.step,
                "mirror_axes": list(model.tiling.mirror_axes),
                "precision": model.tiling.precision,
                "rounding": model.rounding,
                "device": model.machine.device,
                "postprocessing": [list(step.values) for step in package.postprocessing],
            },
            seconds=time.perf_counter() - began,
        ),
    )
