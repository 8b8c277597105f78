"""One structure of one case that several people drew: from masks to the numbers that a study of raters needs.

Everything that looks at voxels happens here, case by case, so a study holds the masks of one case at a time. The module
knows boolean arrays and the names of raters; it knows neither files nor other cases.

What empty masks mean: where neither a person nor the model drew the structure, the case says nothing (NaN); in every
other case two empty masks agree perfectly, and one empty mask has the metric's worst value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from delineate.errors import InputError, UsageError
from delineate.masks.surfaces import Box, Spacing, bounding_box, require_spacing
from delineate.metrics.agreement import MAX_RATERS, Staple, majority, staple
from delineate.metrics.evaluation.directions import direction_of
from delineate.metrics.overlap import Overlap
from delineate.metrics.table import METRICS, METRICS_RELOADED, StructurePair, score_pair
from delineate.metrics.volume import volume_ml

Consensus = Literal["majority", "staple"]
"""How one reference is made of several masks."""

Mask = NDArray[np.bool_]

LEAST_PEOPLE = 3
"""A consensus without one person needs two others."""

STAPLE_MARGIN = 0.1
"""STAPLE sees the joint box of all raters' masks, grown on every side by this share of its extent (by a voxel at least)
and cut at the image's border. How good STAPLE takes raters to be depends on how much background it sees; a share does
not change with the resolution."""

INVERTED_SHARE = 0.8
"""If all masks of a case cover more of the image than this, structure and background may be exchanged in all."""

SYMMETRIC_METRICS = frozenset(
    {"dice", "iou", "volume_similarity", "absolute_volume_error", "hd", "hd95", "hd95_directed_mean", "hd95_pooled"}
    | {"hd95_area_weighted", "assd", "assd_area_weighted", "masd", "masd_area_weighted", "nsd", "nsd_voxels"}
    | {"boundary_iou"}
)
"""Metrics that do not tell a mask from its reference; of the others both directions are measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RaterRules:
    """What is measured between masks, and what counts as no worse; declared before the data are seen.

    Raises
    ------
    UsageError
        If the metric is unknown or signed, the consensus is unknown, or the margin is not above 0.
    """

    metric: str = "dice"
    """Name from :data:`~delineate.metrics.table.METRICS`."""
    margin: float = 0.02
    """How much worse than a person the model may be, in the metric's unit."""
    consensus: Consensus = "majority"
    """Of the people that remain when one is left out."""
    tolerance_mm: float = 2.0
    """Of surface Dice and added path length."""
    seed: int = 0
    """Of every bootstrap."""

    def __post_init__(self) -> None:
        if direction_of(self.metric) == "signed":
            raise UsageError(
                f"{self.metric} has a sign: neither larger nor smaller is better, so raters cannot be compared by it. "
                "Use absolute_volume_error."
            )
        if self.consensus not in ("majority", "staple"):
            raise UsageError(f"A consensus is 'majority' or 'staple'; got '{self.consensus}'.")
        if not (math.isfinite(self.margin) and self.margin > 0):
            raise UsageError(f"A margin of non-inferiority must be above 0; got {self.margin}.")

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value of the metric is a better one."""
        return direction_of(self.metric) == "higher"


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseAgreement:
    """One structure of one case; all arrays are in the order of ``raters``, NaN where the case says nothing."""

    case_id: str
    patient_id: str
    structure: str
    raters: tuple[str, ...]
    """Who drew this case."""
    drawn: bool
    """Whether any of them found the structure in it."""
    pairwise: NDArray[np.float64]
    """(rater, rater) the first against the second as reference; the metric's best value on the diagonal."""
    people: NDArray[np.float64]
    """(rater,) against the consensus of the other people."""
    model: NDArray[np.float64]
    """(rater,) the model against that same consensus; NaN without a model."""
    model_against_majority: float
    """Of all raters."""
    model_against_staple: float
    sensitivity: NDArray[np.float64]
    """(rater,) STAPLE's."""
    specificity: NDArray[np.float64]
    identical: tuple[tuple[str, str], ...]
    """Pairs whose masks are equal voxel by voxel; the model is called by its own name."""
    volumes_ml: NDArray[np.float64]
    """(rater,) of the masks; of planes the area in mm^2 / 1000."""
    model_ml: float
    """NaN without a model."""

    @property
    def difference(self) -> float:
        """Mean over raters of model minus rater, both against the same consensus; NaN if there is no comparison."""
        pairs = self.model - self.people
        return float(np.mean(pairs)) if len(pairs) and not np.isnan(pairs).any() else math.nan


def compare_raters(
    masks: Mapping[str, Mask],
    model: tuple[str, Mask] | None,
    rules: RaterRules,
    *,
    spacing_mm: Spacing,
    person_of: Mapping[str, str] | None = None,
    named: tuple[str, str, str],
) -> CaseAgreement:
    """Compare the masks of several raters of one case with each other, and a model with them.

    A rater is compared with the consensus of the masks of all other people, so nobody is judged by their own work. For
    that at least three people are needed; with two only their agreement is measured.

    Parameters
    ----------
    masks
        Rater and bool mask ``(z, y, x)`` or ``(y, x)``, 2 to 16 of equal shape.
    model
        Name and mask of the model; None if there is none.
    rules
        Metric and consensus.
    spacing_mm
        Per axis, in the order of the axes.
    person_of
        Rater and person, where one person drew twice (with two tools, on two days); None: every rater is a person.
    named
        Case id, patient id and structure, for the result.

    Raises
    ------
    InputError
        If there are fewer than 2 or more than 16 masks, or the shapes differ.
    GeometryError
        If the spacing does not fit.
    """
    _require_masks([*masks.values(), *([model[1]] if model else [])], len(masks))
    names = tuple(masks)
    scene = _scene(list(masks.values()), model[1] if model else None, rules, spacing_mm)
    people = [(person_of or {}).get(name, name) for name in names]
    left_out = _against_others(scene, people, rules)
    estimated = scene.staple(scene.masks)
    return CaseAgreement(
        case_id=named[0],
        patient_id=named[1],
        structure=named[2],
        raters=names,
        drawn=scene.drawn,
        pairwise=_pairwise(scene, rules.metric),
        people=left_out[0],
        model=left_out[1],
        model_against_majority=scene.of_model(majority(scene.masks)),
        model_against_staple=scene.of_model(scene.embedded(estimated)),
        sensitivity=estimated.sensitivity if estimated else np.full(len(names), math.nan),
        specificity=estimated.specificity if estimated else np.full(len(names), math.nan),
        identical=_identical(names, scene, model[0] if model else ""),
        volumes_ml=np.array([scene.volume_ml(mask) for mask in scene.masks]),
        model_ml=math.nan if scene.model is None else scene.volume_ml(scene.model),
    )


def suspected_inversions(masks: Mapping[str, Mask]) -> tuple[str, ...]:
    """Return the raters in whose mask structure and background may be exchanged.

    Where some masks cover less than half of the image, these are those that cover more and whose complement agrees
    better than they do with the majority of the smaller ones. Else these are all masks, if each of them covers more
    than :data:`INVERTED_SHARE`.
    """
    shares = {name: float(mask.mean()) for name, mask in masks.items()}
    ordinary = [mask for name, mask in masks.items() if shares[name] <= 0.5]
    if not ordinary:
        return tuple(masks) if min(shares.values()) > INVERTED_SHARE else ()
    consensus = majority(ordinary)
    large = [name for name in masks if shares[name] > 0.5]
    return tuple(name for name in large if _dice(~masks[name], consensus) > _dice(masks[name], consensus))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scene:
    """The masks of one case, cut to the box in which anything happens."""

    masks: list[Mask]
    model: Mask | None
    staple_box: Box | None
    """Within the cut masks; None if no rater drew anything."""
    score: Callable[[Mask, Mask], float]
    voxel_mm3: float

    @property
    def drawn(self) -> bool:
        """Whether any rater drew the structure."""
        return self.staple_box is not None

    def staple(self, masks: Sequence[Mask]) -> Staple | None:
        """Return STAPLE's estimate within its box; None if no rater drew anything."""
        return None if self.staple_box is None else staple([mask[self.staple_box] for mask in masks])

    def embedded(self, estimated: Staple | None) -> Mask:
        """Return STAPLE's consensus in the shape of the cut masks."""
        consensus = np.zeros(self.masks[0].shape, np.bool_)
        if estimated is not None and self.staple_box is not None:
            consensus[self.staple_box] = estimated.consensus
        return consensus

    def of_model(self, reference: Mask) -> float:
        """Return the model's score; NaN without a model, or if neither it nor a person drew anything."""
        if self.model is None or not (self.drawn or self.model.any()):
            return math.nan
        return self.score(self.model, reference)

    def volume_ml(self, mask: Mask) -> float:
        """Return the volume of a mask."""
        return volume_ml(int(np.count_nonzero(mask)), self.voxel_mm3)


def _scene(masks: list[Mask], model: Mask | None, rules: RaterRules, spacing_mm: Spacing) -> _Scene:
    shape = masks[0].shape
    spacing = require_spacing(len(shape), spacing_mm)
    drawn = bounding_box(np.logical_or.reduce(masks))
    staple_box = None if drawn is None else _grown(drawn, shape)
    boxes = [box for box in (staple_box, None if model is None else bounding_box(model)) if box is not None]
    cut = _joined(boxes) if boxes else (slice(0, 1),) * len(shape)
    outside = math.prod(shape) - math.prod(axis.stop - axis.start for axis in cut)
    diagonal = float(np.linalg.norm(np.array(shape) * spacing))

    def score(mask: Mask, reference: Mask) -> float:
        pair = _pair(mask, reference, outside, spacing, rules.tolerance_mm)
        return score_pair(pair, rules.metric, policy=METRICS_RELOADED, diagonal_mm=diagonal)

    return _Scene(
        masks=[mask[cut] for mask in masks],
        model=None if model is None else model[cut],
        staple_box=None if staple_box is None else _relative(staple_box, cut),
        score=score,
        voxel_mm3=math.prod(spacing),
    )


def _pair(mask: Mask, reference: Mask, outside: int, spacing: tuple[float, ...], tolerance_mm: float) -> StructurePair:
    hit = int(np.count_nonzero(mask & reference))
    predicted, true = int(np.count_nonzero(mask)), int(np.count_nonzero(reference))
    counts = Overlap(
        true_positive=hit,
        false_positive=predicted - hit,
        false_negative=true - hit,
        true_negative=mask.size + outside - predicted - true + hit,
    )
    box = bounding_box(mask | reference) or (slice(0, 0),) * mask.ndim
    return StructurePair(
        overlap=counts,
        prediction=mask[box],
        reference=reference[box],
        spacing_mm=spacing,
        tolerance_mm=tolerance_mm,
    )


def _pairwise(scene: _Scene, metric: str) -> NDArray[np.float64]:
    count = len(scene.masks)
    if not scene.drawn:
        return np.full((count, count), math.nan)
    matrix = np.full((count, count), METRICS[metric].best)
    for i, j in combinations(range(count), 2):
        matrix[i, j] = scene.score(scene.masks[i], scene.masks[j])
        matrix[j, i] = matrix[i, j] if metric in SYMMETRIC_METRICS else scene.score(scene.masks[j], scene.masks[i])
    return matrix


def _against_others(
    scene: _Scene, people: Sequence[str], rules: RaterRules
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (rater,) the raters' and (rater,) the model's scores against the consensus without each rater's person."""
    of_raters, of_model = np.full(len(people), math.nan), np.full(len(people), math.nan)
    something = scene.drawn or (scene.model is not None and bool(scene.model.any()))
    if len(set(people)) < LEAST_PEOPLE or not something:
        return of_raters, of_model
    for person in dict.fromkeys(people):
        others = [mask for mask, owner in zip(scene.masks, people, strict=True) if owner != person]
        reference = majority(others) if rules.consensus == "majority" else scene.embedded(scene.staple(others))
        own = [i for i, owner in enumerate(people) if owner == person]
        of_model[own] = scene.of_model(reference)
        for i in own:
            of_raters[i] = scene.score(scene.masks[i], reference)
    return of_raters, of_model


def _identical(names: tuple[str, ...], scene: _Scene, model_name: str) -> tuple[tuple[str, str], ...]:
    named = list(zip(names, scene.masks, strict=True))
    if scene.model is not None:
        named.append((model_name, scene.model))
    return tuple(
        (first, second) for (first, mask), (second, other) in combinations(named, 2) if np.array_equal(mask, other)
    )


def _require_masks(arrays: Sequence[Mask], raters: int) -> None:
    if not 2 <= raters <= MAX_RATERS:
        raise InputError(f"Raters are compared if 2 to {MAX_RATERS} of them drew a case; got {raters}.")
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise InputError(f"All masks of a case must have one shape; got {', '.join(map(str, shapes))}.")


def _grown(box: Box, shape: tuple[int, ...]) -> Box:
    margins = [max(1, math.ceil(STAPLE_MARGIN * (axis.stop - axis.start))) for axis in box]
    return tuple(
        slice(max(0, axis.start - margin), min(size, axis.stop + margin))
        for axis, margin, size in zip(box, margins, shape, strict=True)
    )


def _joined(boxes: Sequence[Box]) -> Box:
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))


def _relative(box: Box, frame: Box) -> Box:
    return tuple(
        slice(inner.start - outer.start, inner.stop - outer.start) for inner, outer in zip(box, frame, strict=True)
    )


def _dice(mask: Mask, reference: Mask) -> float:
    total = np.count_nonzero(mask) + np.count_nonzero(reference)
    return 2 * float(np.count_nonzero(mask & reference)) / total if total else 1.0
