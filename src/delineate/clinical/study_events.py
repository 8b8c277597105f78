"""What can happen in a study: the kinds of its ledger's rows, and the state that they add up to.

A study's ledger is its only memory. The module reads rows; it decides nothing and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from delineate.clinical.ledger import Entry
from delineate.clinical.protocol import Arm, Protocol

LOCKED, ENROLLED, INELIGIBLE, EXCLUDED = "protocol-locked", "enrolled", "ineligible", "excluded"
OUTCOME, ADVERSE, DEVIATION, ANSWER = "outcome", "adverse-event", "deviation", "answer"
LOOKED, CLOSED, PREDICTED, REVEALED = "looked", "closed", "predicted", "revealed"
EXPORTED = "exported"
Severity = Literal["serious", "other"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Enrolment:
    """A case in the study."""

    case_id: str
    patient_id: str
    site: str
    number: int
    """At its site, from 0; sentinels have -1."""
    arms: tuple[Arm, ...]
    """In the order in which they are done."""
    sentinel: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseOutcome:
    """What one arm of one case gave."""

    case_id: str
    arm: Arm
    reader: str
    seconds: float | None
    edit: Mapping[str, Any] | None
    """As :meth:`~delineate.clinical.edits.EditRecord.payload`; None where there was no draft."""
    accuracy_dice: Mapping[str, float | None]
    """By structure, approved against a reference; empty without one, None where neither has the structure."""
    sequence: int
    """Of its row."""


@dataclass(kw_only=True, slots=True)
class StudyState:
    """What the rows add up to."""

    locked_digest: str | None = None
    enrolled: dict[str, Enrolment] = field(default_factory=dict)
    ineligible: dict[str, str] = field(default_factory=dict)
    """Case -> reason, before enrolment."""
    excluded: dict[str, str] = field(default_factory=dict)
    """Case -> reason, after enrolment."""
    outcomes: dict[tuple[str, Arm], CaseOutcome] = field(default_factory=dict)
    adverse: list[Mapping[str, Any]] = field(default_factory=list)
    deviations: list[Mapping[str, Any]] = field(default_factory=list)
    answers: list[Mapping[str, Any]] = field(default_factory=list)
    looks: list[Mapping[str, Any]] = field(default_factory=list)
    predicted: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Case -> its hidden prediction's row."""
    closed: str | None = None
    """Why the study ended."""

    def complete(self, protocol: Protocol, case_id: str) -> bool:
        """Whether a case has the outcome of all of its arms."""
        found = self.enrolled[case_id]
        return all((case_id, arm) in self.outcomes for arm in found.arms)

    def evaluable(self, protocol: Protocol) -> tuple[str, ...]:
        """Return the complete cases that count: neither excluded nor sentinels, in the order of enrolment."""
        return tuple(
            case_id
            for case_id, one in self.enrolled.items()
            if not one.sentinel and case_id not in self.excluded and self.complete(protocol, case_id)
        )

    @property
    def serious_adverse_events(self) -> int:
        """Serious adverse events so far."""
        return sum(event["severity"] == "serious" for event in self.adverse)


def state_of(entries: Iterable[Entry]) -> StudyState:
    """Return what a study's rows add up to; the last outcome of an arm of a case counts."""
    state = StudyState()
    for entry in entries:
        _add(state, entry)
    return state


def _add(state: StudyState, entry: Entry) -> None:
    row = {"sequence": entry.sequence, "time": entry.time, "actor": entry.actor, **entry.payload}
    lists = {ADVERSE: state.adverse, DEVIATION: state.deviations, ANSWER: state.answers, LOOKED: state.looks}
    if entry.kind in lists:
        lists[entry.kind].append(row)
    elif entry.kind == LOCKED:
        state.locked_digest = row["sha256"]
    elif entry.kind == ENROLLED:
        state.enrolled[row["case"]] = _enrolment(row)
    elif entry.kind == OUTCOME:
        state.outcomes[row["case"], row["arm"]] = _outcome(row)
    elif entry.kind == PREDICTED:
        state.predicted[row["case"]] = row
    elif entry.kind == CLOSED:
        state.closed = row["reason"]
    elif entry.kind in (INELIGIBLE, EXCLUDED):
        (state.ineligible if entry.kind == INELIGIBLE else state.excluded)[row["case"]] = row["reason"]


def _enrolment(row: Mapping[str, Any]) -> Enrolment:
    return Enrolment(
        case_id=row["case"],
        patient_id=row["patient"],
        site=row["site"],
        number=row["number"],
        arms=tuple(row["arms"]),
        sentinel=row["sentinel"],
    )


def _outcome(row: Mapping[str, Any]) -> CaseOutcome:
    return CaseOutcome(
        case_id=row["case"],
        arm=row["arm"],
        reader=row["reader"],
        seconds=row["seconds"],
        edit=row["edit"],
        accuracy_dice=row["accuracy_dice"],
        sequence=row["sequence"],
    )
