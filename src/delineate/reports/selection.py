"""Which cases a report shows: the best, the median and the worst, by rule and not by taste."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from delineate.metrics.scores import CaseScores

Role = Literal["best", "median", "worst", "only"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A case that is to be shown, and as what."""

    role: Role
    case_id: str


def choose_cases(scores: Sequence[CaseScores]) -> tuple[Choice, ...]:
    """Return the cases of lowest, median and highest mean Dice, worst first.

    Cases without any structure in prediction and reference are not chosen. Of an even number the lower of the two
    middle cases is the median; of two cases the worst and the best are returned, of one the only one. Equal Dice is
    ordered by case id, so that the same scores give the same choice.
    """
    ranked = [s.case_id for s in sorted(scores, key=lambda s: (s.mean_dice, s.case_id)) if not math.isnan(s.mean_dice)]
    if len(ranked) < 2:
        return tuple(Choice(role="only", case_id=case_id) for case_id in ranked)
    worst, best = Choice(role="worst", case_id=ranked[0]), Choice(role="best", case_id=ranked[-1])
    if len(ranked) == 2:
        return worst, best
    return worst, Choice(role="median", case_id=ranked[(len(ranked) - 1) // 2]), best
