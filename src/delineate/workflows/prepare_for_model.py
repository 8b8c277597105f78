"""From an image to what a model's network takes; for a cascade, its first stage is predicted on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delineate.case import Image, LabelMap
from delineate.errors import UsageError
from delineate.execution import Cancellation
from delineate.preprocessing import Prepared, prepare, prepare_with_previous
from delineate.workflows.stored_stage import StoredStage

if TYPE_CHECKING:
    from delineate.workflows.model import Model


def prepare_for_model(
    image: Image,
    model: Model,
    previous: LabelMap | None = None,
    *,
    case_id: str = "",
    cancellation: Cancellation | None = None,
) -> Prepared:
    """Prepare an image for a model.

    Parameters
    ----------
    image
        (channel, z, y, x) or (channel, y, x) on its grid.
    model
        The trained model.
    previous
        Cascades only: the label map of the stage before on the image's grid; None: that stage is predicted.
    case_id
        For messages.
    cancellation
        Who may stop the prediction of the stage before.

    Raises
    ------
    UsageError
        If a cascade has neither its first stage nor a label map, or another model is given one.
    PlanError
        If the model was trained on another number of channels.
    InputError
        If the image cannot be prepared, or the label map lies on another grid.
    """
    package = model.package
    if package.configuration.previous_stage is None:
        if previous is not None:
            raise UsageError(
                f"A model of {package.configuration.name} takes no label map of a previous stage; got one."
            )
        return prepare(image, None, package.plan, package.configuration, case_id=case_id)
    stage = previous or _first_stage(image, model, case_id, cancellation)
    return prepare_with_previous(image, stage, package.plan, package.configuration, package.scheme, case_id=case_id)


def _first_stage(image: Image, model: Model, case_id: str, cancellation: Cancellation | None) -> LabelMap:
    if model.previous is None:
        raise UsageError(
            f"The model of {model.package.configuration.name} comes without its stage before, "
            f"{model.package.configuration.previous_stage}; give that stage's label map with the image."
        )
    if isinstance(model.previous, StoredStage):
        return model.previous.labels_of(image, case_id)
    return model.previous.predict(image, case_id=case_id, cancellation=cancellation).labels
