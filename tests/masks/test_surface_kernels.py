"""Compiled kernels say to the last bit what the numpy code says that stands in for them."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from delineate.masks import compiled, distance, surfaces
from delineate.masks.distance import nearest_distances
from delineate.masks.surfaces import surface_elements, surface_voxels

pytest.importorskip("numba")

SPACING = (3.0, 0.8, 1.3)
SPACINGS = st.sampled_from([SPACING, (1.0, 1.0, 1.0), (2.5, 0.9, 0.9), (0.7, 1.4, 0.7)])


@contextlib.contextmanager
def answered_by(kernels: bool):
    """Answer by kernels whatever the size, or by numpy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "LEAST_VOXELS", 0)
        if not kernels:
            for module in (surfaces, distance):
                patch.setattr(module, "kernels", lambda *_: None)
        yield


masks = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 20)).flatmap(
    lambda shape: npst.arrays(np.bool_, shape)
)


@settings(max_examples=60, deadline=None)
@given(masks, SPACINGS)
def test_surfaces(mask, spacing):
    for surface in (surface_voxels, surface_elements):
        with answered_by(False):
            expected = surface(mask, spacing)
        with answered_by(True):
            found = surface(mask, spacing)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.sizes, expected.sizes)


def test_surfaces_of_a_part_of_an_array():
    mask = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(20, 40, 70)), 2) > 0.02
    for part in (mask[::2, 3:, ::-1], np.moveaxis(mask, 0, 2), np.asfortranarray(mask)):
        for surface in (surface_voxels, surface_elements):
            with answered_by(False):
                expected = surface(part, SPACING)
            with answered_by(True):
                found = surface(part, SPACING)
            np.testing.assert_array_equal(found.indices, expected.indices)
            np.testing.assert_array_equal(found.sizes, expected.sizes)


def agree(points, targets, spacing):
    with answered_by(True):
        found = nearest_distances(points, targets, spacing)
    with answered_by(False):
        np.testing.assert_array_equal(found, nearest_distances(points, targets, spacing))
    return found


def positions(low, high, dims=3):
    # in any order, some of them twice, also below 0
    return npst.arrays(np.int64, st.tuples(st.integers(1, 12), st.just(dims)), elements=st.integers(low, high))


@settings(max_examples=80, deadline=None)
@given(positions(-9, 60), st.one_of(positions(-9, 60), positions(0, 3), positions(900, 5000)), SPACINGS)
def test_nearest_near_and_far(points, targets, spacing):
    found = agree(points, targets, spacing)
    apart = (points[:, None] - targets[None]) * np.array(spacing)
    np.testing.assert_allclose(found, np.linalg.norm(apart, axis=2).min(axis=1), rtol=1e-14)


@settings(max_examples=30, deadline=None)
@given(positions(-9, 60, 2), positions(-200, 60, 2))
def test_nearest_in_a_plane(points, targets):
    agree(points, targets, SPACING[1:])


@pytest.mark.parametrize("spacing", [SPACING, (2.5, 0.9, 0.9), (1.0, 1.0, 1.0)])
def test_nearest_of_noisy_surfaces_with_pieces_far_away(spacing):
    rng = np.random.default_rng(3)
    mask = ndimage.gaussian_filter(rng.normal(size=(40, 60, 90)), 4) > 0.01
    mask[:, 30:] = False
    noisy = mask ^ (ndimage.binary_dilation(mask) & (rng.random(mask.shape) < 0.1))
    noisy[30:, 50:, 80:] = True
    pieces = [surface_voxels(m, spacing).indices for m in (mask, noisy)]
    found = agree(*pieces[::-1], spacing)
    agree(*pieces, spacing)
    transform = ndimage.distance_transform_edt(~mask, sampling=spacing)
    assert found.max() > 20
    border = np.zeros_like(mask)
    border[tuple(pieces[0].T)] = True
    transform = ndimage.distance_transform_edt(~border, sampling=spacing)
    np.testing.assert_allclose(found, transform[tuple(pieces[1].T)], rtol=1e-12)


def test_positions_too_wide_for_the_rows_are_left_to_the_tree():
    points, targets = np.array([[0, 0, 0]]), np.array([[0, 0, 3], [0, 1, 70_000], [9_000_000, 9_000_000, 0]])
    assert agree(points, targets, SPACING) == pytest.approx([3.9])


@pytest.fixture
def nothing_loaded(monkeypatch):
    monkeypatch.setattr(compiled, "_LOADED", {})
    monkeypatch.setattr(compiled, "_ASKED", {})


def test_kernels_are_loaded_once_the_work_is_worth_it(nothing_loaded):
    half = compiled.LEAST_VOXELS // 2
    assert compiled.kernels(surfaces.KERNELS, half) is None
    loaded = compiled.kernels(surfaces.KERNELS, half)
    assert loaded.__name__ == surfaces.KERNELS
    assert compiled.kernels(surfaces.KERNELS, 1) is loaded


def test_without_numba_no_kernel_answers(nothing_loaded, monkeypatch):
    monkeypatch.setattr(compiled, "HAVE_NUMBA", False)
    assert compiled.kernels(surfaces.KERNELS, 1 << 30) is None


def test_threads_that_meet_at_the_first_call_all_get_whole_kernels(nothing_loaded, monkeypatch):
    monkeypatch.setattr(compiled, "LEAST_VOXELS", 0)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: compiled.kernels(surfaces.KERNELS, 1).border, range(8)))
    assert len(set(map(id, found))) == 1
