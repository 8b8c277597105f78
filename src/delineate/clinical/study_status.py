"""How far a study is, in numbers; a pure function of its protocol and of what happened."""

from __future__ import annotations

from dataclasses import dataclass

from delineate.clinical.protocol import Protocol, cases_needed, cases_to_enrol
from delineate.clinical.study_events import StudyState
from delineate.clinical.study_rules import next_look_at, stop_reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """How far a study is."""

    locked: bool
    closed: str | None
    enrolled: int
    """Without sentinels."""
    to_enrol: int
    """With expected dropouts."""
    evaluable: int
    needed: int
    excluded: int
    sentinels: int
    looks_done: int
    looks_planned: int
    next_look_at: int | None
    """Evaluable cases at which the next look is due; None after the last."""
    deviations: int
    serious_adverse_events: int
    stop: str
    """Why the study must stop now; empty if it need not."""
    protocol_changed: bool
    """Whether the protocol file is not what was locked."""
    checkpoint: str
    """Of the ledger, to be noted elsewhere."""


def status_of(protocol: Protocol, state: StudyState, *, file_sha256: str, checkpoint: str) -> Status:
    """Return how far a study is.

    Parameters
    ----------
    protocol, state
        What was locked, or the draft before; and what happened.
    file_sha256
        Of the protocol file as it is now; empty if there is none.
    checkpoint
        Of the ledger.
    """
    counted = [e for e in state.enrolled.values() if not e.sentinel]
    return Status(
        locked=state.locked_digest is not None,
        closed=state.closed,
        enrolled=len(counted),
        to_enrol=cases_to_enrol(protocol),
        evaluable=len(state.evaluable(protocol)),
        needed=cases_needed(protocol),
        excluded=len(state.excluded),
        sentinels=len(state.enrolled) - len(counted),
        looks_done=len(state.looks),
        looks_planned=protocol.stopping.looks,
        next_look_at=next_look_at(protocol, state),
        deviations=len(state.deviations),
        serious_adverse_events=state.serious_adverse_events,
        stop=stop_reason(protocol, state),
        protocol_changed=state.locked_digest is not None and file_sha256 != state.locked_digest,
        checkpoint=checkpoint,
    )
