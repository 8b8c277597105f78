"""Clouds, temperatures and expectations against slow or known answers."""

import numpy as np
import pytest
from scipy.special import log_softmax

from delineate.errors import InputError
from delineate.metrics.trust.normal_reference import fit_normal, left_out_distances
from delineate.metrics.trust.quality_model import fit_quality
from delineate.metrics.trust.temperature import (
    VoxelSample,
    choose_voxels,
    fit_binary_temperature,
    fit_temperature,
)


def test_with_many_points_the_distance_is_that_of_mahalanobis():
    rng = np.random.default_rng(0)
    points = rng.multivariate_normal([1, 2, 3], [[2, 0.8, 0], [0.8, 1, 0], [0, 0, 0.5]], 5000)
    cloud = fit_normal(points)
    inverse = np.linalg.inv(np.cov(points.T))
    for point in points[:20]:
        d = point - points.mean(0)
        # two axes and the rest, which in three dimensions is the third axis
        assert cloud.distance(point) == pytest.approx(np.sqrt(d @ inverse @ d / 3), rel=1e-6)


def test_fewer_points_than_dimensions_still_tell_strangers():
    rng = np.random.default_rng(1)
    mixing = rng.standard_normal((5, 200))
    points = rng.standard_normal((30, 5)) @ mixing + 0.3 * rng.standard_normal((30, 200))
    cloud = fit_normal(points)
    ordinary = rng.standard_normal((50, 5)) @ mixing + 0.3 * rng.standard_normal((50, 200))
    strange = ordinary + 2 * rng.standard_normal((50, 200))
    assert min(map(cloud.distance, strange)) > max(map(cloud.distance, ordinary))


def test_left_out_distances_are_those_of_new_points():
    rng = np.random.default_rng(2)
    points, new = rng.standard_normal((40, 60)), rng.standard_normal((400, 60))
    cloud = fit_normal(points)
    fresh = np.mean([cloud.distance(p) for p in new])
    assert np.mean(left_out_distances(points, 1e-6)) == pytest.approx(fresh, rel=0.08)
    seen = np.mean([cloud.distance(p) for p in points])
    assert seen < 0.9 * fresh  # why points are left out
    np.testing.assert_array_equal(cloud.distances, left_out_distances(points, 1e-6))


def test_a_cloud_needs_points():
    with pytest.raises(InputError, match="at least 8"):
        fit_normal(np.zeros((7, 3)))
    with pytest.raises(InputError):
        fit_normal(np.full((9, 3), np.nan))


def likelihood(logits, labels, temperature):
    return -np.mean(log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels])


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_temperature_is_that_of_a_grid_search(true):
    rng = np.random.default_rng(7)
    logits = rng.standard_normal((4000, 3)) * 2
    p = np.exp(log_softmax(logits, axis=1))
    labels = np.array([rng.choice(3, p=row) for row in p])
    found = fit_temperature(logits * true, labels)
    grid = np.exp(np.linspace(np.log(0.1), np.log(10), 2001))
    best = grid[np.argmin([likelihood(logits * true, labels, t) for t in grid])]
    assert found == pytest.approx(best, rel=3e-3)
    assert found == pytest.approx(true, rel=0.1)


def test_a_sigmoid_has_its_temperature_too():
    rng = np.random.default_rng(8)
    logits = rng.standard_normal(6000) * 2
    truths = rng.random(6000) < 1 / (1 + np.exp(-logits))
    assert fit_binary_temperature(logits * 2.5, truths) == pytest.approx(2.5, rel=0.1)


def test_no_sample_is_refused():
    with pytest.raises(InputError):
        fit_temperature(np.zeros((0, 3)), np.zeros(0))


def test_voxels_lie_near_boundaries_and_anywhere_but_on_the_ignored():
    labels = np.zeros((20, 30, 30), np.int16)
    labels[8:12, 10:20, 10:20] = 1
    labels[0] = 2
    chosen = choose_voxels(labels, np.random.default_rng(0), count=600, ignore=2)
    assert len(set(chosen)) == len(chosen)
    assert (np.diff(chosen) > 0).all()
    assert not (labels.reshape(-1)[chosen] == 2).any()
    assert (labels.reshape(-1)[chosen] == 1).mean() > 2 * (labels == 1).mean()
    assert np.array_equal(chosen, choose_voxels(labels, np.random.default_rng(0), count=600, ignore=2))


def test_sampled_logits_do_not_depend_on_slabs():
    volume = np.random.default_rng(0).standard_normal((3, 7, 4, 5)).astype(np.float32)
    indices = np.array([0, 19, 20, 60, 139])
    for cuts in ([7], [1, 6], [3, 3, 1]):
        sample, first = VoxelSample(indices, (4, 5)), 0
        for n in cuts:
            sample.add(volume[:, first : first + n])
            first += n
        np.testing.assert_array_equal(sample.logits, volume.reshape(3, -1)[:, indices].T)


def doubts(rng, n):
    doubt = rng.random(n)
    rows = [{"a": d + 0.02 * rng.standard_normal(), "b": rng.standard_normal(), "c": np.nan} for d in doubt]
    return rows, 0.9 - 0.3 * doubt


def test_the_expected_dice_is_close_and_falls_with_doubt():
    rng = np.random.default_rng(0)
    rows, dice = doubts(rng, 60)
    model = fit_quality(rows, list(dice), ("a", "b", "c"))
    assert model.names == ("a", "b")
    assert all(w >= 0 for w in model.weights)
    new, truth = doubts(rng, 40)
    assert np.mean([abs(model.expect(r) - t) for r, t in zip(new, truth, strict=True)]) < 0.02
    assert model.error < 0.02
    assert model.expect({"a": 9.0}) == 0
    assert model.expect({}) == pytest.approx(np.mean(dice), abs=0.05)
    assert model.lowest < np.median(dice)


def test_an_expectation_needs_cases():
    with pytest.raises(InputError, match="at least 8"):
        fit_quality([{"a": 1.0}] * 5, [0.5] * 5, ("a",))
