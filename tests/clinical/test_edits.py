from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.clinical.edits import EditThresholds, measure_edit, structures_of, worst_outcome
from delineate.errors import GeometryError, InputError, LabelError

STRUCTURES = structures_of({"a": 1, "b": 2})
SPACING = (3.0, 1.0, 1.0)


def labels_with(*boxes: tuple[int, tuple[slice, ...]]) -> np.ndarray:
    array = np.zeros((6, 20, 20), np.uint8)
    for value, box in boxes:
        array[box] = value
    return array


A = (slice(1, 5), slice(2, 12), slice(2, 12))
B = (slice(1, 5), slice(13, 19), slice(13, 19))
DRAFT = labels_with((1, A), (2, B))


def test_an_unchanged_draft() -> None:
    record = measure_edit(DRAFT, DRAFT.copy(), STRUCTURES, spacing_mm=SPACING, seconds=12.5)
    assert record.outcome == "unchanged"
    for one in record.structures:
        assert (one.outcome, one.edit_dice, one.surface_dice, one.added_path_length_mm) == ("unchanged", 1.0, 1.0, 0.0)
        assert (one.changed_voxels, one.volume_change_ml) == (0, 0.0)
    assert record.seconds == 12.5


def test_numbers_are_those_of_counting() -> None:
    """One row of pixels added in every slice: Dice, volume and path by hand."""
    approved = DRAFT.copy()
    approved[1:5, 12, 2:12] = 1
    record = measure_edit(DRAFT, approved, STRUCTURES, spacing_mm=SPACING, tolerance_mm=0.5)
    first, second = record.structures
    assert first.edit_dice == pytest.approx(2 * 400 / (400 + 440))
    assert first.changed_voxels == 40
    assert first.volume_change_ml == pytest.approx(40 * 3 / 1000)
    # the new row of 10 pixels in 4 slices; its ends continue the old sides, one pixel farther
    assert first.added_path_length_mm == pytest.approx(4 * 10)
    assert (second.outcome, record.outcome) == ("unchanged", "minor")


@pytest.mark.parametrize(
    ("change", "thresholds", "outcome"),
    [
        (2, EditThresholds(), "major"),
        (2, EditThresholds(minor_dice=0.85), "minor"),
        (2, EditThresholds(minor_dice=0.85, minor_added_path_mm=5), "major"),
        (4, EditThresholds(minor_dice=0.7), "minor"),
        (9, EditThresholds(), "rejected"),
        (10, EditThresholds(rejected_dice=0.0, minor_dice=0.0), "minor"),
    ],
)
def test_outcomes(change: int, thresholds: EditThresholds, outcome: str) -> None:
    """Rows taken away: Dice is 2 * (10 - n) / (20 - n)."""
    approved = DRAFT.copy()
    approved[1:5, 2 : 2 + change, 2:12] = 0
    record = measure_edit(DRAFT, approved, STRUCTURES, spacing_mm=SPACING, thresholds=thresholds)
    assert record.structures[0].edit_dice == pytest.approx(2 * (10 - change) / (20 - change))
    assert record.structures[0].outcome == outcome


def test_missed_invented_and_absent_structures() -> None:
    empty = np.zeros_like(DRAFT)
    missed = measure_edit(empty, DRAFT, STRUCTURES, spacing_mm=SPACING)
    invented = measure_edit(DRAFT, empty, STRUCTURES, spacing_mm=SPACING)
    absent = measure_edit(empty, empty, STRUCTURES, spacing_mm=SPACING)
    assert [r.outcome for r in (missed, invented, absent)] == ["rejected", "rejected", "unchanged"]
    assert missed.structures[0].added_path_length_mm > 0
    assert invented.structures[0].added_path_length_mm == 0
    assert absent.structures[0].edit_dice is None
    json.dumps([r.payload() for r in (missed, invented, absent)], allow_nan=False)


def test_values_that_nobody_asked_for_do_not_count() -> None:
    approved = DRAFT.copy()
    approved[0] = 7
    record = measure_edit(DRAFT, approved, STRUCTURES[:1], spacing_mm=SPACING)
    assert record.outcome == "unchanged"


@given(st.integers(0, 10), st.integers(0, 10))
@settings(max_examples=25, deadline=None)
def test_less_overlap_is_never_a_better_outcome(one: int, other: int) -> None:
    order = ("unchanged", "minor", "major", "rejected")
    found = []
    for rows in sorted((one, other)):
        approved = DRAFT.copy()
        approved[1:5, 2 : 2 + rows, 2:12] = 0
        found.append(measure_edit(DRAFT, approved, STRUCTURES, spacing_mm=SPACING).outcome)
    assert order.index(found[0]) <= order.index(found[1])
    assert worst_outcome(found) == found[1]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: measure_edit(DRAFT, DRAFT[:3], STRUCTURES, spacing_mm=SPACING), GeometryError),
        (lambda: measure_edit(DRAFT, DRAFT, (), spacing_mm=SPACING), LabelError),
        (lambda: measure_edit(DRAFT, DRAFT, STRUCTURES, spacing_mm=SPACING, seconds=-1), InputError),
        (lambda: measure_edit(DRAFT, DRAFT, STRUCTURES, spacing_mm=SPACING, seconds=math.nan), InputError),
        (lambda: EditThresholds(minor_dice=0.4), InputError),
        (lambda: EditThresholds(minor_added_path_mm=-1), InputError),
    ],
)
def test_impossible_edits_are_refused(call, error) -> None:
    with pytest.raises(error):
        call()
