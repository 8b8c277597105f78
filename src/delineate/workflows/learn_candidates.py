"""Learns from pictures that a network was trained on which candidates (``masks.instance_candidates``) are instances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from delineate.execution import Cancellation, Progress
from delineate.masks.candidate_scorer import CandidateScorer
from delineate.masks.instance_decoding import candidates_of
from delineate.metrics.candidate_quality import candidate_quality
from delineate.metrics.decoding_choice import CANDIDATES, LEAST_WORTH, MATCH
from delineate.networks.instance_unet import MAPS
from delineate.training.instances.candidate_learning import learn_scorer
from delineate.workflows.answer_pictures import Answers

PIXELS = 1 << 25
"""Per data set that are learnt from."""
SHARE = 0.05
"""Of the time for training that looking at pictures may take."""
LEAST_TRUE, LEAST_CANDIDATES = 100, 500
"""Fewer teach nothing that holds elsewhere."""


def learn_candidates(answers: Answers, progress: Progress, cancellation: Cancellation) -> CandidateScorer | None:
    """Return a scorer; None if there are too few candidates to learn from.

    The network knows these pictures, so it is surer of its candidates than of others, and what is right there seems to
    be worth more than elsewhere: what a candidate must be worth is chosen on held-out pictures.

    Raises
    ------
    Interrupted
        If a stop was requested.
    """
    budget = answers.run.recipe.budget_seconds
    seconds = float("inf") if budget is None else SHARE * budget
    features: dict[str, list[np.ndarray]] = {}
    quality: dict[str, list[np.ndarray]] = {}
    for one in answers.trained_on(PIXELS, seconds, progress, cancellation):
        candidates = candidates_of(one.maps[:MAPS].astype(np.float32) / 255, CANDIDATES)
        features.setdefault(one.group, []).append(candidates.features)
        quality.setdefault(one.group, []).append(candidate_quality(candidates, one.instances))
    known = [np.concatenate(of_group) for of_group in quality.values()]
    if sum(map(len, known)) < LEAST_CANDIDATES or sum(int((q > MATCH).sum()) for q in known) < LEAST_TRUE:
        return None
    return learn_scorer(
        np.concatenate([np.concatenate(of_group) for of_group in features.values()]),
        np.concatenate(known),
        _evened(known),
        least=LEAST_WORTH[0],
    )


def _evened(groups: Sequence[np.ndarray]) -> np.ndarray:
    """Return weights by which a group counts as the root of what it has, so that large ones do not drown others."""
    return np.concatenate([np.full(len(group), 1 / max(len(group), 1) ** 0.5) for group in groups])
