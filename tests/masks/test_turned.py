"""Masks that fit only when they are turned, and masks that are merely bad."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from delineate.errors import GeometryError
from delineate.masks import turned
from delineate.masks.turned import likely_turn


def organ() -> np.ndarray:
    mask = np.zeros((10, 14, 14), np.bool_)
    mask[1:4, 2:6, 7:12] = True
    mask[1:8, 2:4, 10:12] = True
    return mask


@pytest.mark.parametrize("flipped", [axes for n in (1, 2, 3) for axes in itertools.combinations(range(3), n)])
def test_every_flip_is_found(flipped: tuple[int, ...]) -> None:
    found = likely_turn(np.flip(organ(), flipped), organ())
    assert found is not None
    assert (found.order, found.flipped, found.dice_after) == ((0, 1, 2), flipped, 1.0)
    assert "flipped" in found.words()


def test_exchanged_axes_are_found_and_put_into_words() -> None:
    found = likely_turn(organ().transpose(0, 2, 1), organ())
    assert found is not None
    assert np.array_equal(np.flip(organ().transpose(0, 2, 1).transpose(found.order), found.flipped), organ())
    assert found.words() == "axes 1 and 2 exchanged"
    plane = organ().any(axis=0)
    assert likely_turn(plane.T, plane) is not None


def test_good_bad_and_empty_masks_are_not_turned() -> None:
    assert likely_turn(np.roll(organ(), 1, axis=2), organ()) is None
    assert likely_turn(np.random.default_rng(0).random(organ().shape) < 0.1, organ()) is None
    assert likely_turn(np.zeros_like(organ()), organ()) is None
    symmetrical = organ() | np.flip(organ(), 2)
    assert likely_turn(np.flip(symmetrical, 2), symmetrical) is None


def test_large_masks_are_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turned, "MOST_VOXELS", 300)
    found = likely_turn(np.flip(organ(), 1), organ())
    assert found is not None
    assert found.flipped == (1,)


def test_shapes_must_agree() -> None:
    with pytest.raises(GeometryError, match="equal shapes"):
        likely_turn(organ(), organ()[1:])
