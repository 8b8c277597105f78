"""Does the model differ from people more than they differ among themselves?

The nouns of the answer, and how the numbers of single cases (:mod:`~delineate.metrics.evaluation.rater_case`) become
it. Knows no voxels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from delineate.errors import InputError
from delineate.metrics.agreement import NonInferiority, non_inferiority
from delineate.metrics.evaluation.definitions import define
from delineate.metrics.evaluation.rater_case import LEAST_PEOPLE, CaseAgreement, RaterRules
from delineate.metrics.statistics import Estimate, bootstrap, mean_or_nan


@dataclass(frozen=True, kw_only=True, slots=True)
class RaterSkill:
    """One rater over all cases that this rater drew."""

    name: str
    n_cases: int
    against_consensus: Estimate
    """Score against the consensus of the other people."""
    sensitivity: float
    """STAPLE's, mean over cases."""
    specificity: float
    """STAPLE's, mean over cases; of the surroundings that STAPLE saw."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureRaters:
    """One structure: how people agree, and how the model compares with them.

    The four fields of the model are None if there was no model, and only then.
    """

    structure: str
    metric: str
    """Name from :data:`~delineate.metrics.table.METRICS`."""
    pairwise: NDArray[np.float64]
    """(rater, rater) mean over cases of one against the other as reference, the metric's best value on the diagonal;
    NaN where two never drew the same case."""
    between_people: Estimate
    """Mean over cases of the mean over pairs of different people."""
    raters: tuple[RaterSkill, ...]
    model_against_majority: Estimate | None
    model_against_staple: Estimate | None
    model_against_left_out: Estimate | None
    """Model against the consensus of all but one person, mean over raters."""
    verdict: NonInferiority | None
    people_against_left_out: Estimate | None = None
    """Each rater against the consensus of the other people, mean over raters; None if no case has three people."""
    within_people: Estimate | None = None
    """Mean over pairs of masks of the same person; None unless somebody drew twice."""
    unit: str = ""
    """Of the metric, for the reader; empty for fractions. Where files do not say how large a pixel is, ``px``."""
    factor: float = 1.0
    """The numbers here times this are numbers in the unit (areas stand here as thousandths)."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found, in words."""
        found = [f"{self.structure}: the mean {self.metric} of two people is {self._told(self.between_people)}."]
        if self.within_people is not None:
            found.append(f"That of two masks by the same person is {self._told(self.within_people)}.")
        if self.people_against_left_out is not None:
            text = f"A person against the consensus of the others has {self._told(self.people_against_left_out)}"
            model = self.model_against_left_out
            found.append(f"{text}, the model {self._told(model)}." if model is not None else f"{text}.")
        if self.verdict is not None:
            found.append(self.verdict.sentence)
        return tuple(found)

    def _told(self, estimate: Estimate) -> str:
        value, low, high = (v * self.factor for v in (estimate.value, estimate.interval.low, estimate.interval.high))
        return f"{value:.3f} [{low:.3f}, {high:.3f}]{f' {self.unit}' if self.unit else ''}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RaterStudy:
    """Several masks per case."""

    rater_names: tuple[str, ...]
    structures: tuple[StructureRaters, ...]
    margin: float
    consensus: str
    """How the consensus for the verdict is made: ``majority`` or ``staple``."""
    left_out_cases: tuple[tuple[str, str], ...]
    """Case id and why (fewer than three people, ...)."""
    seed: int
    model_name: str | None = None
    """What the model is called; None if only people were compared."""
    people: tuple[str, ...] = ()
    """(rater,) the person behind each rater; empty if every rater is a person of their own."""
    cases: tuple[CaseAgreement, ...] = ()
    """The numbers of single cases that all the others were made of."""
    notices: tuple[str, ...] = ()
    """What the reader must know: raters with equal masks, ties, masks that may be inverted, files without a case."""
    planar: bool = False
    """Whether the masks are planes, whose "volumes" are areas."""
    calibrated: bool = True
    """Whether the size of a voxel is known; else lengths are pixels."""


def study_raters(
    cases: Sequence[CaseAgreement],
    rules: RaterRules,
    *,
    rater_names: Sequence[str],
    model_name: str | None = None,
    person_of: Mapping[str, str] | None = None,
    calibrated: bool = True,
    planar: bool = False,
) -> RaterStudy:
    """Make a study of the numbers of single cases.

    Parameters
    ----------
    cases
        One entry per case and structure, from :func:`~delineate.metrics.evaluation.rater_case.compare_raters`.
    rules
        Those by which the cases were compared.
    rater_names
        All raters, in the order of the tables.
    model_name
        None if only people were compared.
    person_of
        As the cases were compared.
    calibrated
        Whether the spacing of the masks is known; else lengths are told in pixels.
    planar
        Whether the masks are planes.

    Raises
    ------
    InputError
        If there is no case, or a case has a rater that is not named.
    """
    unknown = sorted({name for case in cases for name in case.raters} - set(rater_names))
    if not cases or unknown:
        raise InputError(f"A study of raters needs cases and the names of all raters; unknown: {', '.join(unknown)}.")
    owner = person_of or {}
    people = tuple(owner.get(name, name) for name in rater_names)
    structures = dict.fromkeys(case.structure for case in cases)
    told = define(rules.metric, planar=planar, calibrated=calibrated)
    unit = "" if told.unit == "1" else told.unit
    groups = [[case for case in cases if case.structure == structure] for structure in structures]
    few = {c.case_id: _too_few(c, owner) for c in groups[0] if _count_people(c, owner) < LEAST_PEOPLE}
    return RaterStudy(
        rater_names=tuple(rater_names),
        structures=tuple(
            replace(_structure(group, rules, tuple(rater_names), people, model_name), unit=unit, factor=told.factor)
            for group in groups
        ),
        margin=rules.margin,
        consensus=rules.consensus,
        left_out_cases=tuple(few.items()),
        seed=rules.seed,
        model_name=model_name,
        people=people if len(set(people)) < len(people) else (),
        cases=tuple(cases),
        notices=(*_equal_masks(groups), *_tied_majorities(groups[0], rules, owner)),
        planar=planar,
        calibrated=calibrated,
    )


def _structure(
    cases: Sequence[CaseAgreement],
    rules: RaterRules,
    names: tuple[str, ...],
    people: tuple[str, ...],
    model_name: str | None,
) -> StructureRaters:
    patients = [case.patient_id for case in cases]

    def estimate(values: Sequence[float]) -> Estimate:
        return bootstrap(values, patients, seed=rules.seed)

    pairwise = np.array([_in_study_order(case, names) for case in cases])
    same = np.array(people)[:, None] == np.array(people)
    off_diagonal = ~np.eye(len(names), dtype=bool)
    twice = bool((same & off_diagonal).any())
    compared = any(not np.isnan(case.people).all() for case in cases)
    of_people = [mean_or_nan(case.people) if case.drawn else math.nan for case in cases]
    left_out = [mean_or_nan(case.model) for case in cases]
    differences = [case.difference for case in cases]
    return StructureRaters(
        structure=cases[0].structure,
        metric=rules.metric,
        pairwise=_mean_over_cases(pairwise),
        between_people=estimate([mean_or_nan(matrix[~same]) for matrix in pairwise]),
        raters=tuple(_skill(name, cases, rules) for name in names),
        model_against_majority=estimate([c.model_against_majority for c in cases]) if model_name else None,
        model_against_staple=estimate([c.model_against_staple for c in cases]) if model_name else None,
        model_against_left_out=estimate(left_out) if model_name else None,
        verdict=_verdict(differences, patients, rules) if model_name else None,
        people_against_left_out=estimate(of_people) if compared else None,
        within_people=estimate([mean_or_nan(matrix[same & off_diagonal]) for matrix in pairwise]) if twice else None,
    )


def _verdict(differences: Sequence[float], patients: Sequence[str], rules: RaterRules) -> NonInferiority:
    return non_inferiority(
        differences, patients, margin=rules.margin, seed=rules.seed, higher_is_better=rules.higher_is_better
    )


def _skill(name: str, cases: Sequence[CaseAgreement], rules: RaterRules) -> RaterSkill:
    own = [(case, case.raters.index(name)) for case in cases if name in case.raters]
    scores = [case.people[i] if case.drawn else math.nan for case, i in own]
    return RaterSkill(
        name=name,
        n_cases=len(own),
        against_consensus=bootstrap(scores, [case.patient_id for case, _ in own], seed=rules.seed),
        sensitivity=mean_or_nan([float(case.sensitivity[i]) for case, i in own]),
        specificity=mean_or_nan([float(case.specificity[i]) for case, i in own]),
    )


def _in_study_order(case: CaseAgreement, names: tuple[str, ...]) -> NDArray[np.float64]:
    matrix = np.full((len(names), len(names)), math.nan)
    index = [names.index(rater) for rater in case.raters]
    matrix[np.ix_(index, index)] = case.pairwise
    return matrix


def _mean_over_cases(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    there = ~np.isnan(matrices)
    count = there.sum(axis=0)
    total = np.where(there, matrices, 0.0).sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(count.shape, math.nan), where=count > 0))


def _count_people(case: CaseAgreement, owner: Mapping[str, str]) -> int:
    return len({owner.get(rater, rater) for rater in case.raters})


def _too_few(case: CaseAgreement, owner: Mapping[str, str]) -> str:
    return (
        f"drawn by {_count_people(case, owner)} people; a consensus without one of them needs {LEAST_PEOPLE} "
        "(their agreement with each other is counted)"
    )


def _equal_masks(groups: Sequence[Sequence[CaseAgreement]]) -> list[str]:
    """Tell the pairs whose masks are equal in all cases that they share: copies that count as two opinions."""
    told = []
    for cases in groups:
        drawn = [case for case in cases if case.drawn]
        raters = {name for case in cases for name in case.raters}
        pairs = dict.fromkeys(pair for case in drawn for pair in case.identical)
        for pair in pairs:
            shared = [case for case in drawn if all(name in case.raters for name in pair if name in raters)]
            if all(pair in case.identical for case in shared) and any(_drew(case, pair[0]) for case in shared):
                told.append(
                    f"{cases[0].structure}: the masks of {pair[0]} and {pair[1]} are equal voxel by voxel in all "
                    f"{len(shared)} cases with the structure that both drew. They are one opinion, counted twice; "
                    "leave one of them out."
                )
    return told


def _tied_majorities(cases: Sequence[CaseAgreement], rules: RaterRules, owner: Mapping[str, str]) -> list[str]:
    """Tell in how many comparisons ties can occur, because they make a consensus small and can turn a verdict."""
    others = [
        sum(owner.get(other, other) != owner.get(rater, rater) for other in case.raters)
        for case in cases
        for rater in case.raters
        if _count_people(case, owner) >= LEAST_PEOPLE
    ]
    even = sum(count % 2 == 0 for count in others)
    if rules.consensus != "majority" or not even:
        return []
    return [
        f"In {even} of {len(others)} comparisons the majority is one of an even number of masks. Ties are background "
        "there, so the consensus is drawn small; see whether --consensus staple leads to the same verdict."
    ]


def _drew(case: CaseAgreement, rater: str) -> bool:
    return rater in case.raters and bool(case.volumes_ml[case.raters.index(rater)] > 0)
