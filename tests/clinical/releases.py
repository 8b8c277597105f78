"""Approved results and files of them, for tests."""

from __future__ import annotations

from pathlib import Path

from delineate.clinical import review
from delineate.clinical.ledger import Ledger
from delineate.clinical.results import ApprovedResult, DraftResult

REVIEWER = review.Reviewer(name="Roe^Richard", identity="rroe")


def approve_at_once(draft: DraftResult, folder: Path) -> ApprovedResult:
    """Have a draft reviewed without further ado, in a ledger of its own."""
    ledger = Ledger(path=folder / "review.jsonl")
    review.record_inference(ledger, draft, actor="delineate")
    review.request_review(ledger, draft, actor="delineate")
    return review.approve(draft, REVIEWER, ledger)
