"""What is ordinary for a model, learned from cases that its networks were not trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np

from delineate.errors import InputError, SomeCasesFailed
from delineate.execution import Watched, map_items
from delineate.formats.behaviour_file import read_behaviour
from delineate.formats.datasets import CaseFiles, Dataset
from delineate.formats.images import read_labels
from delineate.formats.model_package import ModelPackage
from delineate.metrics.scores import CaseScores
from delineate.metrics.trust import (
    HonestCase,
    Observation,
    Population,
    TrustReference,
    fit_reference,
    image_statistics,
    measure_shapes,
)
from delineate.workflows.plan_dataset import EVERY_CASE
from delineate.workflows.score_cases import behaviour_path, prediction_path, structures_of
from delineate.workflows.training_run import TrainingRun

MOST_CASES = 400
"""Training cases whose images and masks are measured; of more, so many are drawn."""
DRAW_SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Measured:
    """One training case: its part of the population, and what is known of its out-of-fold prediction, if any."""

    population: Population
    honest: HonestCase | None


def fit_trust_of_run(
    run: TrainingRun, package: ModelPackage, scores: Sequence[CaseScores], **watched: Unpack[Watched]
) -> TrustReference:
    """Learn what is ordinary from the watched validation predictions of a run, each fold's by its own network.

    Parameters
    ----------
    run
        Whose folds in ``package`` have watched validation predictions
        (:func:`~delineate.workflows.predict_validation.predict_validation`).
    package
        The trained model.
    scores
        Of the validation cases.
    watched
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    InputError
        If too few cases were held out.
    SomeCasesFailed
        If cases cannot be read; names all of them.
    Interrupted
        If a stop was requested.
    """
    dataset = run.planned.dataset
    folder_of = {
        case_id: run.folder.validation(fold)
        for fold in package.weights
        if fold != EVERY_CASE
        for case_id in run.split(fold).validation
    }
    if not folder_of:
        raise InputError("A model that was trained on every case has none left to learn from what is ordinary for it.")
    measure = partial(_measured, dataset=dataset, folder_of=folder_of, dice_of={s.case_id: s.mean_dice for s in scores})
    outcomes = map_items(
        measure,
        _chosen(dataset.training, frozenset(folder_of)),
        what="learn what is ordinary",
        workers=run.machine.cores,
        backend="threads",
        **watched,
    )
    failures = [f"{o.item.case_id}: {o.error}" for o in outcomes if o.error is not None]
    if failures:
        raise SomeCasesFailed(f"{len(failures)} of {len(outcomes)} cases could not be measured.", failures)
    measured = [o.value for o in outcomes if o.value is not None]
    return fit_reference(
        [m.population for m in measured],
        [m.honest for m in measured if m.honest is not None],
        origin="out of fold",
        regions=dataset.scheme.has_regions,
    )


def _chosen(cases: Sequence[CaseFiles], held_out: frozenset[str]) -> list[CaseFiles]:
    """Return the held-out cases and as many of the others as may be measured."""
    others = [case for case in cases if case.case_id not in held_out]
    room = max(0, MOST_CASES - len(held_out))
    if len(others) > room:
        drawn = np.random.default_rng(DRAW_SEED).choice(len(others), room, replace=False)
        others = [others[i] for i in sorted(drawn)]
    kept = held_out | {case.case_id for case in others}
    return [case for case in cases if case.case_id in kept]


def _measured(
    files: CaseFiles, *, dataset: Dataset, folder_of: Mapping[str, Path], dice_of: Mapping[str, float]
) -> _Measured:
    case, structures = dataset.load(files), structures_of(dataset.scheme)
    if case.labels is None:
        raise InputError(f"Case {files.case_id} has no reference mask.")
    population = Population(
        image=image_statistics(case.image.array, case.image.grid),
        shapes=measure_shapes(case.labels.array, case.labels.grid, structures),
    )
    folder = folder_of.get(files.case_id)
    if folder is None:
        return _Measured(population=population, honest=None)
    predicted = read_labels(prediction_path(folder, files.case_id, dataset), dataset.scheme)
    recorded = read_behaviour(behaviour_path(folder, files.case_id))
    observation = Observation(
        behaviour=recorded.behaviour,
        image=population.image,
        shapes=measure_shapes(predicted.array, predicted.grid, structures),
    )
    honest = HonestCase(
        observation=observation,
        dice=dice_of.get(files.case_id, math.nan),
        logits=recorded.logits,
        truths=recorded.truths,
    )
    return _Measured(population=population, honest=honest)
