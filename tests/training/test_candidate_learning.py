"""What objects look like is learnt from candidates whose overlap is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.masks.candidate_scorer import CandidateScorer
from delineate.masks.instance_decoding import candidates_of, decode_scored
from delineate.metrics.candidate_quality import candidate_quality
from delineate.metrics.decoding_choice import (
    CANDIDATES,
    START,
    DecodingChoice,
    HeldOutMaps,
    choose_decoding,
    choose_worth,
)
from delineate.training.instances.candidate_learning import learn_scorer


def rods_and_pairs(seed: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Rods that are one instance and pairs of discs that are two, both with two summits of equal depth; and dust.

    Only their shapes tell them apart.
    """
    generator = np.random.default_rng(seed)
    instances, height = np.zeros((256, 256), dtype=np.int32), np.zeros((256, 256), dtype=np.float32)
    y, x = np.mgrid[:32, :32]
    dust = np.zeros_like(instances, dtype=bool)
    for top in range(0, 256, 32):
        for left in range(0, 256, 32):
            here = (slice(top, top + 32), slice(left, left + 32))
            kind = generator.integers(3)
            two = np.hypot(y - 16, x - 10) <= 6, np.hypot(y - 16, x - 22) <= 6
            count = int(instances.max())
            if kind == 0:
                instances[here][(abs(y - 16) <= 5) & (abs(x - 16) <= 11)] = count + 1
            elif kind == 1:
                instances[here][two[0]], instances[here][two[1]] = count + 1, count + 2
            else:
                dust[here] |= np.hypot(y - 16, x - 16) <= 2.5
            for centre in (10, 22):
                bump = np.exp(-((y - 16) ** 2 + (x - centre) ** 2) / 40).astype(np.float32)
                height[here] = np.maximum(height[here], bump * (kind < 2))
    foreground = ((instances > 0) | dust).astype(np.float32)
    interior = np.where(dust, 0.6, 0.3 + 0.6 * height).astype(np.float32) * foreground
    distance = ndimage.gaussian_filter(interior, 0.5)
    return np.stack([foreground, interior, distance]), instances


def learnt(maps: Sequence[NDArray[np.float32]], instances: Sequence[NDArray[np.int32]]) -> CandidateScorer:
    """A scorer that has seen some pictures."""
    candidates = [candidates_of(one, CANDIDATES) for one in maps]
    quality = [candidate_quality(one, truth) for one, truth in zip(candidates, instances, strict=True)]
    features = np.concatenate([one.features for one in candidates])
    return learn_scorer(features, np.concatenate(quality), np.ones(len(features)), least=0.25)


def test_shapes_decide_where_summits_cannot() -> None:
    maps, instances = zip(*(rods_and_pairs(seed) for seed in range(4)), strict=True)
    scorer = learnt(maps[:3], instances[:3])
    held = [HeldOutMaps(group="a", maps=maps[3], instances=instances[3])]
    plain = choose_decoding(held)
    chosen = choose_worth(held, plain, scorer)
    assert plain.quality < 0.8
    assert chosen.quality > 0.95
    assert chosen.decoding.scorer is not None
    assert len(chosen.tried) == len(plain.tried) + 4


def test_confidences_are_right_on_held_out_pictures() -> None:
    """The truth has holes here that the learning did not see: two in five instances are not there."""
    maps, instances = zip(*(rods_and_pairs(seed) for seed in range(8)), strict=True)
    scorer = learnt(maps[:4], instances[:4])
    fewer = [np.where(truth % 5 < 3, truth, 0).astype(np.int32) for truth in instances]
    held = [HeldOutMaps(group="a", maps=m, instances=t) for m, t in zip(maps[4:6], fewer[4:6], strict=True)]
    before = DecodingChoice(decoding=START, quality=0.0, tried=(), n_pictures=2)
    decoding = choose_worth(held, before, scorer).decoding
    told, true = [], []
    for one, truth in zip(maps[6:], fewer[6:], strict=True):
        found, sure = decode_scored(one, decoding)
        assert sure is not None
        told += sure.tolist()
        true += [_best(found == number, truth) for number in range(1, len(sure) + 1)]
    assert abs(np.mean(told) - np.mean(true)) < 0.1
    assert np.mean(told) < 0.75


def _best(mask: NDArray[np.bool_], truth: NDArray[np.int32]) -> float:
    number = np.bincount(truth[mask]).argmax()
    iou = float((mask & (truth == number)).sum() / (mask | (truth == number)).sum()) if number else 0.0
    return iou if iou > 0.5 else 0.0


def test_a_scorer_that_does_no_better_is_not_used() -> None:
    maps, instances = rods_and_pairs(0)
    candidates = candidates_of(maps, CANDIDATES)
    nonsense = learn_scorer(candidates.features, np.zeros(len(candidates)), np.ones(len(candidates)), least=0.25)
    held = [HeldOutMaps(group="a", maps=maps, instances=instances)]
    before = DecodingChoice(decoding=START, quality=0.5, tried=((START, 0.5),), n_pictures=1)
    after = choose_worth(held, before, nonsense)
    assert after.decoding == START
    assert after.quality == 0.5
    assert len(after.tried) == 5


def test_learning_is_repeatable() -> None:
    generator = np.random.default_rng(0)
    features, truth = generator.normal(size=(600, 24)), generator.uniform(size=600)
    one, other = (learn_scorer(features, truth, np.ones(600), least=0.2, seed=3) for _ in range(2))
    assert all(np.array_equal(one.arrays()[name], other.arrays()[name]) for name in one.arrays())
    assert np.array_equal(one.worth(features), type(one).of_arrays(one.arrays(), one.settings).worth(features))
