"""Distances against brute force and scipy's transform, with and without the optional package."""

import math
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from delineate.errors import GeometryError
from delineate.masks import distance as module
from delineate.masks.distance import distance_map, nearest_distances

SPACING = (3.0, 0.8, 1.3)


def points(n):
    return npst.arrays(np.int64, st.tuples(st.integers(0, n), st.just(3)), elements=st.integers(-5, 40))


@settings(max_examples=80, deadline=None)
@given(points(12), points(12))
def test_nearest_equals_trying_all(asked, targets):
    found = nearest_distances(asked, targets, SPACING)
    assert found.shape == (len(asked),)
    for point, distance in zip(asked, found, strict=True):
        all_of_them = [math.dist(point * SPACING, target * np.array(SPACING)) for target in targets]
        assert distance == pytest.approx(min(all_of_them, default=math.inf), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(npst.arrays(np.bool_, st.tuples(*[st.integers(1, 6)] * 3)))
def test_map_equals_the_nearest_voxel_of_the_mask(mask):
    expected = nearest_distances(np.argwhere(np.ones_like(mask)), np.argwhere(mask), SPACING)
    np.testing.assert_allclose(distance_map(mask, SPACING).ravel(), expected, rtol=1e-6)


def test_nearest_equals_the_distance_transform_on_surfaces():
    mask = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(30, 40, 40)), 3) > 0.01
    other = np.roll(mask, 3, axis=1)
    transform = ndimage.distance_transform_edt(~other, sampling=SPACING)
    found = nearest_distances(np.argwhere(mask), np.argwhere(other), SPACING)
    np.testing.assert_allclose(found, transform[mask], atol=1e-10)


def test_without_the_optional_package_scipy_answers(monkeypatch):
    def refuse(name, *rest):
        raise ImportError(name)

    monkeypatch.setattr(module, "importlib", types.SimpleNamespace(import_module=refuse))
    mask = np.zeros((4, 5), np.bool_)
    mask[0, 0] = True
    found = distance_map(mask, (2.0, 0.5))
    assert found.dtype == np.float64
    assert found[3, 4] == pytest.approx(math.hypot(6, 2))


def test_the_optional_package_is_asked_for_distances_to_the_mask(monkeypatch):
    def transform(outside, anisotropy, black_border, parallel):
        assert not black_border
        return ndimage.distance_transform_edt(outside, sampling=anisotropy)

    fake = types.SimpleNamespace(import_module=lambda name: types.SimpleNamespace(edt=transform))
    monkeypatch.setattr(module, "importlib", fake)
    mask = np.random.default_rng(1).random((5, 6, 7)) > 0.9
    np.testing.assert_allclose(distance_map(mask, SPACING), ndimage.distance_transform_edt(~mask, sampling=SPACING))


def test_the_optional_package_agrees_where_it_is_installed():
    edt = pytest.importorskip("edt")
    mask = np.random.default_rng(1).random((12, 13, 14)) > 0.97
    theirs = edt.edt((~mask).view(np.uint8), anisotropy=SPACING, black_border=False)
    np.testing.assert_allclose(theirs, ndimage.distance_transform_edt(~mask, sampling=SPACING), rtol=1e-6)


def test_empty_masks_are_infinitely_far():
    assert np.isinf(distance_map(np.zeros((2, 3), np.bool_), (1, 1))).all()
    assert np.isinf(nearest_distances(np.zeros((2, 3), np.int64), np.zeros((0, 3), np.int64), (1, 1, 1))).all()


def test_impossible_input_is_refused():
    with pytest.raises(GeometryError, match="2 or 3 axes"):
        distance_map(np.ones(3, np.bool_), (1,))
    with pytest.raises(GeometryError, match="spacing_mm"):
        nearest_distances(np.zeros((1, 3), np.int64), np.zeros((1, 3), np.int64), (1, 1))
