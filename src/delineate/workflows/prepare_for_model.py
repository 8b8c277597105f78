"""From an image to what a model's network takes; for a cascade, its first stage is predicted on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from delineate.case import Image, LabelMap
from delineate.errors import UsageError
from delineate.execution import Cancellation
from delineate.geometry.grid import Grid
from delineate.geometry.orientation import Reorientation
from delineate.preprocessing import Prepared, prepare, prepare_with_previous
from delineate.preprocessing.reader_orientation import (
    reader_turning,
    turn_array_back,
    turn_image,
    turn_labels,
    turn_labels_back,
)
from delineate.workflows.stored_stage import StoredStage

if TYPE_CHECKING:
    from delineate.workflows.model import Model


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ModelInput:
    """An image as a model takes it, and the way back to the image's own grid."""

    image: Image
    """The image, turned as the reader of the model's plan turns it; what the trace of ``prepared`` leads back to."""
    prepared: Prepared
    turning: Reorientation
    grid: Grid
    """Of the image before it was turned."""

    def labels_back(self, labels: LabelMap) -> LabelMap:
        """Return restored labels on the image's own grid."""
        return turn_labels_back(labels, self.turning, self.grid)

    def array_back(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a restored array (..., z, y, x) as the image lay."""
        return turn_array_back(array, self.turning)


def prepare_for_model(
    image: Image,
    model: Model,
    previous: LabelMap | None = None,
    *,
    case_id: str = "",
    cancellation: Cancellation | None = None,
) -> ModelInput:
    """Turn an image as the model's plan wants it and prepare it.

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
    stage = previous_labels(image, model, previous, case_id=case_id, cancellation=cancellation)
    turning = reader_turning(package.plan, image.grid)
    turned = turn_image(image, turning)
    if stage is None:
        prepared = prepare(turned, None, package.plan, package.configuration, case_id=case_id)
    else:
        labels = turn_labels(stage, turning)
        prepared = prepare_with_previous(
            turned, labels, package.plan, package.configuration, package.scheme, case_id=case_id
        )
    return ModelInput(image=turned, prepared=prepared, turning=turning, grid=image.grid)


def previous_labels(
    image: Image,
    model: Model,
    previous: LabelMap | None = None,
    *,
    case_id: str = "",
    cancellation: Cancellation | None = None,
) -> LabelMap | None:
    """Return what the stage before says of an image, on the image's grid; None for a model that is no cascade.

    Raises
    ------
    UsageError
        If a cascade has neither its first stage nor a label map, or another model is given one.
    InputError
        If a stored label map is missing or lies on another grid.
    """
    name, stage = model.package.configuration.name, model.package.configuration.previous_stage
    if stage is None:
        if previous is not None:
            raise UsageError(f"A model of {name} takes no label map of a previous stage; got one.")
        return None
    if previous is not None:
        return previous
    if model.previous is None:
        raise UsageError(
            f"The model of {name} comes without its stage before, {stage}; give that stage's label map with the image "
            f"(`--previous FOLDER`). A folder of nnU-Net predicts alone if TRAINER__PLANS__{stage} with the same "
            "trainer, plans and folds lies beside it."
        )
    if isinstance(model.previous, StoredStage):
        return model.previous.labels_of(image, case_id)
    return model.previous.predict(image, case_id=case_id, cancellation=cancellation).labels
