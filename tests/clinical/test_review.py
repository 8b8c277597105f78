"""The gate: nothing becomes approved but by a review, and nothing is released but what was approved."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drafts import draft_of, structure
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.case import LabelMap
from delineate.clinical import review
from delineate.clinical.ledger import Ledger
from delineate.clinical.release import release, sha256_of
from delineate.clinical.results import Approval, ApprovedResult, DraftResult
from delineate.clinical.review import Reviewer, ReviewPolicy, State
from delineate.errors import LedgerError, ReviewError

ROE, POE = Reviewer(name="Roe^Richard", identity="rroe"), Reviewer(name="Poe^Paula", identity="ppoe")
REASON = "leaks into the stomach"


def versions(count: int = 2) -> list[DraftResult]:
    """Different masks of the same series."""
    first = draft_of(np.ones((2, 4, 4), dtype=np.uint8), structures=(structure("liver", 1),))
    found = [first]
    for number in range(1, count):
        array = first.result.labels.array.copy()
        array.flat[:number] = 0
        result = dataclasses.replace(first.result, labels=LabelMap(array=array, grid=first.source.grid))
        found.append(dataclasses.replace(first, result=result))
    return found


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(path=tmp_path / "ledger.jsonl")


@pytest.fixture
def draft() -> DraftResult:
    return versions(1)[0]


def reviewable(ledger: Ledger, draft: DraftResult) -> None:
    review.record_inference(ledger, draft, actor="delineate")
    review.request_review(ledger, draft, actor="delineate")


def write_mask(path: Path, approved: ApprovedResult) -> None:
    path.write_bytes(approved.draft.result.labels.array.tobytes())


def test_the_whole_way(ledger: Ledger, draft: DraftResult, tmp_path: Path) -> None:
    series = draft.source.series_uid
    review.receive(ledger, series, actor="node")
    reviewable(ledger, draft)
    approved = review.approve(draft, ROE, ledger)
    done = release(approved, ledger, tmp_path / "out", {"a.bin": write_mask}, actor="rroe")
    assert done.files == {"a.bin": sha256_of(tmp_path / "out" / "a.bin")}
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.bin"]
    states = [entry.payload["to"] for entry in ledger.entries()]
    assert states == ["received", "inferred", "needs review", "approved", "released"]
    now = review.state_of(ledger, series)
    assert (now.state, now.released) == (State.RELEASED, (done.files,))
    assert approved.approval.ledger_sha256 == ledger.entries()[3].hash
    review.recall(ledger, series, ROE, reason="wrong patient")
    with pytest.raises(ReviewError, match="recalled"):
        release(approved, ledger, tmp_path / "out", {"b.bin": write_mask}, actor="rroe")


def test_nothing_else_makes_an_approved_result(draft: DraftResult, ledger: Ledger) -> None:
    reviewable(ledger, draft)
    approved = review.approve(draft, ROE, ledger)
    with pytest.raises(ReviewError, match="by a review only"):
        ApprovedResult(draft=draft, approval=approved.approval, _key=object())
    for change in ({}, {"draft": draft}, {"approval": dataclasses.replace(approved.approval, reviewer_name="X")}):
        with pytest.raises(ValueError, match="_key"):
            dataclasses.replace(approved, **change)
    with pytest.raises(dataclasses.FrozenInstanceError):
        approved.draft = draft  # type: ignore[misc]


@settings(max_examples=40, deadline=None)
@given(key=st.one_of(st.none(), st.text(), st.integers(), st.binary(), st.builds(object), st.just(ApprovedResult)))
def test_no_value_is_the_key(key: Any) -> None:
    draft = versions(1)[0]
    approval = Approval(
        reviewer_name="R",
        reviewer_id="r",
        time_utc=datetime.now(UTC),
        meaning="approved",
        content_sha256=draft.content_sha256,
        ledger_sequence=1,
        ledger_sha256="0" * 64,
    )
    with pytest.raises(ReviewError):
        ApprovedResult(draft=draft, approval=approval, _key=key)


def test_the_approved_mask_is_a_copy_that_cannot_be_written(ledger: Ledger, draft: DraftResult) -> None:
    reviewable(ledger, draft)
    approved = review.approve(draft, ROE, ledger)
    draft.result.labels.array[0, 0, 0] = 0
    assert approved.draft.result.labels.array[0, 0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        approved.draft.result.labels.array[0, 0, 0] = 0
    approved.require_unchanged()


def test_a_mask_changed_after_approval_is_refused(ledger: Ledger, draft: DraftResult, tmp_path: Path) -> None:
    reviewable(ledger, draft)
    approved = review.approve(draft, ROE, ledger)
    approved.draft.result.labels.array.setflags(write=True)
    approved.draft.result.labels.array[0, 0, 0] = 0
    with pytest.raises(ReviewError, match="changed after the approval"):
        release(approved, ledger, tmp_path / "out", {"a": write_mask}, actor="rroe")
    assert not (tmp_path / "out").exists()


def test_an_approval_of_another_ledger_does_not_release(ledger: Ledger, draft: DraftResult, tmp_path: Path) -> None:
    other = Ledger(path=tmp_path / "other.jsonl")
    for one in (ledger, other):
        reviewable(one, draft)
    approved = review.approve(draft, ROE, other)
    review.approve(draft, POE, ledger)
    with pytest.raises(ReviewError, match="not the one that the ledger holds"):
        release(approved, ledger, tmp_path / "out", {"a": write_mask}, actor="rroe")


def test_a_failed_writer_releases_nothing(ledger: Ledger, draft: DraftResult, tmp_path: Path) -> None:
    def fail(path: Path, approved: ApprovedResult) -> None:
        raise OSError("disk full")

    reviewable(ledger, draft)
    approved = review.approve(draft, ROE, ledger)
    with pytest.raises(OSError, match="disk full"):
        release(approved, ledger, tmp_path / "out", {"a": write_mask, "b": fail}, actor="rroe")
    assert list((tmp_path / "out").iterdir()) == []
    assert review.state_of(ledger, draft.source.series_uid).state is State.APPROVED


def test_an_altered_ledger_releases_nothing(ledger: Ledger, draft: DraftResult, tmp_path: Path) -> None:
    reviewable(ledger, draft)
    approved = review.approve(draft, ROE, ledger)
    ledger.path.write_text(ledger.path.read_text().replace("Roe^Richard", "Doe^Richard"))
    with pytest.raises(LedgerError, match="row 3"):
        release(approved, ledger, tmp_path / "out", {"a": write_mask}, actor="rroe")


def test_four_eyes(ledger: Ledger) -> None:
    first, edited = versions(2)
    reviewable(ledger, first)
    review.record_edit(ledger, edited, editor="rroe")
    policy = ReviewPolicy(four_eyes=True)
    with pytest.raises(ReviewError, match="four eyes"):
        review.approve(edited, ROE, ledger, policy=policy)
    with pytest.raises(ReviewError, match="not the mask under review"):
        review.approve(first, POE, ledger, policy=policy)
    assert review.approve(edited, POE, ledger, policy=policy).approval.reviewer_id == "ppoe"


def test_structures_are_judged_one_by_one(ledger: Ledger) -> None:
    array = np.ones((2, 4, 4), dtype=np.uint8)
    array[0] = 2
    draft = draft_of(array, structures=(structure("liver", 1), structure("spleen", 2)))
    reviewable(ledger, draft)
    with pytest.raises(ReviewError, match="needs a reason"):
        review.judge_structure(ledger, draft, "spleen", ROE, accepted=False)
    with pytest.raises(ReviewError, match="no structure 'kidney'"):
        review.judge_structure(ledger, draft, "kidney", ROE, accepted=True)
    review.judge_structure(ledger, draft, "spleen", ROE, accepted=False, reason=REASON)
    with pytest.raises(ReviewError, match=r"stand rejected.*spleen"):
        review.approve(draft, ROE, ledger)
    review.judge_structure(ledger, draft, "spleen", ROE, accepted=True)
    policy = ReviewPolicy(every_structure=True)
    with pytest.raises(ReviewError, match=r"open are.*liver"):
        review.approve(draft, ROE, ledger, policy=policy)
    review.judge_structure(ledger, draft, "liver", ROE, accepted=True)
    review.approve(draft, ROE, ledger, policy=policy)


def test_a_new_version_is_judged_anew(ledger: Ledger) -> None:
    first, edited = versions(2)
    reviewable(ledger, first)
    review.judge_structure(ledger, first, "liver", ROE, accepted=False, reason=REASON)
    review.record_edit(ledger, edited, editor="rroe")
    assert review.state_of(ledger, first.source.series_uid).structures == {}
    review.approve(edited, ROE, ledger)


def test_reasons_are_asked_for_where_the_table_says_so(ledger: Ledger) -> None:
    first, other = versions(2)
    reviewable(ledger, first)
    with pytest.raises(ReviewError, match="needs a reason"):
        review.reject(ledger, first, ROE, reason=" ")
    review.reject(ledger, first, ROE, reason=REASON)
    with pytest.raises(ReviewError, match="needs a reason"):
        review.record_edit(ledger, other, editor="rroe")
    assert ledger.entries()[-1].payload["reason"] == REASON


def test_amendments_need_an_approval_of_their_own(ledger: Ledger, tmp_path: Path) -> None:
    first, other = versions(2)
    reviewable(ledger, first)
    approved = review.approve(first, ROE, ledger)
    release(approved, ledger, tmp_path, {"a": write_mask}, actor="rroe")
    review.amend(ledger, other, editor="rroe", reason="late scan")
    with pytest.raises(ReviewError, match="amended"):
        release(approved, ledger, tmp_path, {"a": write_mask}, actor="rroe")
    again = review.approve(other, ROE, ledger)
    release(again, ledger, tmp_path, {"b": write_mask}, actor="rroe")
    assert review.approval_on_record(ledger, other).approval == again.approval
    with pytest.raises(ReviewError, match="another mask"):
        review.approval_on_record(ledger, first)


def test_every_state_can_be_reached_and_every_target_is_a_state() -> None:
    reached, frontier = {State.NEW}, [State.NEW]
    while frontier:
        for rule in review.TRANSITIONS[frontier.pop()]:
            if rule.target not in reached:
                reached.add(rule.target)
                frontier.append(rule.target)
    assert reached == set(State) == set(review.TRANSITIONS)
    assert [s for s, rules in review.TRANSITIONS.items() if State.RELEASED in {r.target for r in rules}] == [
        State.APPROVED,
        State.RELEASED,
    ]


MOVES: dict[str, Callable[[Ledger, DraftResult], object]] = {
    "infer": lambda ledger, draft: review.record_inference(ledger, draft, actor="model", reason="again"),
    "ask": lambda ledger, draft: review.request_review(ledger, draft, actor="model"),
    "edit": lambda ledger, draft: review.record_edit(ledger, draft, editor="x", reason=REASON),
    "amend": lambda ledger, draft: review.amend(ledger, draft, editor="x", reason=REASON),
    "reject": lambda ledger, draft: review.reject(ledger, draft, ROE, reason=REASON),
    "recall": lambda ledger, draft: review.recall(ledger, draft.source.series_uid, ROE, reason=REASON),
}


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from([*MOVES, "approve", "release"]), st.integers(0, 1)), max_size=14))
def test_nothing_is_released_before_its_approval(
    steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any order of moves: what left is exactly what a person approved last, and nothing happened to it since."""
    folder = tmp_path_factory.mktemp("review")
    ledger, drafts = Ledger(path=folder / "ledger.jsonl"), versions(2)
    approvals: dict[int, ApprovedResult] = {}
    standing: int | None = None  # what is approved, by this test's own book-keeping
    left = 0
    for what, number in [("infer", 0), ("ask", 0), *steps]:
        if what == "release":
            if number in approvals:
                released = succeeds(release, approvals[number], ledger, folder, {"mask": write_mask}, actor="x")
                assert released == (standing == number)
                left += released
        elif what == "approve":
            with contextlib.suppress(ReviewError):
                approvals[number] = review.approve(drafts[number], ROE, ledger)
                standing = number
        elif succeeds(MOVES[what], ledger, drafts[number]):
            standing = None
    assert left == [entry.payload["to"] for entry in ledger.entries()].count("released")
    assert (left > 0) == (folder / "mask").exists()


def succeeds(move: Callable[..., object], *arguments: object, **named: object) -> bool:
    try:
        move(*arguments, **named)
    except ReviewError:
        return False
    return True
