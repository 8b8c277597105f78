"""Shifted copies: what changes, and what must not."""

import numpy as np
import pytest

from delineate.case import Case, Image, LabelMap
from delineate.geometry.grid import Grid
from delineate.phantoms.shifts import SHIFTS, shifts_for


def case(shape=(8, 10, 14)):
    rng = np.random.default_rng(0)
    grid = Grid.regular(shape, (2.0, 1.0, 1.0)[-len(shape) :])
    labels = (rng.random(shape) < 0.3).astype(np.uint8)
    image = (rng.normal(100, 10, (1, *shape)) + 50 * labels).astype(np.int16)
    return Case(
        case_id="a", patient_id="p", image=Image(array=image, grid=grid), labels=LabelMap(array=labels, grid=grid)
    )


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_leaves_the_original_and_is_repeatable(name):
    given = case()
    before = given.image.array.copy(), given.labels.array.copy()
    one, two = (SHIFTS[name](given, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one.image.array, two.image.array)
    np.testing.assert_array_equal(given.image.array, before[0])
    np.testing.assert_array_equal(given.labels.array, before[1])
    assert one.image.grid == one.labels.grid
    changed = one.image.array.shape != given.image.array.shape or one.image.grid != given.image.grid
    assert changed or not np.array_equal(one.image.array, given.image.array)


@pytest.mark.parametrize("axis", [(0, "left-right"), (1, "front-back"), (2, "up-down")])
def test_flips_turn_image_and_labels_together(axis):
    world, word = axis
    given = case()
    found = SHIFTS[f"flipped {word}"](given, np.random.default_rng(0))
    array_axis = 2 - world
    np.testing.assert_array_equal(np.flip(found.image.array, array_axis + 1), given.image.array)
    np.testing.assert_array_equal(np.flip(found.labels.array, array_axis), given.labels.array)


def test_strengths_are_as_named():
    given, rng = case(), np.random.default_rng(1)
    width = np.ptp(np.percentile(given.image.array, (1, 99)))
    noisy = SHIFTS["noise, 30 % of the range"](given, rng)
    assert (noisy.image.array - given.image.array).std() == pytest.approx(0.3 * width, rel=0.05)
    inverted = SHIFTS["inverted contrast"](given, rng).image.array
    np.testing.assert_allclose(np.corrcoef(inverted.ravel(), given.image.array.ravel())[0, 1], -1, rtol=1e-5)
    cut = SHIFTS["field of view cut to 60 %"](given, rng)
    assert cut.image.grid.shape == (5, 10, 14)
    np.testing.assert_array_equal(cut.labels.array, given.labels.array[:5])
    assert SHIFTS["spacing twice too large"](given, rng).image.grid.spacing_mm == (4.0, 1.0, 1.0)


def test_planes_have_no_up_and_down():
    flat = case((10, 14))
    names = shifts_for(flat.image.grid)
    assert set(SHIFTS) - set(names) == {"flipped up-down"}
    for shift in names.values():
        assert shift(flat, np.random.default_rng(0)).image.grid.dims == 2
