"""What a model knows of the cases it was made with, so that a new case can be compared with them. Values only.

:func:`fit_reference` makes it from cases that the network was not trained on; :mod:`delineate.metrics.trust.assessment`
compares a new case with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from delineate.errors import InputError
from delineate.metrics.trust.image_statistics import ImageStatistics
from delineate.metrics.trust.normal_reference import LEAST_POINTS, NormalReference, fit_normal
from delineate.metrics.trust.observation import Behaviour, Observation, mean_known
from delineate.metrics.trust.quality_model import QualityModel, fit_quality
from delineate.metrics.trust.structure_norms import (
    DeviationKind,
    StructureNorm,
    StructureShape,
    deviations,
    structure_norms,
)
from delineate.metrics.trust.temperature import fit_binary_temperature, fit_temperature

Origin = Literal["out of fold", "held out"]
"""Cases of the training, each judged by the network that was not trained on it; or cases of no training at all."""

LEAST_CASES = max(10, LEAST_POINTS)
"""Fewer cases that the network was not trained on say nothing about what is ordinary."""
TYPICAL_SHARE = 0.95
"""Distances are divided by the one that so many ordinary cases do not exceed: beyond 1 a case is unusual."""
IMAGE_FLOOR = 0.01
"""Least standard deviation of an image statistic; most are logarithms or shares, so 1 %."""
FEATURE_FLOOR = 1e-4
"""Least standard deviation of a feature."""
QUALITY_SCORES = ("flip_disagreement", "expected_error", "boundary_entropy", "doubt", "features")
"""What the expected Dice is made of; the other scores made it worse when they were tried (docs/trust.md)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Population:
    """Images and reference masks, for what is normal."""

    image: ImageStatistics
    shapes: tuple[StructureShape, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HonestCase:
    """A case that the network was not trained on, with its observation and how good the prediction really was."""

    observation: Observation
    dice: float
    """Mean over structures; NaN if there was none."""
    logits: NDArray[np.float32]
    """(sample, head) of chosen voxels; may be empty."""
    truths: NDArray[np.int64]
    """(sample,) reference label of these voxels, or with regions (sample, head) 0 and 1."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrustReference:
    """What is ordinary for a model."""

    origin: Origin
    cases: int
    """That the network was not trained on."""
    structures: tuple[StructureNorm, ...]
    image_names: tuple[str, ...]
    image: NormalReference | None
    orientations: tuple[str, ...]
    """World directions of the array axes that occurred."""
    features: Mapping[str, tuple[NormalReference, ...]]
    """By fold, per stage of the encoder."""
    quality: QualityModel | None
    temperature: tuple[float, ...]
    """One for softmax, one per head for regions; empty: not fitted."""
    ordinary: Mapping[str, NDArray[np.float64]]
    """Score -> its values for the cases of the fit, ascending."""


def fit_reference(
    population: Sequence[Population], cases: Sequence[HonestCase], *, origin: Origin, regions: bool
) -> TrustReference:
    """Learn what is ordinary.

    Parameters
    ----------
    population
        Images and reference masks of the training, or of the held-out cases.
    cases
        Cases that the network was not trained on.
    origin
        What these cases are.
    regions
        Whether the heads are regions.

    Raises
    ------
    InputError
        If there are fewer than :data:`LEAST_CASES` cases.
    """
    if len(cases) < LEAST_CASES or not population:
        raise InputError(
            f"What is ordinary needs at least {LEAST_CASES} cases that the network was not trained on; got "
            f"{len(cases)}. Train more folds, or use `delineate calibrate MODEL DATASET` with held-out cases."
        )
    names = tuple(population[0].image.values)
    reference = TrustReference(
        origin=origin,
        cases=len(cases),
        structures=structure_norms([p.shapes for p in population]),
        image_names=names,
        image=_image_reference(population, names),
        orientations=tuple(sorted({p.image.orientation for p in population})),
        features=_feature_references([c.observation.behaviour for c in cases]),
        quality=None,
        temperature=fit_temperatures(cases, regions=regions),
        ordinary={},
    )
    return _with_quality(reference, cases)


def _image_reference(population: Sequence[Population], names: Sequence[str]) -> NormalReference | None:
    if len(population) < LEAST_POINTS:
        return None
    return fit_normal(np.array([[p.image.values[name] for name in names] for p in population]), floor=IMAGE_FLOOR)


def _feature_references(behaviours: Sequence[Behaviour]) -> dict[str, tuple[NormalReference, ...]]:
    by_fold: dict[str, list[tuple[NDArray[np.float32], ...]]] = {}
    for behaviour in behaviours:
        for fold, values in behaviour.features.items():
            by_fold.setdefault(fold, []).append(values)
    return {
        fold: tuple(fit_normal(np.stack(stage), floor=FEATURE_FLOOR) for stage in zip(*rows, strict=True))
        for fold, rows in by_fold.items()
        if len(rows) >= LEAST_POINTS
    }


def fit_temperatures(cases: Sequence[HonestCase], *, regions: bool) -> tuple[float, ...]:
    """Return the temperature of the cases' logits: one, or one per head for regions; empty without samples."""
    sampled = [c for c in cases if len(c.logits)]
    if not sampled:
        return ()
    logits, truths = np.concatenate([c.logits for c in sampled]), np.concatenate([c.truths for c in sampled])
    if not regions:
        return (fit_temperature(logits, truths),)
    return tuple(fit_binary_temperature(row, truth > 0) for row, truth in zip(logits.T, truths.T, strict=True))


def _with_quality(reference: TrustReference, cases: Sequence[HonestCase]) -> TrustReference:
    """Fit the expected Dice and note the scores of ordinary cases."""
    scores = [scores_of(c.observation, reference) for c in cases]
    for table, case in zip(scores, _left_out_features(cases, reference), strict=True):
        table["features"] = case
    known = [(s, c.dice) for s, c in zip(scores, cases, strict=True) if not math.isnan(c.dice)]
    quality = fit_quality([s for s, _ in known], [d for _, d in known], QUALITY_SCORES) if len(known) >= 8 else None
    ordinary = {
        name: np.sort([s[name] for s in scores if not math.isnan(s[name])]) for name in scores[0] if name != "image"
    }
    if reference.image is not None:
        ordinary["image"] = np.sort(reference.image.distances / typical(reference.image.distances))
    return replace(reference, quality=quality, ordinary={k: v for k, v in ordinary.items() if len(v)})


def _left_out_features(cases: Sequence[HonestCase], reference: TrustReference) -> list[float]:
    """Return per case the distance of its features from those of the other cases."""
    coming = {fold: iter(_stage_means(stages)) for fold, stages in reference.features.items()}
    edges = {fold: typical(_stage_means(stages)) for fold, stages in reference.features.items()}
    return [
        mean_known([float(next(coming[f])) / edges[f] for f in case.observation.behaviour.features if f in coming])
        for case in cases
    ]


def _stage_means(stages: Sequence[NormalReference]) -> NDArray[np.float64]:
    """Return per ordinary case the mean over the stages of its left-out distances, each by its typical one."""
    return np.asarray(np.mean([cloud.distances / typical(cloud.distances) for cloud in stages], axis=0))


def typical(distances: NDArray[np.float64]) -> float:
    """Return the distance that :data:`TYPICAL_SHARE` of ordinary cases do not exceed."""
    return float(max(np.quantile(distances, TYPICAL_SHARE), 1e-9))


def scores_of(observation: Observation, reference: TrustReference) -> dict[str, float]:
    """Return the named scores of a case; larger means less trustworthy; NaN where nothing can be said."""
    behaviour = observation.behaviour
    uncertainty, agreement = behaviour.uncertainty, behaviour.agreement
    return {
        "flip_disagreement": 1 - mean_known(agreement.flips),
        "fold_disagreement": 1 - mean_known(agreement.folds),
        "expected_error": 1 - mean_known(uncertainty.expected_dice),
        "boundary_entropy": uncertainty.boundary_entropy,
        "doubt": 1 - uncertainty.confidence,
        "shape": _largest(observation, reference, ("missing", "volume", "pieces")),
        "position": _largest(observation, reference, ("side", "place")),
        "features": feature_distance(behaviour.features, reference),
        "image": image_distance(observation.image, reference),
    }


def _largest(observation: Observation, reference: TrustReference, kinds: Sequence[DeviationKind]) -> float:
    found = [d.z for d in deviations(observation.shapes, reference.structures) if d.kind in kinds]
    return max(found, default=math.nan)


def feature_distance(features: Mapping[str, tuple[NDArray[np.float32], ...]], reference: TrustReference) -> float:
    """Return how far the encoder's features are from ordinary ones, 1 at the edge; the mean over stages and folds."""
    found = []
    for fold, stages in reference.features.items():
        own = features.get(fold, ())
        if [len(values) for values in own] == [len(cloud.mean) for cloud in stages]:
            pairs = zip(stages, own, strict=True)
            mean = np.mean([cloud.distance(values) / typical(cloud.distances) for cloud, values in pairs])
            found.append(float(mean) / typical(_stage_means(stages)))
    return mean_known(found)


def image_distance(image: ImageStatistics, reference: TrustReference) -> float:
    """Return how far an image's statistics are from the training images', 1 at the edge; NaN without a reference."""
    cloud = reference.image
    if cloud is None or tuple(image.values) != reference.image_names:
        return math.nan
    return cloud.distance(np.array(list(image.values.values()))) / typical(cloud.distances)
