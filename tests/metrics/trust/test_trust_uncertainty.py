"""Sums over slabs against the whole volume, and against formulas written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax

from delineate.metrics.trust import UncertaintySums


def logits(seed, heads=3, shape=(5, 6, 7), scale=3.0):
    return (np.random.default_rng(seed).standard_normal((heads, *shape)) * scale).astype(np.float32)


def summed(volume, cuts, *, regions):
    sums = UncertaintySums(regions=regions)
    for first, last in zip((0, *cuts), (*cuts, volume.shape[1]), strict=True):
        if last > first:
            sums.add(volume[:, first:last])
    return sums.result()


@given(st.integers(0, 50), st.sets(st.integers(1, 4)), st.booleans())
def test_slabs_make_no_difference(seed, cuts, regions):
    volume = logits(seed)
    whole, parts = (summed(volume, c, regions=regions) for c in ((), sorted(cuts)))
    np.testing.assert_allclose(parts.expected_dice, whole.expected_dice, rtol=1e-6)
    assert parts.boundary_entropy == pytest.approx(whole.boundary_entropy, rel=1e-6)
    assert parts.confidence == pytest.approx(whole.confidence, rel=1e-6)


def band_of(codes):
    band = np.zeros(codes.shape, bool)
    for z, y, x in np.ndindex(codes.shape):
        near = [(z - 1, y, x), (z, y - 1, x), (z, y + 1, x), (z, y, x - 1), (z, y, x + 1)]
        inside = [p for p in near if all(0 <= i < n for i, n in zip(p, codes.shape, strict=True))]
        band[z, y, x] = any(codes[p] != codes[z, y, x] for p in inside)
    return band


def test_labels_follow_the_formulas():
    volume = logits(1, scale=1.0)  # no voxel is negligible
    p, winner = softmax(volume.astype(float), 0), volume.argmax(0)
    found = summed(volume, (2,), regions=False)
    for head in (1, 2):
        mask = winner == head
        assert found.expected_dice[head - 1] == pytest.approx(2 * p[head][mask].sum() / (mask.sum() + p[head].sum()))
    entropy = -(p * np.log2(p)).sum(0)
    assert found.boundary_entropy == pytest.approx(entropy[band_of(winner)].mean(), rel=1e-5)
    assert found.confidence == pytest.approx(p.max(0)[winner > 0].mean(), rel=1e-6)


def test_regions_follow_the_formulas():
    volume = logits(2, heads=2, scale=1.0)
    p, masks = expit(volume.astype(float)), volume > 0
    found = summed(volume, (3,), regions=True)
    expected = [2 * q[m].sum() / (m.sum() + q.sum()) for q, m in zip(p, masks, strict=True)]
    np.testing.assert_allclose(found.expected_dice, expected, rtol=1e-6)
    entropy = -(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean(0)
    codes = masks[0] + 2 * masks[1]
    assert found.boundary_entropy == pytest.approx(entropy[band_of(codes)].mean(), rel=1e-5)


def test_nothing_predicted_says_nothing():
    volume = np.zeros((2, 3, 4, 4), np.float32)
    volume[0] = 9
    found = summed(volume, (), regions=False)
    assert np.isnan([*found.expected_dice, found.boundary_entropy, found.confidence]).all()


def test_far_background_is_negligible():
    volume = logits(4)
    volume[0] += 8
    volume[:, :, 2:4, 2:4] = np.array([0, 12, 1])[:, None, None, None]
    p, winner = softmax(volume.astype(float), 0), volume.argmax(0)
    exact = 2 * p[1][winner == 1].sum() / ((winner == 1).sum() + p[1].sum())
    assert summed(volume, (), regions=False).expected_dice[0] == pytest.approx(exact, abs=5e-3)
