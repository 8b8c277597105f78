from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.geometry.grid import Grid
from delineate.metrics.plausibility import (
    Chain,
    Expectations,
    Neighbours,
    Pair,
    implausibilities,
    measure_shapes,
)

SIDE = 40
GRID = Grid.regular((60, SIDE, SIDE), (3.0, 3.0, 3.0))
"""Array axes z, y, x run to the head, to the back, to the left."""

SPINE = tuple(f"level_{n}" for n in range(6))
NAMES = {1: "kidney_left", 2: "kidney_right", 3: "arm_left", 4: "arm_right", **dict(enumerate(SPINE, start=5))}
EXPECTED = Expectations(
    pairs=(Pair(left="kidney_left", right="kidney_right"), Pair(left="arm_left", right="arm_right")),
    chains=(Chain(name="spine", structures=SPINE),),
    whole=("kidney_left", "kidney_right"),
    levels=tuple(Neighbours(first=a, second=b) for a, b in pairwise(SPINE)),
)


def body() -> np.ndarray:
    """Two kidneys, two arms, six vertebrae on top of each other, nothing at the border."""
    labels = np.zeros(GRID.shape, np.uint8)
    labels[20:28, 15:20, 28:33] = 1
    labels[20:28, 15:20, 7:12] = 2
    labels[5:50, 18:22, 36:39] = 3
    labels[5:50, 18:22, 1:4] = 4
    for level in range(6):
        labels[6 + 8 * level : 13 + 8 * level, 25:32, 17:24] = 5 + level
    return labels


def kinds(labels: np.ndarray, expected: Expectations = EXPECTED) -> list[tuple[str, tuple[str, ...]]]:
    return [(found.kind, found.structures) for found in implausibilities(labels, GRID, NAMES, expected)]


def test_a_body_as_it_should_be_gives_no_finding() -> None:
    assert kinds(body()) == []
    assert kinds(np.zeros(GRID.shape, np.uint8)) == []


def test_a_mirrored_body_is_told() -> None:
    found = implausibilities(body()[:, :, ::-1], GRID, NAMES, EXPECTED)
    assert [f.kind for f in found] == ["sides", "sides", "mirrored"]
    assert found[0].structures == ("kidney_left", "kidney_right")
    assert found[0].numbers["left_of_mm"] == pytest.approx(-63.0)
    assert "2 of 2 pairs" in found[2].text


def test_one_swapped_pair_is_no_mirror_image() -> None:
    labels = body()
    swapped = labels.copy()
    swapped[labels == 1], swapped[labels == 2] = 2, 1
    assert kinds(swapped) == [("sides", ("kidney_left", "kidney_right"))]


@settings(max_examples=15)
@given(st.lists(st.integers(0, 2), min_size=3, max_size=3), st.booleans())
def test_the_orientation_of_the_array_does_not_matter(quarter_turns: list[int], flip: bool) -> None:
    """The same body in an array that is turned with its grid gives the same findings, none."""
    labels = body()[:, :, ::-1] if flip else body()
    axes = [np.array(axis, float) for axis in GRID.direction]
    origin = np.array(GRID.origin_mm)
    for axis, turns in enumerate(quarter_turns):
        if turns:
            labels = np.flip(labels, axis)
            origin = origin + axes[axis] * (GRID.shape[axis] - 1) * GRID.spacing_mm[axis]
            axes[axis] = -axes[axis]
    grid = Grid(
        shape=GRID.shape,
        spacing_mm=GRID.spacing_mm,
        origin_mm=tuple(origin),
        direction=tuple(tuple(axis) for axis in axes),
    )
    found = implausibilities(labels, grid, NAMES, EXPECTED)
    assert ("mirrored" in [f.kind for f in found]) == flip


@given(st.integers(0, 5), st.integers(0, 5))
@settings(max_examples=20)
def test_swapped_vertebrae_break_the_order(a: int, b: int) -> None:
    labels = body()
    swapped = labels.copy()
    swapped[labels == 5 + a], swapped[labels == 5 + b] = 5 + b, 5 + a
    found = kinds(swapped)
    assert ("order" in {kind for kind, _ in found}) == (a != b)
    assert {kind for kind, _ in found} <= {"order"}


@given(st.permutations(range(6)))
@settings(max_examples=20)
def test_any_order_but_the_right_one_is_told(order: list[int]) -> None:
    labels = body()
    mixed = labels.copy()
    for level, other in enumerate(order):
        mixed[labels == 5 + level] = 5 + other
    assert (kinds(mixed) == []) == (list(order) == sorted(order))


def test_a_missing_level_between_others_is_a_gap() -> None:
    labels = body()
    labels[labels == 7] = 0
    assert kinds(labels) == [("gap", ("level_2",))]
    optional = Expectations(chains=(Chain(name="spine", structures=SPINE, optional=frozenset({"level_2"})),))
    assert kinds(labels, optional) == []
    labels[labels == 5] = 0
    assert kinds(labels) == [("gap", ("level_2",))]


def test_cut_ribs_may_stand_in_any_order_if_only_whole_ones_count() -> None:
    labels = body()
    mixed = labels.copy()
    mixed[labels == 5], mixed[labels == 6] = 6, 5
    mixed[0:13, 25:32, 0:17][mixed[0:13, 25:32, 0:17] == 0] = 6
    whole = Expectations(chains=(Chain(name="ribs", structures=SPINE, whole_only=True),))
    assert kinds(mixed, whole) == []


def test_an_organ_in_two_pieces_is_told_unless_the_border_cuts_it() -> None:
    labels = body()
    labels[40:44, 15:20, 28:33] = 1
    found = implausibilities(labels, GRID, NAMES, EXPECTED)
    assert [(f.kind, f.structures) for f in found] == [("pieces", ("kidney_left",))]
    assert found[0].numbers == {"pieces": 2, "second_mm3": 100 * 27.0}
    labels[24:26, 17, 33:] = 1
    assert ("pieces", ("kidney_left",)) not in kinds(labels)


def test_specks_do_not_count() -> None:
    labels = body()
    labels[40, 15, 28] = 1
    assert kinds(labels) == []


def test_a_thirteenth_rib_is_told() -> None:
    labels = body()
    labels[50:55, 15:20, 28:33] = 1
    assert kinds(labels, Expectations(once=("kidney_left", "kidney_right"))) == [("uncounted", ("kidney_left",))]
    labels[50:55, 15:20, 28:33] = 0
    labels[50, 15:18, 28:31] = 1
    assert kinds(labels, Expectations(once=("kidney_left",))) == []


def test_a_vertebra_with_two_numbers_is_told() -> None:
    labels = body()
    labels[24:27, 25:32, 17:24] = 6  # the middle of level_2, away from level_1
    assert ("shared level", ("level_1", "level_2")) in kinds(labels)
    far = body()
    far[2:4, 5:12, 17:24] = 6
    assert "shared level" not in {kind for kind, _ in kinds(far)}


def test_a_piece_inside_the_other_bowel_is_told() -> None:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[5:25, 5:30, 5:30] = 1
    labels[12:16, 12:18, 12:18] = 2
    labels[40:50, 5:30, 5:30] = 2
    exchanged = Expectations(exchanged=(Neighbours(first="kidney_left", second="kidney_right"),))
    assert kinds(labels, exchanged) == [("exchanged", ("kidney_right", "kidney_left"))]
    labels[12:16, 12:18, 12:18] = 1
    assert kinds(labels, exchanged) == []


def test_pieces_are_measured_in_world_units() -> None:
    labels = body()
    labels[40:44, 15:20, 28:33] = 1
    shape = measure_shapes(labels, GRID, (1, 2, 99))[1]
    assert [piece.volume_mm3 for piece in shape.pieces] == [200 * 27.0, 100 * 27.0]
    np.testing.assert_allclose(shape.centroid_mm, (30 * 3.0, 17 * 3.0, 23.5 * 3.0))
    assert shape.pieces[1].shell == {0: 1.0}
    assert not shape.at_border
    assert set(measure_shapes(labels, GRID, (1, 2, 99))) == {1, 2}
