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
from dataclasses import dataclass, replace

import numpy as np

from delineate.masks.postprocessing import PostprocessingStep
from delineate.metrics.scores import CaseScores
from delineate.metrics.statistics import mean_or_nan

Steps = tuple[PostprocessingStep, ...]
Rescore = Callable[[Sequence[Steps]], Sequence[Sequence[CaseScores]]]
"""Returns, for each of several lists of steps, the scores of all cross-validation cases after these steps. Several at
once, so that label maps are read once for all of them; no steps: the predictions as they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PostprocessingChoice:
    """What was chosen, and what it is worth."""

    steps: Steps
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
        See :data:`Rescore`.
    structures
        Name and label values of each structure, in the order of the scores.
    """
    everything = PostprocessingStep(values=tuple(sorted({v for _, values in structures for v in values if v > 0})))
    before, tried = (tuple(scores) for scores in rescore([(), (everything,)]))
    taken = foreground_dice(tried) > foreground_dice(before) and not _any_worse(before, tried)
    reason = _reason("all foreground", foreground_dice(before), foreground_dice(tried), taken=taken)
    choice = PostprocessingChoice(
        steps=(everything,) if taken else (), before=before, after=tried if taken else before, reasons=(reason,)
    )
    if len(structures) == 1:
        return choice
    disjoint = sum(len(values) for _, values in structures) == len(everything.values)
    return (_all_at_once if disjoint else _one_by_one)(choice, rescore, structures)


def _one_by_one(
    choice: PostprocessingChoice, rescore: Rescore, structures: Sequence[tuple[str, tuple[int, ...]]]
) -> PostprocessingChoice:
    """Try the structures in turn, each on top of what was taken before; for regions, which share voxels."""
    for index, (name, values) in enumerate(structures):
        steps = (*choice.steps, _step(values))
        (tried,) = rescore([steps])
        old, new = structure_dice(choice.after)[index], structure_dice(tried)[index]
        choice = replace(
            choice,
            steps=steps if new > old else choice.steps,
            after=tuple(tried) if new > old else choice.after,
            reasons=(*choice.reasons, _reason(name, old, new, taken=new > old)),
        )
    return choice


def _all_at_once(
    choice: PostprocessingChoice, rescore: Rescore, structures: Sequence[tuple[str, tuple[int, ...]]]
) -> PostprocessingChoice:
    """Try all structures side by side: labels share no voxels, so a step for one changes the scores of no other."""
    trials = rescore([(*choice.steps, _step(values)) for _, values in structures])
    old = structure_dice(choice.after)
    new = tuple(structure_dice(trial)[index] for index, trial in enumerate(trials))
    better = tuple(index for index in range(len(structures)) if new[index] > old[index])
    sources = [trials[index] if index in better else choice.after for index in range(len(structures))]
    return replace(
        choice,
        steps=(*choice.steps, *(_step(structures[index][1]) for index in better)),
        after=tuple(
            replace(case, per_structure=tuple(source[n].per_structure[i] for i, source in enumerate(sources)))
            for n, case in enumerate(choice.after)
        ),
        reasons=(
            *choice.reasons,
            *(
                _reason(name, old[index], new[index], taken=index in better)
                for index, (name, _) in enumerate(structures)
            ),
        ),
    )


def _step(values: tuple[int, ...]) -> PostprocessingStep:
    return PostprocessingStep(values=tuple(value for value in values if value > 0))


def _any_worse(before: Sequence[CaseScores], after: Sequence[CaseScores]) -> bool:
    return any(new < old for old, new in zip(structure_dice(before), structure_dice(after), strict=True))


def _reason(name: str, old: float, new: float, *, taken: bool) -> str:
    verdict = "taken" if taken else "left out"
    return f"Largest component of {name}: Dice {old:.5f} before, {new:.5f} after; {verdict}."
