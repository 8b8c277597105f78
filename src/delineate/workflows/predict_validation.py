"""The validation cases of a fold, predicted by the network that was not trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from delineate.execution import Watched
from delineate.workflows.model import Model
from delineate.workflows.previous_stage import cases_of, predict_previous_stage
from delineate.workflows.score_cases import keep_only_predictions_of, predict_prepared
from delineate.workflows.training_run import TrainingRun


def predict_validation(
    run: TrainingRun, model: Model, fold: str, *, watch: bool = False, **watched: Unpack[Watched]
) -> Path:
    """Predict a fold's validation cases with that fold's network alone; predictions that stand are kept.

    With ``watch``, what the network shows is written beside them, for :mod:`delineate.workflows.fit_trust`.

    Returns
    -------
    Path
        The folder of the label maps, as the network made them: without post-processing.

    Raises
    ------
    ModelError
        If the model does not have the fold.
    Interrupted
        If a stop was requested; finished cases stay.
    """
    target = run.folder.validation(fold)
    keep_only_predictions_of(model, target)
    predict_previous_stage(run, fold, **watched)
    held_out = run.split(fold).validation
    predict_prepared(
        model.only(fold), cases_of(run, fold), run.planned.dataset, held_out, target, watch=watch, **watched
    )
    return target
