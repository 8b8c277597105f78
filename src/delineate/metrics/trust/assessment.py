"""How far a result can be trusted, judged without a reference: scores, an expected Dice, and reasons in words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from delineate.metrics.trust.observation import Observation
from delineate.metrics.trust.reference import TYPICAL_SHARE, TrustReference, scores_of
from delineate.metrics.trust.structure_norms import LEAST_CASES, Deviation, deviations

Verdict = Literal["nothing unusual", "review with care", "not assessed"]

OUTLIER = 1.2
"""Features or image this many times as far from the ordinary as the edge at which 95 % of ordinary cases lie."""
CLEAR_DEVIATION = 4.0
"""Standard deviations of a structure's size, pieces or place that are worth telling."""
STRONG_STATISTIC = 4.0
"""Standard deviations of one image statistic that are worth naming."""
MOST_STATISTICS = 3
FEW_EXAMPLES = 10
"""With fewer training examples a structure is not known well."""
NO_REFERENCE = "this model carries no reference statistics; make them with `delineate calibrate`"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrustScore:
    """One score of a case."""

    name: str
    value: float
    """Larger means less trustworthy; NaN: nothing can be said."""
    rarity: float
    """Share of ordinary cases with at least this value, counting the case itself: a p-value; NaN without reference."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Assessment:
    """What can be said of a result without a reference."""

    case_id: str
    verdict: Verdict
    quality: float
    """Expected mean Dice, 0 to 1; NaN where it cannot be told."""
    quality_error: float
    """Mean absolute error of the expectation on cases like those of its fit; NaN where unknown."""
    outlier: float
    """How far image and features are from ordinary ones, 1 at the edge of them; NaN without reference."""
    scores: tuple[TrustScore, ...]
    reasons: tuple[str, ...]
    """Why to review with care, the most important first; or why nothing could be assessed."""
    notices: tuple[str, ...] = ()
    """What holds for every result of the model."""

    @property
    def words(self) -> str:
        """The verdict with its reasons, in one line."""
        if not self.reasons:
            return f"{self.verdict}; expected Dice {self.quality:.2f}"
        return f"{self.verdict}: {'; '.join(self.reasons)}"


def assess_case(observation: Observation, reference: TrustReference | None, *, case_id: str) -> Assessment:
    """Judge one result.

    A result is to be reviewed with care if a structure deviates by :data:`CLEAR_DEVIATION` standard deviations and by
    more than in 95 % of ordinary results, is missing or on the wrong side, image or features lie beyond
    :data:`OUTLIER`, the image lies in an orientation that training did not have, or the expected Dice is below that of
    95 % of ordinary cases.

    Parameters
    ----------
    observation
        What was measured.
    reference
        What is ordinary for the model; None: the verdict is ``not assessed``, with the scores that need no reference.
    case_id
        Of the case.
    """
    if reference is None:
        return _without_reference(observation, case_id)
    scores = scores_of(observation, reference)
    quality = expected_dice(observation, reference, scores)
    reasons = tuple(_reasons(observation, reference, scores, quality))
    return Assessment(
        case_id=case_id,
        verdict="review with care" if reasons else "nothing unusual",
        quality=quality,
        quality_error=math.nan if reference.quality is None else reference.quality.error,
        outlier=outlier_of(scores),
        scores=tuple(
            TrustScore(name=name, value=value, rarity=rarity(value, reference.ordinary.get(name)))
            for name, value in scores.items()
        ),
        reasons=reasons,
        notices=tuple(_notices(reference)),
    )


def expected_dice(observation: Observation, reference: TrustReference, scores: dict[str, float]) -> float:
    """Return the expected mean Dice; a structure that every training case has and this one lacks counts as 0."""
    if reference.quality is None:
        return math.nan
    always = [s for s, norm in zip(observation.shapes, reference.structures, strict=True) if norm.always]
    there = sum(shape.volume_mm3 > 0 for shape in always) / len(always) if always else 1.0
    return reference.quality.expect(scores) * there


def outlier_of(scores: dict[str, float]) -> float:
    """Return the larger of the distances of features and image; NaN if neither is known."""
    known = [scores[name] for name in ("features", "image") if not math.isnan(scores[name])]
    return max(known, default=math.nan)


def rarity(value: float, ordinary: NDArray[np.float64] | None) -> float:
    """Return the share of ordinary values (n,), ascending, that are at least ``value``, the value itself counted."""
    if ordinary is None or math.isnan(value):
        return math.nan
    at_least = len(ordinary) - int(np.searchsorted(ordinary, value, side="left"))
    return (at_least + 1) / (len(ordinary) + 1)


def _without_reference(observation: Observation, case_id: str) -> Assessment:
    empty = TrustReference(
        origin="held out",
        cases=0,
        structures=(),
        image_names=(),
        image=None,
        orientations=(),
        features={},
        quality=None,
        temperature=(),
        ordinary={},
    )
    scores = scores_of(Observation(behaviour=observation.behaviour, image=observation.image, shapes=()), empty)
    return Assessment(
        case_id=case_id,
        verdict="not assessed",
        quality=math.nan,
        quality_error=math.nan,
        outlier=math.nan,
        scores=tuple(TrustScore(name=n, value=v, rarity=math.nan) for n, v in scores.items() if not math.isnan(v)),
        reasons=(NO_REFERENCE,),
    )


def _reasons(
    observation: Observation, reference: TrustReference, scores: dict[str, float], quality: float
) -> Iterator[str]:
    model = reference.quality
    if model is not None and quality < model.lowest:
        yield f"expected Dice {quality:.2f} is below that of 95 % of ordinary cases ({model.lowest:.2f})"
    yield from (d.text for d in deviations(observation.shapes, reference.structures) if d.z >= _clear(d, reference))
    if scores["features"] > OUTLIER:
        yield f"the network sees an unusual image (features {scores['features']:.1f} times the ordinary distance)"
    if reference.orientations and observation.image.orientation not in reference.orientations:
        yield (
            f"the image lies as {observation.image.orientation}; training images lie as "
            f"{', '.join(reference.orientations)}"
        )
    if scores["image"] > OUTLIER:
        yield f"the image differs from training images ({_statistics(observation, reference)})"


def _clear(deviation: Deviation, reference: TrustReference) -> float:
    """Return from how many standard deviations on a deviation is told: beyond what the model's results often have."""
    if deviation.kind in ("missing", "side"):
        return CLEAR_DEVIATION
    ordinary = reference.ordinary.get("position" if deviation.kind == "place" else "shape")
    usual = 0.0 if ordinary is None else float(np.quantile(ordinary, TYPICAL_SHARE))
    return max(CLEAR_DEVIATION, usual)


def _statistics(observation: Observation, reference: TrustReference) -> str:
    """Name the image statistics that are furthest from ordinary."""
    if reference.image is None:
        return ""
    zs = reference.image.standardised(np.array(list(observation.image.values.values())))
    order = [int(i) for i in np.argsort(-np.abs(zs))][:MOST_STATISTICS]
    named = [i for i in order if abs(zs[i]) >= STRONG_STATISTIC] or order[:1]
    return ", ".join(
        f"{reference.image_names[i]} {abs(zs[i]):.1f} standard deviations {'above' if zs[i] > 0 else 'below'}"
        for i in named
    )


def _notices(reference: TrustReference) -> Iterator[str]:
    for norm in reference.structures:
        if norm.present < FEW_EXAMPLES:
            known = "is not compared with them" if norm.present < LEAST_CASES else "is not known well"
            yield f"{norm.name} has only {norm.present} training examples and {known}"
