"""What a study found, by its locked plan: endpoints per arm, structure and reader, differences, flow, harms.

Intervals of means draw whole patients (bootstrap), those of proportions of cases are Wilson's; the primary question is
answered with the test that sized it. Sentinels never enter an endpoint. The module knows a protocol and a state.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from delineate.clinical.edits import ACCEPTED, OUTCOMES
from delineate.clinical.protocol import COMPARABLE, Arm, Endpoint, Protocol, cases_needed
from delineate.clinical.study_events import CaseOutcome, StudyState
from delineate.metrics.comparison import paired_difference, permutation_test
from delineate.metrics.statistics import Interval, bootstrap, wilson_interval

ALL = "all"
SEED = 0
LOWER_IS_BETTER = frozenset({"seconds", "added_path_length_mm"})


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointRow:
    """One endpoint of one arm."""

    arm: Arm
    endpoint: str
    """Also ``unchanged``, ``minor``, ``major``, ``rejected`` (proportions) and ``volume_change_ml``."""
    structure: str
    """``all``: the case (for measures per structure their mean, for outcomes the worst)."""
    reader: str
    n: int
    value: float
    interval: Interval
    method: str
    """``Wilson`` or ``bootstrap by patient``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DifferenceRow:
    """One endpoint, first arm minus second."""

    endpoint: str
    first: Arm
    second: Arm
    n: int
    """Pairs, or cases of both arms."""
    value: float
    interval: Interval
    p_value: float
    """Two-sided; permutation within pairs, or between independent cases Welch's t by patient."""
    method: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PrimaryResult:
    """The answer to the primary question."""

    question: str
    n: int
    value: float
    interval: Interval
    z: float | None
    """Standard normal equivalent of the test; positive is the direction that the protocol hopes for."""
    critical: float | None
    """What |Z| must reach at this look."""
    verdict: str
    stop: str
    """Why the study stops now; empty if it goes on or was final anyway."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """Where the cases went, as CONSORT's diagram asks."""

    assessed: int
    ineligible: Mapping[str, int]
    """Reason -> cases."""
    enrolled: int
    allocated: Mapping[str, int]
    """Arm -> cases."""
    completed: Mapping[str, int]
    """Arm -> cases with an outcome in it, excluded ones left out."""
    excluded: Mapping[str, int]
    """Reason -> cases."""
    incomplete: int
    analysed: int
    sentinels: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """The answers to one question."""

    question: str
    counts: tuple[int, ...]
    """From score 1 to 5."""
    mean: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Analysis:
    """All that a look at the study says."""

    look: int
    planned_looks: int
    final: bool
    flow: Flow
    primary: PrimaryResult
    rows: tuple[EndpointRow, ...]
    differences: tuple[DifferenceRow, ...]
    sentinels_detected: tuple[int, int, Interval]
    """Detected, shown, and the rate's interval. Detected: the outcome is a major edit or a rejection."""
    answers: tuple[Answers, ...]
    adverse_events: tuple[Mapping[str, Any], ...]
    deviations: tuple[Mapping[str, Any], ...]
    seed: int


def analyse(protocol: Protocol, state: StudyState, look: int) -> Analysis:
    """Analyse what is complete, by the protocol.

    Parameters
    ----------
    protocol
        The locked one.
    state
        What happened so far.
    look
        Number of this look, from 1.
    """
    final = state.closed is not None or look >= protocol.stopping.looks
    cases = state.evaluable(protocol)
    by_arm = {arm: [state.outcomes[c, arm] for c in cases if (c, arm) in state.outcomes] for arm in protocol.arms}
    return Analysis(
        look=look,
        planned_looks=protocol.stopping.looks,
        final=final,
        flow=_flow(protocol, state, cases),
        primary=_primary(protocol, state, by_arm, look, final),
        rows=tuple(row for arm, found in by_arm.items() for row in _arm_rows(protocol, state, arm, found)),
        differences=_differences(protocol, state, by_arm),
        sentinels_detected=_sentinels(state),
        answers=_answers(protocol, state),
        adverse_events=tuple(state.adverse),
        deviations=tuple(state.deviations),
        seed=SEED,
    )


def value_of(outcome: CaseOutcome, endpoint: str, structure: str = ALL) -> float:
    """Return an endpoint of a case, NaN if it has none; ``all`` structures: the mean, for acceptance all of them."""
    if endpoint == "seconds":
        return math.nan if outcome.seconds is None else float(outcome.seconds)
    if endpoint == "accuracy_dice":
        return _mean([v for k, v in outcome.accuracy_dice.items() if structure in (ALL, k)])
    if outcome.edit is None:
        return math.nan
    chosen = [s for s in outcome.edit["structures"] if structure in (ALL, s["structure"])]
    if endpoint == "acceptance":
        return float(all(s["outcome"] in ACCEPTED for s in chosen)) if chosen else math.nan
    if endpoint in OUTCOMES:
        worst = outcome.edit["outcome"] if structure == ALL else chosen[0]["outcome"] if chosen else None
        return math.nan if worst is None else float(worst == endpoint)
    return _mean([s[endpoint] for s in chosen])


def _mean(values: Sequence[float | None]) -> float:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else math.nan


def _flow(protocol: Protocol, state: StudyState, cases: Sequence[str]) -> Flow:
    counted = {c: e for c, e in state.enrolled.items() if not e.sentinel}
    kept = [c for c in counted if c not in state.excluded]
    return Flow(
        assessed=len(counted) + len(state.ineligible),
        ineligible=dict(Counter(state.ineligible.values())),
        enrolled=len(counted),
        allocated={arm: sum(arm in e.arms for e in counted.values()) for arm in protocol.arms},
        completed={arm: sum((c, arm) in state.outcomes for c in kept) for arm in protocol.arms},
        excluded=dict(Counter(reason for c, reason in state.excluded.items() if c in counted)),
        incomplete=len(kept) - len(cases),
        analysed=len(cases),
        sentinels=len(state.enrolled) - len(counted),
    )


def _arm_rows(protocol: Protocol, state: StudyState, arm: Arm, found: Sequence[CaseOutcome]) -> list[EndpointRow]:
    rows = []
    readers = [r for r in protocol.readers if any(o.reader == r for o in found)]
    for endpoint in _reported(protocol):
        per_structure = [] if endpoint == "seconds" else list(protocol.structures)
        for structure, reader in [(ALL, ALL), *((s, ALL) for s in per_structure), *((ALL, r) for r in readers)]:
            chosen = [o for o in found if reader in (ALL, o.reader)]
            values = [value_of(o, endpoint, structure) for o in chosen]
            if not all(math.isnan(v) for v in values):
                patients = [state.enrolled[o.case_id].patient_id for o in chosen]
                rows.append(_row(protocol, arm, endpoint, structure, reader, _Sample(values, patients)))
    return rows


@dataclass(frozen=True, slots=True)
class _Sample:
    values: list[float]
    patients: list[str]


def _reported(protocol: Protocol) -> list[str]:
    found: list[str] = [e for e in protocol.endpoints if e != "seconds_saved"]
    if "acceptance" in found:
        found += OUTCOMES
    return [*found, "volume_change_ml"]


def _row(protocol: Protocol, arm: Arm, endpoint: str, structure: str, reader: str, sample: _Sample) -> EndpointRow:
    level = protocol.primary.level
    if endpoint == "acceptance" or endpoint in OUTCOMES:
        known = [v for v in sample.values if not math.isnan(v)]
        value, interval = float(np.mean(known)), wilson_interval(int(sum(known)), len(known), level=level)
        n, method = len(known), "Wilson"
    else:
        estimate = bootstrap(sample.values, sample.patients, seed=SEED, level=level)
        value, interval, n, method = estimate.value, estimate.interval, estimate.n_used, "bootstrap by patient"
    return EndpointRow(
        arm=arm,
        endpoint=endpoint,
        structure=structure,
        reader=reader,
        n=n,
        value=value,
        interval=interval,
        method=method,
    )


def _differences(
    protocol: Protocol, state: StudyState, by_arm: Mapping[Arm, Sequence[CaseOutcome]]
) -> tuple[DifferenceRow, ...]:
    rows = []
    for i, first in enumerate(protocol.arms):
        for second in protocol.arms[i + 1 :]:
            for endpoint in _compared(protocol, first, second):
                rows.append(_difference(protocol, state, by_arm, endpoint, first, second))
    return tuple(rows)


def _compared(protocol: Protocol, first: Arm, second: Arm) -> list[str]:
    wanted: list[str] = [e for e in protocol.endpoints if e in COMPARABLE]
    saved = "seconds_saved" in protocol.endpoints and {first, second} == {"manual", "assisted"}
    if "manual" not in (first, second):
        wanted += [e for e in protocol.endpoints if e not in wanted and e not in ("seconds_saved", "acceptance")]
    return [*wanted, *(["seconds_saved"] if saved else [])]


def _difference(
    protocol: Protocol,
    state: StudyState,
    by_arm: Mapping[Arm, Sequence[CaseOutcome]],
    endpoint: str,
    first: Arm,
    second: Arm,
) -> DifferenceRow:
    if endpoint == "seconds_saved":
        first, second = "manual", "assisted"
    measure = "seconds" if endpoint == "seconds_saved" else endpoint
    level = protocol.primary.level
    one, other = (_sample(state, by_arm[arm], measure) for arm in (first, second))
    if protocol.paired:
        estimate = paired_difference(one.values, other.values, one.patients, seed=SEED, level=level)
        test = permutation_test(one.values, other.values, one.patients, seed=SEED)
        n, value, interval, p = estimate.n_used, estimate.value, estimate.interval, test.p_value
        method = "bootstrap and permutation by patient, paired"
    else:
        t = _welch(one, other, level)
        n, value, interval, p, method = t.n, t.value, t.interval, t.p_value, "Welch's t by patient"
    return DifferenceRow(
        endpoint=endpoint,
        first=first,
        second=second,
        n=n,
        value=value,
        interval=interval,
        p_value=p,
        method=method,
    )


def _sample(state: StudyState, outcomes: Sequence[CaseOutcome], endpoint: str) -> _Sample:
    return _Sample([value_of(o, endpoint) for o in outcomes], [state.enrolled[o.case_id].patient_id for o in outcomes])


@dataclass(frozen=True, slots=True)
class _Test:
    n: int
    value: float
    interval: Interval
    p_value: float


def _patient_means(sample: _Sample) -> NDArray[np.float64]:
    grouped: dict[str, list[float]] = {}
    for patient, value in zip(sample.patients, sample.values, strict=True):
        if not math.isnan(value):
            grouped.setdefault(patient, []).append(value)
    return np.array([np.mean(values) for values in grouped.values()], np.float64)


def _one_sample(sample: _Sample, level: float) -> _Test:
    """Return Student's t of the mean of the patients."""
    means = _patient_means(sample)
    if len(means) < 2 or not np.ptp(means):
        value = float(means.mean()) if len(means) else math.nan
        known = Interval(low=value, high=value, level=level) if len(means) > 1 else _unknown(level)
        return _Test(len(means), value, known, math.nan)
    found = stats.ttest_1samp(means, 0.0)
    bounds = found.confidence_interval(level)
    interval = Interval(low=float(bounds.low), high=float(bounds.high), level=level)
    return _Test(len(means), float(means.mean()), interval, float(found.pvalue))


def _welch(one: _Sample, other: _Sample, level: float) -> _Test:
    first, second = _patient_means(one), _patient_means(other)
    value = float(first.mean() - second.mean()) if len(first) and len(second) else math.nan
    n = len(first) + len(second)
    if min(len(first), len(second)) < 2 or not (np.ptp(first) or np.ptp(second)):
        return _Test(n, value, _unknown(level), math.nan)
    found = stats.ttest_ind(first, second, equal_var=False)
    bounds = found.confidence_interval(level)
    return _Test(n, value, Interval(low=float(bounds.low), high=float(bounds.high), level=level), float(found.pvalue))


def _proportions(one: _Sample, other: _Sample, level: float) -> _Test:
    """Return the normal test of two proportions, pooled; the interval is Newcombe's of two Wilson intervals."""
    counts = [(int(np.nansum(s.values)), int(np.sum(~np.isnan(s.values)))) for s in (one, other)]
    if not all(n for _, n in counts):
        return _Test(sum(n for _, n in counts), math.nan, _unknown(level), math.nan)
    (a, n), (b, m) = counts
    p, q, pooled = a / n, b / m, (a + b) / (n + m)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    first, second = wilson_interval(a, n, level=level), wilson_interval(b, m, level=level)
    interval = Interval(
        low=p - q - math.hypot(p - first.low, second.high - q),
        high=p - q + math.hypot(first.high - p, q - second.low),
        level=level,
    )
    return _Test(n + m, p - q, interval, float(2 * stats.norm.sf(abs(p - q) / error)) if error else math.nan)


def _unknown(level: float) -> Interval:
    return Interval(low=math.nan, high=math.nan, level=level)


def _primary_test(protocol: Protocol, state: StudyState, by_arm: Mapping[Arm, Sequence[CaseOutcome]]) -> _Test:
    primary, level = protocol.primary, protocol.primary.level
    measure = "seconds" if primary.endpoint == "seconds_saved" else primary.endpoint
    arms: tuple[Arm, ...] = ("manual", "assisted") if primary.endpoint == "seconds_saved" else primary.arms
    samples = [_sample(state, by_arm[arm], measure) for arm in arms]
    if len(samples) == 1:
        if primary.endpoint == "acceptance":
            known = [v for v in samples[0].values if not math.isnan(v)]
            rate = float(np.mean(known)) if known else math.nan
            return _Test(len(known), rate, wilson_interval(int(sum(known)), len(known), level=level), math.nan)
        return _one_sample(samples[0], level)
    one, other = samples
    if protocol.paired:
        differences = [a - b for a, b in zip(one.values, other.values, strict=True)]
        return _one_sample(_Sample(differences, one.patients), level)
    compare: Callable[[_Sample, _Sample, float], _Test] = _proportions if measure == "acceptance" else _welch
    return compare(one, other, level)


def _primary(
    protocol: Protocol, state: StudyState, by_arm: Mapping[Arm, Sequence[CaseOutcome]], look: int, final: bool
) -> PrimaryResult:
    primary = protocol.primary
    test = _primary_test(protocol, state, by_arm)
    z = critical = None
    stop = ""
    if primary.aim == "interval":
        verdict = _interval_words(test, primary.half_width or math.nan)
    elif primary.aim == "non_inferiority":
        verdict = _inferiority_words(test, primary.endpoint, primary.margin or 0.0)
    else:
        critical = protocol.boundary.critical[min(look, protocol.stopping.looks) - 1]
        z = _hoped_z(test, primary.difference or 1.0)
        verdict, stop = _difference_words(z, critical, protocol.stopping.futility_z, final)
    return PrimaryResult(
        question=_question(protocol),
        n=test.n,
        value=test.value,
        interval=test.interval,
        z=z,
        critical=critical,
        verdict=verdict,
        stop=stop,
    )


def _question(protocol: Protocol) -> str:
    primary = protocol.primary
    arms = " minus ".join(primary.arms)
    words = {"interval": "interval", "difference": "difference", "non_inferiority": "non-inferiority"}
    return f"{words[primary.aim]} of {primary.endpoint}, {arms} ({cases_needed(protocol)} cases planned)"


def _hoped_z(test: _Test, hoped: float) -> float | None:
    if math.isnan(test.p_value):
        return None
    # a p value that underflows to 0 is as far as numbers go
    size = float(stats.norm.isf(max(test.p_value, 1e-300) / 2))
    return math.copysign(size, test.value * hoped)


def _interval_words(test: _Test, wanted: float) -> str:
    half = (test.interval.high - test.interval.low) / 2
    if math.isnan(half):
        return "too few cases for an interval"
    reached = "reached" if half <= wanted else "not reached"
    return f"the interval is {half:.3g} to either side; wanted was {wanted:g}: {reached}"


def _inferiority_words(test: _Test, endpoint: Endpoint, margin: float) -> str:
    worst = -test.interval.high if endpoint in LOWER_IS_BETTER else test.interval.low
    if math.isnan(worst):
        return "too few cases"
    return f"{'not inferior' if worst > -margin else 'non-inferiority not shown'} by the margin {margin:g}"


def _difference_words(z: float | None, critical: float, futility: float | None, final: bool) -> tuple[str, str]:
    """Return the verdict, and why the study stops before its end."""
    if z is None:
        return "too few cases, or no variation", ""
    if abs(z) >= critical:
        words = "a difference in the hoped direction" if z > 0 else "a difference against the hoped direction"
        return f"{words}: |Z| = {abs(z):.2f} reaches {critical:.2f}", "" if final else f"boundary crossed, Z = {z:.2f}"
    if not final and futility is not None and z < futility:
        return f"futile: Z = {z:.2f} is below {futility:g}", f"futility, Z = {z:.2f}"
    return f"no difference shown: |Z| = {abs(z):.2f} does not reach {critical:.2f}", ""


def _sentinels(state: StudyState) -> tuple[int, int, Interval]:
    shown = [
        outcome.edit
        for (case_id, _), outcome in state.outcomes.items()
        if state.enrolled[case_id].sentinel and outcome.edit is not None
    ]
    detected = sum(edit["outcome"] not in ACCEPTED for edit in shown)
    return detected, len(shown), wilson_interval(detected, len(shown))


def _answers(protocol: Protocol, state: StudyState) -> tuple[Answers, ...]:
    found = []
    for number, question in enumerate(protocol.questions, start=1):
        scores = [int(a["score"]) for a in state.answers if a["question"] == number]
        counts = tuple(scores.count(score) for score in range(1, 6))
        found.append(Answers(question=question, counts=counts, mean=float(np.mean(scores)) if scores else math.nan))
    return tuple(found)
