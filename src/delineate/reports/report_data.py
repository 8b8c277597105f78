"""What a report is made of: words, numbers and finished pictures. No arrays, no files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from delineate.metrics.scores import CaseScores
from delineate.reports.agreement import SizeUnit
from delineate.reports.curves import History
from delineate.reports.overlays import Overlay

Evaluation = Literal["cross_validation", "validation", "test", "training"]
"""What the scored cases were to the model: each left out of its own fold's training; left out of the training; a set of
their own; or seen in training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One line of a table of facts."""

    label: str
    value: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Fold:
    """One fold of a cross-validation: which cases it left out of training and predicted."""

    name: str
    case_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedCase:
    """A case without scores, and why, in words for the reader."""

    case_id: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportData:
    """Everything that one report says; what is empty is left out of the page.

    Patients are counted and never named: their identifiers only tell which cases belong together.
    """

    title: str
    lead: str = ""
    """One sentence below the title: what was trained on what."""
    created: str = ""
    """Date and time as they should appear; passed in, so that equal data give an equal page."""
    evaluation: Evaluation = "validation"
    scores: tuple[CaseScores, ...] = ()
    """One entry per scored case."""
    size_unit: SizeUnit = "ml"
    """See :func:`delineate.reports.agreement.size_unit`."""
    dataset: tuple[Fact, ...] = ()
    """Cases, patients, channels, spacing, sizes."""
    plan: tuple[str, ...] = ()
    """The plan in words, one sentence each."""
    plan_table: tuple[Fact, ...] = ()
    reasons: tuple[str, ...] = ()
    """Why the recipe is what it is (:attr:`delineate.planning.recipe.Recipe.reasons`)."""
    run: tuple[Fact, ...] = ()
    """Budget, time used, machine."""
    folds: tuple[Fold, ...] = ()
    histories: tuple[History, ...] = ()
    """One per training run."""
    overlays: tuple[Overlay, ...] = ()
    """In the order of the page."""
    training_examples: tuple[tuple[str, int], ...] = ()
    """Structure and number of training cases that have it."""
    failed: tuple[FailedCase, ...] = ()
    warnings: tuple[str, ...] = ()
    """Further warnings; the report finds those that follow from the numbers itself."""
    caveats: tuple[str, ...] = ()
    """Further statements on what the numbers mean."""
    provenance: tuple[Fact, ...] = ()
    """Versions, command, seed."""
    seed: int = 0
    """Of the bootstrap intervals."""
