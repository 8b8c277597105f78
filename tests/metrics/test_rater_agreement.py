"""Agreement of raters against voxel-wise loops, a voxel-wise STAPLE, and verdicts with known answers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from delineate.errors import InputError, UsageError
from delineate.metrics.agreement import (
    LeftOutScores,
    leave_one_rater_out,
    majority,
    majority_labels,
    non_inferiority,
    pairwise_dice,
    staple,
)

stacks = st.tuples(st.integers(2, 4), st.integers(1, 4), st.integers(1, 4)).flatmap(
    lambda shape: npst.arrays(np.bool_, shape)
)


def plain_dice(first, second):
    total = first.sum() + second.sum()
    return 2 * (first & second).sum() / total if total else math.nan


@settings(max_examples=60, deadline=None)
@given(stacks)
def test_pairwise_dice_and_majority_equal_loops(masks):
    expected = [[plain_dice(a, b) for b in masks] for a in masks]
    np.testing.assert_allclose(pairwise_dice(masks), expected)
    np.testing.assert_array_equal(majority(masks), masks.mean(axis=0) > 0.5)


@settings(max_examples=60, deadline=None)
@given(npst.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=st.integers(0, 3)))
def test_majority_of_labels_equals_a_loop(maps):
    expected = []
    for votes in maps.T:
        values, counts = np.unique(votes, return_counts=True)
        expected.append(values[counts.argmax()] if (counts == counts.max()).sum() == 1 else 9)
    np.testing.assert_array_equal(majority_labels(maps, undecided=9), expected)


def noisy_raters(n=3):
    rng = np.random.default_rng(0)
    truth = np.zeros((20, 30, 30), np.bool_)
    truth[5:15, 8:22, 8:22] = True
    quality = [(0.95, 0.99), (0.85, 0.98), (0.7, 0.999), (0.9, 0.95)][:n]
    return truth, [np.where(truth, rng.random(truth.shape) < p, rng.random(truth.shape) >= q) for p, q in quality]


def test_staple_equals_the_iteration_over_voxels():
    _, masks = noisy_raters()
    found = staple(masks)
    votes = np.stack([m.ravel() for m in masks]).astype(float)
    prior = votes.mean()
    p, q = np.full(3, 0.99999), np.full(3, 0.99999)
    for _ in range(found.iterations + 1):
        inside = prior * np.prod(np.where(votes > 0, p[:, None], 1 - p[:, None]), axis=0)
        outside = (1 - prior) * np.prod(np.where(votes > 0, 1 - q[:, None], q[:, None]), axis=0)
        w = inside / (inside + outside)
        p_used, q_used = p, q
        p, q = votes @ w / w.sum(), (1 - votes) @ (1 - w) / (1 - w).sum()
    np.testing.assert_allclose(found.probability.ravel(), w, atol=1e-9)
    np.testing.assert_allclose(found.sensitivity, p_used)
    np.testing.assert_allclose(found.specificity, q_used)
    assert found.converged


def test_staple_finds_the_truth_and_the_quality_of_the_raters():
    truth, masks = noisy_raters(4)
    found = staple(masks)
    assert plain_dice(found.consensus, truth) > 0.97
    np.testing.assert_allclose(found.sensitivity, [0.95, 0.85, 0.7, 0.9], atol=0.03)
    np.testing.assert_allclose(found.specificity, [0.99, 0.98, 0.999, 0.95], atol=0.01)


@pytest.mark.parametrize("full", [False, True])
def test_staple_of_raters_who_all_say_the_same(full):
    masks = [np.full((3, 4), full)] * 3
    found = staple(masks)
    np.testing.assert_array_equal(found.consensus, masks[0])
    some = np.eye(4, dtype=np.bool_)
    np.testing.assert_array_equal(staple([some, some]).consensus, some)


def test_left_out_raters_meet_the_consensus_of_the_others():
    _, masks = noisy_raters(4)
    model = majority(masks)
    found = leave_one_rater_out(model, masks, plain_dice)
    for i, mask in enumerate(masks):
        reference = majority([m for j, m in enumerate(masks) if j != i])
        assert found.model[i] == plain_dice(model, reference)
        assert found.raters[i] == plain_dice(mask, reference)
    assert found.difference > 0


def test_pairs_without_a_number_are_left_out_of_the_difference():
    assert LeftOutScores(model=(0.9, math.nan), raters=(0.8, 0.7)).difference == pytest.approx(0.1)
    assert math.isnan(LeftOutScores(model=(math.nan,), raters=(0.7,)).difference)


def verdict(mean, margin=0.02, **more):
    values = mean + 0.01 * np.random.default_rng(0).normal(size=40)
    return non_inferiority(values, [f"p{i // 2}" for i in range(40)], margin=margin, seed=3, **more)


def test_verdicts():
    good = verdict(-0.004)
    assert good.non_inferior
    assert "no more than a person does: difference -0.0" in good.sentence
    assert "margin 0.02" in good.sentence
    assert (good.difference.seed, good.difference.n_used, good.difference.n_patients) == (3, 40, 20)
    bad = verdict(-0.03)
    assert not bad.non_inferior
    assert bad.sentence.startswith("It is not shown")
    # more millimetres than people is worse
    assert not verdict(0.03, higher_is_better=False).non_inferior
    assert verdict(-0.03, higher_is_better=False).non_inferior


def test_one_patient_proves_nothing():
    found = non_inferiority([0.5, 0.5], ["a", "a"], margin=0.1, seed=0)
    assert not found.non_inferior
    assert "too few" in found.sentence


def test_wrong_input_is_refused():
    mask = np.ones((2, 2), np.bool_)
    with pytest.raises(InputError, match="one shape"):
        pairwise_dice([mask, mask[:1]])
    with pytest.raises(InputError, match="at least 2"):
        staple([mask])
    with pytest.raises(InputError, match="at most 16"):
        staple([mask] * 17)
    with pytest.raises(UsageError, match="prior"):
        staple([mask, mask], prior=1.0)
    with pytest.raises(InputError, match="at least"):
        leave_one_rater_out(mask, [mask, mask], plain_dice)
    with pytest.raises(UsageError, match="margin"):
        non_inferiority([0.1], ["a"], margin=0.0, seed=0)
