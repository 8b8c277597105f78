"""A prospective study in a folder: its protocol, its ledger, and the rules of what may happen next.

Nothing is recorded before the protocol is locked, nothing is analysed but by the locked plan, and whatever departs from
the plan becomes a deviation in the ledger. The module knows the rules; masks are measured elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delineate.clinical import study_events as events
from delineate.clinical.allocation import arms_of
from delineate.clinical.ledger import Ledger, Writer
from delineate.clinical.protocol import (
    Arm,
    Protocol,
    cases_needed,
    cases_to_enrol,
    digest_of,
    read_protocol,
    template,
)
from delineate.clinical.study_events import Enrolment, StudyState, state_of
from delineate.clinical.study_rules import next_look_at, require_arm, require_room, stop_reason
from delineate.clinical.study_status import Status, status_of
from delineate.errors import ProtocolError, UsageError
from delineate.execution import write_text

PROTOCOL_FILE, LOCKED_FILE, LEDGER_FILE, HIDDEN_FOLDER = (
    "protocol.json",
    "protocol.locked.json",
    "ledger.jsonl",
    "hidden",
)
LIKERT = range(1, 6)


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A study's folder."""

    root: Path

    @property
    def ledger(self) -> Ledger:
        """All that happened."""
        return Ledger(path=self.root / LEDGER_FILE)

    @property
    def hidden(self) -> Path:
        """Folder of predictions that nobody is shown."""
        return self.root / HIDDEN_FOLDER

    def create(self) -> Path:
        """Write a protocol to start from.

        Raises
        ------
        UsageError
            If there is one already.
        ResourceError
            If the folder cannot be written.
        """
        path = self.root / PROTOCOL_FILE
        if path.exists():
            raise UsageError(f"{path} exists; edit it, or choose another folder.")
        write_text(path, template())
        return path

    def draft(self) -> Protocol:
        """Return the protocol as the file now says, locked or not.

        Raises
        ------
        ProtocolError
            If there is none or it has faults; names all of them.
        """
        path = self.root / PROTOCOL_FILE
        return read_protocol(_text_of(path), str(path))

    def protocol(self) -> Protocol:
        """Return the protocol that was locked.

        Raises
        ------
        ProtocolError
            If none was, or the locked file was altered.
        LedgerError
            If the ledger was altered.
        """
        return self._locked(state_of(self.ledger.entries()))

    def state(self) -> StudyState:
        """Return what happened so far.

        Raises
        ------
        LedgerError
            If the ledger was altered.
        """
        return state_of(self.ledger.entries())

    def lock(self, *, actor: str) -> str:
        """Freeze the protocol and return its SHA-256.

        Raises
        ------
        ProtocolError
            If it has faults, or one is locked already.
        """
        path = self.root / PROTOCOL_FILE
        text = _text_of(path)
        protocol = read_protocol(text, str(path))
        with self.ledger.exclusive() as writer:
            if state_of(writer.entries).locked_digest is not None:
                raise ProtocolError(
                    f"{self.root}: the protocol is locked; changes are deviations (`record deviation`)."
                )
            write_text(self.root / LOCKED_FILE, text)
            digest = digest_of(text)
            payload = {"sha256": digest, "cases_needed": cases_needed(protocol), "to_enrol": cases_to_enrol(protocol)}
            writer.append(events.LOCKED, payload, actor=actor)
        return digest

    def enrol(self, case_id: str, *, site: str, actor: str, patient_id: str = "") -> Enrolment:
        """Take a case into the study and return its arms; a sentinel of the protocol is known by its id.

        Raises
        ------
        ProtocolError
            If the protocol is not locked, the study has stopped, or it does not know the site.
        UsageError
            If the case was enrolled or refused before.
        """
        with self._running() as (writer, protocol, state):
            if case_id in state.enrolled or case_id in state.ineligible:
                raise UsageError(f"Case {case_id} was enrolled or found ineligible before.")
            if site not in protocol.sites:
                raise ProtocolError(f"'{site}' is no site of the protocol; it has {', '.join(protocol.sites)}.")
            sentinel = case_id in protocol.sentinels
            require_room(protocol, state, sentinel=sentinel)
            number = sum(e.site == site and not e.sentinel for e in state.enrolled.values())
            # a sentinel shows a wrong draft, so it is always assisted where there is such an arm
            shown: tuple[Arm, ...] = ("assisted",) if "assisted" in protocol.arms else protocol.arms[:1]
            found = Enrolment(
                case_id=case_id,
                patient_id=patient_id or case_id,
                site=site,
                number=-1 if sentinel else number,
                arms=shown if sentinel else arms_of(protocol, site, number),
                sentinel=sentinel,
            )
            payload = {
                "case": case_id,
                "patient": found.patient_id,
                "site": site,
                "number": found.number,
                "arms": list(found.arms),
                "sentinel": sentinel,
            }
            writer.append(events.ENROLLED, payload, actor=actor)
            return found

    def refuse(self, case_id: str, *, reason: str, actor: str) -> None:
        """Note that a case was looked at and is not eligible.

        Raises
        ------
        ProtocolError
            If the protocol is not locked or the study has stopped.
        UsageError
            If the case was enrolled or refused before.
        """
        with self._running() as (writer, _, state):
            if case_id in state.enrolled or case_id in state.ineligible:
                raise UsageError(f"Case {case_id} was enrolled or found ineligible before.")
            writer.append(events.INELIGIBLE, {"case": case_id, "reason": reason}, actor=actor)

    def exclude(self, case_id: str, *, reason: str, actor: str) -> None:
        """Leave an enrolled case out of the analysis; it stays in the flow.

        Raises
        ------
        ProtocolError
            If the protocol is not locked.
        UsageError
            If the case is not enrolled or excluded already.
        """
        with self._open() as (writer, _, state):
            if case_id not in state.enrolled or case_id in state.excluded:
                raise UsageError(f"Case {case_id} is not enrolled, or excluded already.")
            writer.append(events.EXCLUDED, {"case": case_id, "reason": reason}, actor=actor)

    def record_outcome(
        self,
        case_id: str,
        arm: Arm,
        *,
        reader: str,
        seconds: float | None,
        edit: Mapping[str, Any] | None,
        accuracy_dice: Mapping[str, float | None],
        correction: str = "",
    ) -> None:
        """Record what an arm of a case gave.

        Parameters
        ----------
        case_id, arm
            Enrolled, and one of its arms.
        reader
            One of the protocol's.
        seconds
            0 or more, or None.
        edit
            Payload of an edit record; needed in arms with a draft, refused in the manual arm.
        accuracy_dice
            By structure, against a reference.
        correction
            Why an outcome that is there is replaced; becomes a deviation.

        Raises
        ------
        ProtocolError
            If the protocol does not allow it.
        UsageError
            If there is an outcome already and no reason to correct it, or seconds are impossible.
        """
        if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
            raise UsageError(f"Seconds must be a number of 0 or more; got {seconds}.")
        with self._open() as (writer, protocol, state):
            require_arm(protocol, state, case_id, arm, reader, edit)
            if (case_id, arm) in state.outcomes:
                if not correction:
                    raise UsageError(f"Case {case_id} has its outcome in arm {arm}; give a reason to correct it.")
                text = f"outcome of {case_id} ({arm}) corrected: {correction}"
                writer.append(events.DEVIATION, {"text": text}, actor=reader)
            payload = {
                "case": case_id,
                "arm": arm,
                "reader": reader,
                "seconds": seconds,
                "edit": edit,
                "accuracy_dice": dict(accuracy_dice),
            }
            writer.append(events.OUTCOME, payload, actor=reader)

    def record_adverse(self, case_id: str, *, severity: events.Severity, text: str, actor: str) -> None:
        """Record an adverse event.

        Raises
        ------
        ProtocolError
            If the protocol is not locked.
        UsageError
            If the case is not enrolled.
        """
        with self._open() as (writer, _, state):
            if case_id not in state.enrolled:
                raise UsageError(f"Case {case_id} is not enrolled.")
            writer.append(events.ADVERSE, {"case": case_id, "severity": severity, "text": text}, actor=actor)

    def record_deviation(self, text: str, *, actor: str) -> None:
        """Record a departure from the protocol; what the protocol file says now is noted with it.

        Raises
        ------
        ProtocolError
            If the protocol is not locked.
        """
        with self._open() as (writer, _, _):
            path = self.root / PROTOCOL_FILE
            payload = {"text": text, "protocol_file_sha256": digest_of(_text_of(path)) if path.exists() else None}
            writer.append(events.DEVIATION, payload, actor=actor)

    def record_answer(self, question: int, score: int, *, reader: str) -> None:
        """Record a reader's answer, 1 (not at all) to 5 (fully), to a question of the protocol, numbered from 1.

        Raises
        ------
        ProtocolError
            If the protocol has no such question or reader.
        UsageError
            If the score is not 1 to 5.
        """
        if score not in LIKERT:
            raise UsageError(f"An answer is a score from 1 to 5; got {score}.")
        with self._open() as (writer, protocol, _):
            if not 1 <= question <= len(protocol.questions) or reader not in protocol.readers:
                raise ProtocolError(
                    f"The protocol has questions 1 to {len(protocol.questions)} and readers "
                    f"{', '.join(protocol.readers)}; got question {question} of {reader}."
                )
            writer.append(events.ANSWER, {"question": question, "score": score, "reader": reader}, actor=reader)

    def record_prediction(self, case_id: str, payload: Mapping[str, Any], *, actor: str) -> None:
        """Note that a hidden prediction was stored.

        Raises
        ------
        ProtocolError
            If the protocol is not locked or has no silent arm.
        UsageError
            If the case has one already.
        """
        with self._open() as (writer, _, state):
            if case_id in state.predicted:
                raise UsageError(f"Case {case_id} has a hidden prediction already.")
            writer.append(events.PREDICTED, {"case": case_id, **payload}, actor=actor)

    def require_revealable(self, case_id: str) -> Mapping[str, Any]:
        """Return the row of a hidden prediction that may be shown now: once the person's contours are recorded.

        Raises
        ------
        ProtocolError
            If it may not be shown yet.
        UsageError
            If there is none.
        """
        state = self.state()
        self._locked(state)
        if case_id not in state.predicted:
            raise UsageError(f"Case {case_id} has no hidden prediction.")
        drawn = any(case == case_id and arm == "silent" for case, arm in state.outcomes)
        if state.closed is None and not drawn:
            raise ProtocolError(
                f"The prediction of {case_id} stays hidden until the person's contours are recorded or the study is "
                "closed."
            )
        return state.predicted[case_id]

    def note_revealed(self, case_id: str, *, actor: str) -> None:
        """Note that a hidden prediction was shown."""
        self.ledger.append(events.REVEALED, {"case": case_id}, actor=actor)

    def note_exported(self, *, actor: str) -> None:
        """Note that tables of outcomes were handed out: they can be looked at outside the planned looks.

        Raises
        ------
        ProtocolError
            If the protocol is not locked.
        """
        with self._open() as (writer, protocol, state):
            payload = {"evaluable": len(state.evaluable(protocol)), "closed": state.closed is not None}
            writer.append(events.EXPORTED, payload, actor=actor)

    def close(self, reason: str, *, actor: str) -> None:
        """End enrolment; an end before the planned number of cases is a deviation.

        Raises
        ------
        ProtocolError
            If the protocol is not locked.
        UsageError
            If the study is closed already.
        """
        with self._open() as (writer, protocol, state):
            if state.closed is not None:
                raise UsageError(f"The study is closed already: {state.closed}.")
            evaluable, needed = len(state.evaluable(protocol)), cases_needed(protocol)
            if evaluable < needed and not stop_reason(protocol, state):
                text = f"closed with {evaluable} of {needed} evaluable cases: {reason}"
                writer.append(events.DEVIATION, {"text": text}, actor=actor)
            writer.append(events.CLOSED, {"reason": reason}, actor=actor)

    def begin_look(self, *, actor: str) -> tuple[int, StudyState]:
        """Count a look at the results and return its number, from 1, and the state that is looked at.

        An interim look is allowed when its share of the cases is complete; the final one when all are, or when the
        study is closed. Looking again without new outcomes is the same look.

        Raises
        ------
        ProtocolError
            If a look is not due.
        """
        with self._open() as (writer, protocol, state):
            outcomes = len(state.outcomes)
            if (
                state.looks
                and state.looks[-1]["outcomes"] == outcomes
                and state.looks[-1]["closed"] == bool(state.closed)
            ):
                return int(state.looks[-1]["look"]), state
            look, due = len(state.looks) + 1, next_look_at(protocol, state)
            evaluable = len(state.evaluable(protocol))
            if state.closed is None and (due is None or evaluable < due):
                when = "after the last look" if due is None else f"with {due} evaluable cases"
                raise ProtocolError(
                    f"The next look at the results is due {when}; there are {evaluable}. Close the study to analyse "
                    "it earlier; that is a deviation."
                )
            final = state.closed is not None or look >= protocol.stopping.looks
            payload = {
                "look": look,
                "evaluable": evaluable,
                "outcomes": outcomes,
                "final": final,
                "closed": bool(state.closed),
            }
            writer.append(events.LOOKED, payload, actor=actor)
            return look, state_of(writer.entries)

    def note_stop(self, reason: str, *, actor: str) -> None:
        """Close the study because its stopping rule says so."""
        with self._open() as (writer, _, state):
            if state.closed is None:
                writer.append(events.CLOSED, {"reason": reason}, actor=actor)

    def status(self) -> Status:
        """Return how far the study is, by the locked protocol or, before, by the draft.

        Raises
        ------
        ProtocolError
            If there is no protocol, or it has faults.
        LedgerError
            If the ledger was altered.
        """
        state = self.state()
        protocol = self.draft() if state.locked_digest is None else self._locked(state)
        path = self.root / PROTOCOL_FILE
        return status_of(
            protocol,
            state,
            file_sha256=digest_of(_text_of(path)) if path.exists() else "",
            checkpoint=self.ledger.head().words,
        )

    def _locked(self, state: StudyState) -> Protocol:
        if state.locked_digest is None:
            raise ProtocolError(f"{self.root}: the protocol is not locked yet; `delineate study lock` freezes it.")
        path = self.root / LOCKED_FILE
        text = _text_of(path)
        if digest_of(text) != state.locked_digest:
            raise ProtocolError(
                f"{path} is not the protocol that was locked (SHA-256 {state.locked_digest[:16]}...); restore it."
            )
        return read_protocol(text, str(path))

    @contextmanager
    def _open(self) -> Iterator[tuple[Writer, Protocol, StudyState]]:
        with self.ledger.exclusive() as writer:
            state = state_of(writer.entries)
            yield writer, self._locked(state), state

    @contextmanager
    def _running(self) -> Iterator[tuple[Writer, Protocol, StudyState]]:
        with self._open() as (writer, protocol, state):
            if reason := state.closed or stop_reason(protocol, state):
                raise ProtocolError(f"The study takes no more cases: {reason}.")
            yield writer, protocol, state


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ProtocolError(f"{path}: expected a protocol; it cannot be read ({error}).") from error
