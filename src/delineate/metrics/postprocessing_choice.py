"""Which post-processing a model gets: only what makes the scores of cross-validation better (nnU-Net's rule).

First, the largest component of all foreground together: taken if the foreground mean of the Dice rises and no structure
gets worse. Then, with more than one structure, the largest component of each structure in turn, on top of what was
taken before: taken if that structure's own Dice rises.

Scores come from a function, so the module knows neither label maps nor files.

References
----------
nnU-Net 2.8.1, ``postprocessing/remove_connected_components.py``, ``determine_postprocessing``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from delineate.masks.postprocessing import PostprocessingStep
from delineate.metrics.scores import CaseScores
from delineate.metrics.statistics import mean_or_nan

Rescore = Callable[[tuple[PostprocessingStep, ...]], Sequence[CaseScores]]
"""Returns the scores of all cross-validation cases after some steps; no steps: of the predictions as they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PostprocessingChoice:
    """What was chosen, and what it is worth."""

    steps: tuple[PostprocessingStep, ...]
    before: tuple[CaseScores, ...]
    after: tuple[CaseScores, ...]
    reasons: tuple[str, ...]
    """One sentence per step that was tried."""


def structure_dice(scores: Sequence[CaseScores]) -> tuple[float, ...]:
    """Return per structure the mean Dice over the cases where it is defined; NaN if there is none."""
    structures = len(scores[0].per_structure) if scores else 0
    return tuple(mean_or_nan([case.per_structure[i].dice for case in scores]) for i in range(structures))


def foreground_dice(scores: Sequence[CaseScores]) -> float:
    """Return nnU-Net's foreground mean of the Dice; NaN if a structure has none."""
    return float(np.mean(structure_dice(scores)))


def choose_postprocessing(rescore: Rescore, structures: Sequence[tuple[str, tuple[int, ...]]]) -> PostprocessingChoice:
    """Return the steps that improve the scores.

    Parameters
    ----------
    rescore
        See :data:`Rescore`; called once per step that is tried, and once without.
    structures
        Name and label values of each structure, in the order of the scores.
    """
    before = tuple(rescore(()))
    everything = PostprocessingStep(values=tuple(sorted({v for _, values in structures for v in values if v > 0})))
    tried = tuple(rescore((everything,)))
    taken = foreground_dice(tried) > foreground_dice(before) and not _any_worse(before, tried)
    steps, now = ((everything,), tried) if taken else ((), before)
    reasons = [_reason("all foreground", foreground_dice(before), foreground_dice(tried), taken=taken)]
    for index, (name, values) in enumerate(structures if len(structures) > 1 else ()):
        candidate = (*steps, PostprocessingStep(values=tuple(v for v in values if v > 0)))
        tried = tuple(rescore(candidate))
        old, new = structure_dice(now)[index], structure_dice(tried)[index]
        reasons.append(_reason(name, old, new, taken=new > old))
        if new > old:
            steps, now = candidate, tried
    return PostprocessingChoice(steps=steps, before=before, after=now, reasons=tuple(reasons))


def _any_worse(before: Sequence[CaseScores], after: Sequence[CaseScores]) -> bool:
    return any(new < old for old, new in zip(structure_dice(before), structure_dice(after), strict=True))


def _reason(name: str, old: float, new: float, *, taken: bool) -> str:
    verdict = "taken" if taken else "left out"
    return f"Largest component of {name}: Dice {old:.5f} before, {new:.5f} after; {verdict}."
