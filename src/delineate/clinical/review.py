"""The gate: which states a draft passes, who may move it, and the only way in which it becomes an approved result.

States and transitions are one table. Every move is a row of the ledger (:mod:`delineate.clinical.ledger`), bound to the
content that was seen by its hash; the state of a study is what its rows say, and nothing else. Structures can be judged
one by one; a study is approved as a whole, and not while one of its structures stands rejected.

The module knows no DICOM file and no transfer; :mod:`delineate.clinical.release` tells the ledger what left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from delineate.case import LabelMap
from delineate.clinical.ledger import Entry, Ledger
from delineate.clinical.results import _MADE_BY_REVIEW, Approval, ApprovedResult, DraftResult
from delineate.errors import ReviewError

KIND = "review"
"""Of the ledger's rows that move a study."""
STRUCTURE_KIND = "review-structure"
"""Of the rows that judge one structure."""
MEANING = "approved for use"
"""Of a signature (21 CFR 11.50), unless the reviewer says otherwise."""


class State(StrEnum):
    """Where a study stands."""

    NEW = "new"
    """Nothing is known of it yet."""
    RECEIVED = "received"
    INFERRED = "inferred"
    NEEDS_REVIEW = "needs review"
    EDITED = "edited"
    APPROVED = "approved"
    REJECTED = "rejected"
    RELEASED = "released"
    AMENDED = "amended"
    """A new version of something that was released; it needs an approval of its own."""
    RECALLED = "recalled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One transition that is allowed."""

    target: State
    needs_reason: bool = False
    """Whether the ledger must say why."""
    binds_content: bool = True
    """Whether the row names the hash of the mask that the move is about."""


TRANSITIONS: Mapping[State, tuple[Rule, ...]] = {
    State.NEW: (
        Rule(target=State.RECEIVED, binds_content=False),
        Rule(target=State.INFERRED),
        Rule(target=State.EDITED),
    ),
    State.RECEIVED: (
        Rule(target=State.INFERRED),
        Rule(target=State.EDITED),
        Rule(target=State.REJECTED, needs_reason=True, binds_content=False),
    ),
    State.INFERRED: (
        Rule(target=State.NEEDS_REVIEW),
        Rule(target=State.INFERRED, needs_reason=True),
        Rule(target=State.REJECTED, needs_reason=True),
    ),
    State.NEEDS_REVIEW: (
        Rule(target=State.EDITED),
        Rule(target=State.APPROVED),
        Rule(target=State.INFERRED, needs_reason=True),
        Rule(target=State.REJECTED, needs_reason=True),
    ),
    State.EDITED: (
        Rule(target=State.EDITED),
        Rule(target=State.APPROVED),
        Rule(target=State.INFERRED, needs_reason=True),
        Rule(target=State.REJECTED, needs_reason=True),
    ),
    State.APPROVED: (
        Rule(target=State.RELEASED),
        Rule(target=State.EDITED, needs_reason=True),
        Rule(target=State.REJECTED, needs_reason=True),
    ),
    State.REJECTED: (Rule(target=State.INFERRED, needs_reason=True), Rule(target=State.EDITED, needs_reason=True)),
    State.RELEASED: (
        Rule(target=State.RELEASED),
        Rule(target=State.AMENDED, needs_reason=True),
        Rule(target=State.RECALLED, needs_reason=True),
    ),
    State.AMENDED: (
        Rule(target=State.AMENDED, needs_reason=True),
        Rule(target=State.APPROVED),
        Rule(target=State.RECALLED, needs_reason=True),
    ),
    State.RECALLED: (Rule(target=State.AMENDED, needs_reason=True),),
}
"""What may follow what. A loop is a new version in the same state. A mask that comes from a person is edited from the
start, whether or not the ledger saw what a model made of the series."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviewPolicy:
    """What a site asks of its reviews."""

    four_eyes: bool = False
    """Whether who edited the mask that is approved may not be the one who approves it."""
    every_structure: bool = False
    """Whether each structure must have been accepted by name before the study is approved."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reviewer:
    """A person who takes responsibility."""

    name: str
    """As signed: ``Doe^Jane`` or plain words."""
    identity: str = ""
    """At the site: login or staff number; empty: the name."""

    @property
    def actor(self) -> str:
        """What the ledger calls the person."""
        return self.identity or self.name


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviewState:
    """What the ledger says of one study."""

    state: State
    content_sha256: str
    """Of the version that the state is about."""
    editors: frozenset[str]
    """Who changed the mask since the last inference, as the ledger names them."""
    structures: Mapping[str, State]
    """Judgements of single structures of this version: accepted (``approved``) or rejected."""
    approval: Approval | None
    """Of this version."""
    released: tuple[Mapping[str, str], ...]
    """Hashes by file name, one for every release of this version."""


def state_of(ledger: Ledger, series_uid: str) -> ReviewState:
    """Return where the study of a series stands.

    Raises
    ------
    LedgerError
        If the ledger was altered.
    """
    return _replayed(ledger.entries(), series_uid)


def receive(ledger: Ledger, series_uid: str, *, actor: str) -> None:
    """Record that a series came in.

    Raises
    ------
    ReviewError
        If it is already known.
    LedgerError
        If the ledger was altered.
    """
    _move(ledger, series_uid, State.RECEIVED, actor=actor, content="", reason="", more={})


def record_inference(ledger: Ledger, draft: DraftResult, *, actor: str, reason: str = "") -> None:
    """Record that a model made this draft; a second time it needs a reason.

    Raises
    ------
    ReviewError
        If the study was approved or released, or the reason is missing.
    LedgerError
        If the ledger was altered.
    """
    more = {"model": draft.result.provenance.model, "structures": [s.name for s in draft.structures]}
    _move(ledger, draft.source.series_uid, State.INFERRED, actor=actor, content=_of(draft), reason=reason, more=more)


def request_review(ledger: Ledger, draft: DraftResult, *, actor: str, findings: Sequence[str] = ()) -> None:
    """Record that a person has to look, with what automatic checks found.

    Raises
    ------
    ReviewError
        If the draft is not the one that was inferred.
    LedgerError
        If the ledger was altered.
    """
    more = {"findings": list(findings)}
    _move(ledger, draft.source.series_uid, State.NEEDS_REVIEW, actor=actor, content=_of(draft), reason="", more=more)


def record_edit(ledger: Ledger, draft: DraftResult, *, editor: str, reason: str = "") -> None:
    """Record that a person changed the mask; an approval of the mask before no longer holds.

    Raises
    ------
    ReviewError
        If the state does not allow it, or a reason is missing where one is due (after approval or rejection).
    LedgerError
        If the ledger was altered.
    """
    _move(ledger, draft.source.series_uid, State.EDITED, actor=editor, content=_of(draft), reason=reason, more={})


def amend(ledger: Ledger, draft: DraftResult, *, editor: str, reason: str) -> None:
    """Record a new version of what was released; it has to be approved again.

    Raises
    ------
    ReviewError
        If nothing was released, or the reason is missing.
    LedgerError
        If the ledger was altered.
    """
    _move(ledger, draft.source.series_uid, State.AMENDED, actor=editor, content=_of(draft), reason=reason, more={})


def reject(ledger: Ledger, draft: DraftResult, reviewer: Reviewer, *, reason: str) -> None:
    """Refuse a draft, or withdraw an approval that was not released.

    Raises
    ------
    ReviewError
        If the state does not allow it, or the reason is missing.
    LedgerError
        If the ledger was altered.
    """
    _move(
        ledger,
        draft.source.series_uid,
        State.REJECTED,
        actor=reviewer.actor,
        content=_of(draft),
        reason=reason,
        more={},
    )


def recall(ledger: Ledger, series_uid: str, reviewer: Reviewer, *, reason: str) -> None:
    """Take back what was released.

    Raises
    ------
    ReviewError
        If nothing was released, or the reason is missing.
    LedgerError
        If the ledger was altered.
    """
    content = state_of(ledger, series_uid).content_sha256
    _move(ledger, series_uid, State.RECALLED, actor=reviewer.actor, content=content, reason=reason, more={})


def judge_structure(
    ledger: Ledger, draft: DraftResult, structure: str, reviewer: Reviewer, *, accepted: bool, reason: str = ""
) -> None:
    """Accept or reject one structure of the draft that is under review.

    Raises
    ------
    ReviewError
        If there is no such structure, the draft is not under review, or a rejection has no reason.
    LedgerError
        If the ledger was altered.
    """
    if structure not in {s.name for s in draft.structures}:
        raise ReviewError(f"The draft has no structure '{structure}'; it has {[s.name for s in draft.structures]}.")
    if not accepted and not reason.strip():
        raise ReviewError(f"Rejecting '{structure}' needs a reason.")
    with ledger.exclusive() as writer:
        now = _replayed(writer.entries, draft.source.series_uid)
        if now.state not in (State.NEEDS_REVIEW, State.EDITED, State.AMENDED) or now.content_sha256 != _of(draft):
            raise ReviewError(f"Structures are judged while their draft is under review; the study is {now.state}.")
        payload = {
            "series": draft.source.series_uid,
            "structure": structure,
            "accepted": accepted,
            "content_sha256": _of(draft),
            "reason": reason,
        }
        writer.append(STRUCTURE_KIND, payload, actor=reviewer.actor)


def approve(
    draft: DraftResult,
    reviewer: Reviewer,
    ledger: Ledger,
    *,
    meaning: str = MEANING,
    policy: ReviewPolicy | None = None,
) -> ApprovedResult:
    """Let a person take responsibility for exactly this draft; the only maker of :class:`ApprovedResult`.

    The mask is copied and frozen, so that what is exported later is what was approved now.

    Raises
    ------
    ReviewError
        If the draft is not the one under review, the policy forbids it, or the reviewer has no name.
    LedgerError
        If the ledger was altered.
    """
    if not reviewer.name.strip() or not meaning.strip():
        raise ReviewError("An approval needs the reviewer's name and the meaning of the signature.")
    frozen = _frozen(draft)
    content = _of(frozen)
    series, policy = draft.source.series_uid, policy or ReviewPolicy()
    with ledger.exclusive() as writer:
        now = _replayed(writer.entries, series)
        _require_policy(now, draft, reviewer, policy)
        more = {"reviewer": reviewer.name, "reviewer_id": reviewer.actor, "meaning": meaning}
        payload = _payload(now, series, State.APPROVED, content=content, reason="", more=more)
        entry = writer.append(KIND, payload, actor=reviewer.actor)
    return ApprovedResult(draft=frozen, approval=_approval(entry), _key=_MADE_BY_REVIEW)


def approval_on_record(ledger: Ledger, draft: DraftResult) -> ApprovedResult:
    """Return a draft as approved, because the ledger says that a person approved exactly this content.

    Raises
    ------
    ReviewError
        If the draft is not approved or released, or is not the content that was approved.
    LedgerError
        If the ledger was altered.
    """
    frozen = _frozen(draft)
    now = state_of(ledger, draft.source.series_uid)
    if now.approval is None or now.state not in (State.APPROVED, State.RELEASED):
        raise ReviewError(f"The study is {now.state}, not approved; have it reviewed first.")
    if now.content_sha256 != _of(frozen):
        raise ReviewError("The ledger's approval is of another mask, geometry or source; have this one reviewed.")
    return ApprovedResult(draft=frozen, approval=now.approval, _key=_MADE_BY_REVIEW)


def record_release(ledger: Ledger, approved: ApprovedResult, files: Mapping[str, str], *, actor: str) -> Entry:
    """Record that files of an approved result left, with their SHA-256 by name.

    Raises
    ------
    ReviewError
        If the content changed after the approval, or the ledger does not know the approval.
    LedgerError
        If the ledger was altered.
    """
    with ledger.exclusive() as writer:
        now = require_releasable(approved, _replayed(writer.entries, approved.draft.source.series_uid))
        payload = _payload(
            now,
            approved.draft.source.series_uid,
            State.RELEASED,
            content=approved.approval.content_sha256,
            reason="",
            more={"files": dict(files), "approval": approved.approval.ledger_sequence},
        )
        return writer.append(KIND, payload, actor=actor)


def require_releasable(approved: ApprovedResult, now: ReviewState) -> ReviewState:
    """Return the state if it allows that the approved result leaves.

    Raises
    ------
    ReviewError
        If the mask changed after its approval, or the approval is not the ledger's last word.
    """
    approved.require_unchanged()
    if now.state not in (State.APPROVED, State.RELEASED):
        raise ReviewError(f"The study is {now.state}; only an approved study can be released.")
    if now.approval != approved.approval:
        raise ReviewError("This approval is not the one that the ledger holds; use the ledger of the review.")
    return now


def _require_policy(now: ReviewState, draft: DraftResult, reviewer: Reviewer, policy: ReviewPolicy) -> None:
    if now.content_sha256 not in ("", _of(draft)):
        raise ReviewError("This is not the mask under review: the ledger's last version has another content hash.")
    refused = sorted(name for name, verdict in now.structures.items() if verdict is State.REJECTED)
    if refused:
        raise ReviewError(f"Structures stand rejected: {refused}. Edit them, or leave them out, before approving.")
    if policy.four_eyes and reviewer.actor in now.editors:
        raise ReviewError("The policy asks for four eyes: who edited this mask may not approve it.")
    if policy.every_structure:
        open_ones = [s.name for s in draft.structures if now.structures.get(s.name) is not State.APPROVED]
        if open_ones:
            raise ReviewError(f"The policy asks for a judgement of every structure; open are {open_ones}.")


def _move(
    ledger: Ledger, series: str, target: State, *, actor: str, content: str, reason: str, more: Mapping[str, Any]
) -> Entry:
    with ledger.exclusive() as writer:
        now = _replayed(writer.entries, series)
        return writer.append(
            KIND, _payload(now, series, target, content=content, reason=reason, more=more), actor=actor
        )


def _payload(
    now: ReviewState, series: str, target: State, *, content: str, reason: str, more: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the row of a move that the table allows."""
    rule = next((rule for rule in TRANSITIONS[now.state] if rule.target is target), None)
    if rule is None:
        allowed = ", ".join(rule.target for rule in TRANSITIONS[now.state])
        raise ReviewError(f"The study is {now.state} and cannot become {target}; it can become: {allowed}.")
    if rule.needs_reason and not reason.strip():
        raise ReviewError(f"From {now.state} to {target} needs a reason; give one.")
    same = (State.NEEDS_REVIEW, State.APPROVED, State.RELEASED)
    if target in same and now.content_sha256 not in ("", content):
        raise ReviewError("This is not the mask that the ledger knows: its content hash is another.")
    return {
        "series": series,
        "from": str(now.state),
        "to": str(target),
        "content_sha256": content if rule.binds_content else "",
        "reason": reason,
        **more,
    }


def _replayed(entries: Iterable[Entry], series: str) -> ReviewState:
    now = ReviewState(
        state=State.NEW, content_sha256="", editors=frozenset(), structures={}, approval=None, released=()
    )
    for entry in entries:
        if entry.payload.get("series") != series:
            continue
        if entry.kind == KIND:
            now = _after(now, entry)
        elif entry.kind == STRUCTURE_KIND and entry.payload["content_sha256"] == now.content_sha256:
            verdict = State.APPROVED if entry.payload["accepted"] else State.REJECTED
            now = replace(now, structures={**now.structures, str(entry.payload["structure"]): verdict})
    return now


def _after(now: ReviewState, entry: Entry) -> ReviewState:
    """Return the state after a row that moves the study."""
    payload, target = entry.payload, State(entry.payload["to"])
    content = str(payload.get("content_sha256", "")) or now.content_sha256
    changed = content != now.content_sha256
    editors = now.editors
    if target is State.INFERRED:
        editors = frozenset()
    elif target in (State.EDITED, State.AMENDED):
        editors = editors | {entry.actor}
    approval = _approval(entry) if target is State.APPROVED else now.approval
    if target not in (State.APPROVED, State.RELEASED):
        approval = None
    released = now.released if target is State.RELEASED else ()
    if target is State.RELEASED:
        released = (*released, {str(k): str(v) for k, v in payload["files"].items()})
    return ReviewState(
        state=target,
        content_sha256=content,
        editors=editors,
        structures={} if changed else now.structures,
        approval=approval,
        released=released,
    )


def _approval(entry: Entry) -> Approval:
    return Approval(
        reviewer_name=str(entry.payload["reviewer"]),
        reviewer_id=str(entry.payload["reviewer_id"]),
        time_utc=datetime.fromisoformat(entry.time),
        meaning=str(entry.payload["meaning"]),
        content_sha256=str(entry.payload["content_sha256"]),
        ledger_sequence=entry.sequence,
        ledger_sha256=entry.hash,
    )


def _of(draft: DraftResult) -> str:
    return draft.content_sha256


def _frozen(draft: DraftResult) -> DraftResult:
    """Return the draft with a mask of its own that cannot be written."""
    labels = draft.result.labels
    array = labels.array.copy()
    array.setflags(write=False)
    result = replace(draft.result, labels=LabelMap(array=array, grid=labels.grid, scheme=labels.scheme))
    return replace(draft, result=result)
