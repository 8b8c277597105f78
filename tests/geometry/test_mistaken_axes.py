"""Grids that should be one: mistakes in words, and labels taken to the nearest voxel."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from delineate.errors import GeometryError
from delineate.geometry.grid import Grid
from delineate.geometry.mistaken_axes import (
    fill_the_same_place,
    mistaken_axes,
    nearest_labels,
    overlap_in_space,
    permutation,
)

EYE = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))


def grid(shape=(4, 6, 8), spacing=(3.0, 0.8, 0.7), origin=(10.0, -20.0, 5.0), direction=EYE) -> Grid:
    return Grid(shape=shape, spacing_mm=spacing, origin_mm=origin, direction=direction)


def test_a_spacing_in_another_order_is_named() -> None:
    told = mistaken_axes(grid(spacing=(0.7, 0.8, 3.0)), grid())
    assert told is not None
    assert "its spacing (0.7, 0.8, 3) mm is (3, 0.8, 0.7) mm in another order" in told


def test_exchanged_axes_are_named() -> None:
    told = mistaken_axes(grid(shape=(8, 6, 4)), grid())
    assert told is not None
    assert "saved with its axes exchanged (axis 0 is axis 2, 1 is axis 1, 2 is axis 0 of the other)" in told
    assert mistaken_axes(grid(shape=(8, 6, 5)), grid()) is None


def test_confused_coordinates_are_named() -> None:
    told = mistaken_axes(grid(origin=(-10.0, 20.0, 5.0)), grid())
    assert told is not None
    assert "RAS and LPS" in told
    assert mistaken_axes(grid(origin=(-10.0, 20.0, 6.0)), grid()) is None


def test_turned_axes_in_the_same_place_are_no_mistake() -> None:
    there = grid()
    # the same voxels, stored (x, y, z)
    turned = Grid(
        shape=there.shape[::-1],
        spacing_mm=there.spacing_mm[::-1],
        origin_mm=there.origin_mm,
        direction=there.direction[::-1],
    )
    assert fill_the_same_place(turned, there)
    assert mistaken_axes(turned, there) is None
    labels = np.random.default_rng(0).integers(0, 5, there.shape).astype(np.uint8)
    assert np.array_equal(nearest_labels(labels.transpose(), turned, there), labels)


def test_flipped_axes_in_the_same_place_are_undone() -> None:
    there = grid()
    labels = np.random.default_rng(1).integers(0, 5, there.shape).astype(np.int16)
    flipped = grid(
        origin=tuple(np.array(there.origin_mm) + np.array([0.7 * 7, 0.0, 0.0])),
        direction=(EYE[0], EYE[1], (-1.0, 0.0, 0.0)),
    )
    found = nearest_labels(labels[:, :, ::-1], flipped, there)
    assert np.array_equal(found, labels)
    assert found.dtype == np.int16


def test_nearest_labels_are_those_of_the_nearest_centre() -> None:
    rng = np.random.default_rng(2)
    angle = 0.3
    source = grid(
        shape=(5, 6, 7),
        spacing=(2.0, 1.1, 0.9),
        origin=(1.0, 2.0, 3.0),
        direction=((0, 0, 1), (-np.sin(angle), np.cos(angle), 0), (np.cos(angle), np.sin(angle), 0)),
    )
    target = grid(shape=(4, 5, 6), spacing=(1.7, 1.3, 1.2), origin=(1.3, 2.2, 3.1))
    labels = rng.integers(1, 9, source.shape).astype(np.uint8)
    found = nearest_labels(labels, source, target)
    to_source = np.linalg.inv(source.affine)
    for index in itertools.product(*map(range, target.shape)):  # brute force
        at = (to_source @ target.affine @ np.array([*index, 1.0]))[:3]
        inside = all(-0.5 <= a < n - 0.5 for a, n in zip(at, source.shape, strict=True))
        nearest = tuple(int(np.floor(a + 0.5)) for a in at)
        assert found[index] == (labels[nearest] if inside else 0)


def test_grids_that_do_not_touch() -> None:
    assert overlap_in_space(grid(), grid(origin=(12.0, -20.0, 5.0)))
    assert not overlap_in_space(grid(), grid(origin=(10.0, -20.0, 18.0)))


def test_planes_and_volumes_do_not_mix() -> None:
    plane = Grid.regular((4, 6))
    with pytest.raises(GeometryError, match="planes with planes"):
        nearest_labels(np.zeros((4, 6), np.uint8), plane, grid())
    assert mistaken_axes(plane, grid()) is None
    assert permutation((1.0, 2.0), (2.0, 1.0)) == (1, 0)
    assert permutation((1.0, 2.0), (1.0, 2.0)) is None
