"""Does the model know when it is wrong? Scores that need no reference, judged on cases whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delineate.errors import InputError
from delineate.metrics.calibration import Reliability
from delineate.metrics.failure_detection import (
    auroc,
    auroc_interval,
    ideal_area,
    random_area,
    rank_correlation,
    risk_coverage,
)
from delineate.metrics.statistics import Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class ShiftDetection:
    """How well a score tells shifted from ordinary cases."""

    shift: str
    """In words: ``another site``, ``noise, 20 % of the range``, ``flipped left-right``."""
    score: str
    """Name of the score; larger means less trustworthy."""
    auroc: float
    interval: Interval
    n_ordinary: int
    n_shifted: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureDetection:
    """How well a score orders cases by how wrong the model is."""

    score: str
    population: str
    """``ordinary``, ``shifted`` or ``all``."""
    aurc: float
    """Area under the risk-coverage curve; risk is 1 - Dice."""
    aurc_ideal: float
    """Of the score that knows the truth."""
    aurc_random: float
    """Of a score that knows nothing: the mean risk."""
    failure_auroc: float
    """Of telling cases below ``failure_below``; NaN if all or none are."""
    failure_below: float
    """Dice."""
    coverage: NDArray[np.float64]
    """(n,) share of cases kept, the most trusted first."""
    risk: NDArray[np.float64]
    """(n,) mean risk of the kept cases."""
    spearman: float
    """Rank correlation of the score with the risk."""
    n_cases: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TrustStudy:
    """Detection of shifts and failures, and calibration before and after temperature scaling."""

    shifts: tuple[ShiftDetection, ...]
    failures: tuple[FailureDetection, ...]
    temperature: float | None
    reliability_before: Reliability | None
    reliability_after: Reliability | None
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedCase:
    """A case with its scores of doubt, made without the case, and what is true."""

    case_id: str
    patient_id: str
    shift: str
    """Name of the shift; empty: an ordinary case."""
    scores: Mapping[str, float]
    """Larger means less trustworthy; NaN where a score says nothing."""
    dice: float
    """NaN where there is no reference."""


def study_trust(
    cases: Sequence[JudgedCase], scores: Sequence[str], *, failure_below: float, seed: int
) -> tuple[tuple[ShiftDetection, ...], tuple[FailureDetection, ...]]:
    """Judge scores of doubt on cases whose truth is known.

    A score that says nothing of a case (NaN) is taken as the least doubtful: nothing was noticed.

    Parameters
    ----------
    cases
        Ordinary and shifted ones.
    scores
        Names of the scores to judge.
    failure_below
        A case of lower Dice is a failure.
    seed
        Of the bootstrap.

    Returns
    -------
    tuple
        Per shift and score how well it is told from ordinary cases; per score and population how well it orders cases
        by their risk 1 - Dice.

    Raises
    ------
    InputError
        If there is no ordinary case.
    """
    ordinary = [case for case in cases if not case.shift]
    if not ordinary:
        raise InputError("A trust study needs ordinary cases to compare with; got none.")
    shifts = list(dict.fromkeys(case.shift for case in cases if case.shift))
    groups = {"": "shifted", **{shift: shift for shift in shifts}} if len(shifts) > 1 else {s: s for s in shifts}
    detections = tuple(
        _shift_detection(name, score, ordinary, [c for c in cases if c.shift and key in ("", c.shift)], seed)
        for key, name in groups.items()
        for score in scores
    )
    populations = {"ordinary": ordinary, "shifted": [c for c in cases if c.shift], "all": list(cases)}
    failures = tuple(
        _failure_detection(score, name, [c for c in group if not math.isnan(c.dice)], failure_below)
        for name, group in populations.items()
        if sum(not math.isnan(c.dice) for c in group) > 1
        for score in scores
    )
    return detections, failures


def _doubt(case: JudgedCase, score: str) -> float:
    value = case.scores.get(score, math.nan)
    return -math.inf if math.isnan(value) else value


def _shift_detection(
    name: str, score: str, ordinary: Sequence[JudgedCase], shifted: Sequence[JudgedCase], seed: int
) -> ShiftDetection:
    both = [*ordinary, *shifted]
    doubts = [_doubt(case, score) for case in both]
    n = len(ordinary)
    return ShiftDetection(
        shift=name,
        score=score,
        auroc=auroc(doubts[n:], doubts[:n]),
        interval=auroc_interval(doubts, [bool(c.shift) for c in both], [c.patient_id for c in both], seed=seed),
        n_ordinary=n,
        n_shifted=len(shifted),
    )


def _failure_detection(
    score: str, population: str, cases: Sequence[JudgedCase], failure_below: float
) -> FailureDetection:
    doubts, risks = [_doubt(case, score) for case in cases], [1 - case.dice for case in cases]
    failed = [case.dice < failure_below for case in cases]
    curve = risk_coverage(doubts, risks)
    return FailureDetection(
        score=score,
        population=population,
        aurc=curve.area,
        aurc_ideal=ideal_area(risks),
        aurc_random=random_area(risks),
        failure_auroc=auroc(
            [d for d, f in zip(doubts, failed, strict=True) if f],
            [d for d, f in zip(doubts, failed, strict=True) if not f],
        ),
        failure_below=failure_below,
        coverage=curve.coverage,
        risk=curve.risk,
        spearman=rank_correlation(doubts, risks),
        n_cases=len(cases),
    )
