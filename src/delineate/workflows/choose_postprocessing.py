"""From cross-validation predictions to the post-processing that makes them better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from delineate.errors import SomeCasesFailed
from delineate.execution import Cancellation, Progress, map_items
from delineate.formats.datasets import CaseFiles, Dataset
from delineate.formats.images import read_labels
from delineate.formats.nnunet.postprocessing_json import write_postprocessing
from delineate.formats.nnunet.summary_json import summary_to_json
from delineate.metrics import PostprocessingChoice, choose_postprocessing
from delineate.metrics.postprocessing_choice import Steps
from delineate.metrics.scores import CaseScores
from delineate.workflows.postprocess import postprocessed
from delineate.workflows.score_cases import score_labels, structures_of

RECORD = "postprocessing.json"
"""nnU-Net's readable record of what was chosen."""


def choose_for_predictions(
    cases: Sequence[CaseFiles],
    dataset: Dataset,
    prediction_of: Callable[[CaseFiles], Path],
    folder: Path,
    *,
    workers: int = 1,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> PostprocessingChoice:
    """Choose the post-processing of a model on its cross-validation predictions; write :data:`RECORD` to ``folder``.

    Raises
    ------
    SomeCasesFailed
        If predictions or references cannot be read; names all of them.
    Interrupted
        If a stop was requested.
    """

    def rescore(candidates: Sequence[Steps]) -> list[list[CaseScores]]:
        outcomes = map_items(
            partial(_scores_after, dataset, prediction_of, candidates),
            cases,
            what="post-processing",
            workers=workers,
            backend="threads",
            progress=progress,
            cancellation=cancellation,
        )
        failures = [f"{o.item.case_id}: {o.error}" for o in outcomes if o.error is not None]
        if failures:
            raise SomeCasesFailed(f"{len(failures)} of {len(cases)} cases could not be scored.", failures)
        return [[o.value[index] for o in outcomes if o.value is not None] for index in range(len(candidates))]

    choice = choose_postprocessing(rescore, structures_of(dataset.scheme))
    before, after = (summary_to_json(scores, dataset.scheme) for scores in (choice.before, choice.after))
    write_postprocessing(folder / RECORD, choice.steps, before, after)
    return choice


def _scores_after(
    dataset: Dataset, prediction_of: Callable[[CaseFiles], Path], candidates: Sequence[Steps], case: CaseFiles
) -> list[CaseScores]:
    """Return the scores of one case after each list of steps."""
    path = prediction_of(case)
    predicted, loaded = read_labels(path, dataset.scheme), dataset.load(case)
    return [score_labels(postprocessed(predicted, steps), loaded, dataset, str(path)) for steps in candidates]
