"""Centre-line Dice: broken and thin tubes."""

import math

import numpy as np
import pytest

from delineate.errors import GeometryError
from delineate.metrics.centreline import centre_line_dice


def tube(low, high, length=40):
    mask = np.zeros((length, 11, 11), np.bool_)
    mask[:, low:high, low:high] = True
    return mask


def test_thickness_does_not_matter_and_gaps_do():
    whole = tube(3, 8)
    assert centre_line_dice(whole, whole) == 1
    assert centre_line_dice(tube(4, 7), whole) > 0.95
    broken = whole.copy()
    broken[15:25] = False
    assert centre_line_dice(broken, whole) == pytest.approx(2 * 0.75 / 1.75, abs=0.05)


def test_planes_and_empty_masks():
    line = tube(3, 8)[:, 5]
    assert centre_line_dice(line, line) == 1
    assert centre_line_dice(np.zeros_like(line), line) == 0
    assert centre_line_dice(line, np.zeros_like(line)) == 0
    assert math.isnan(centre_line_dice(np.zeros_like(line), np.zeros_like(line)))
    upper = np.arange(40)[:, None] < 20
    assert centre_line_dice(line & upper, line & ~upper) == 0


def test_shapes_must_agree():
    with pytest.raises(GeometryError, match="equal shapes"):
        centre_line_dice(np.zeros((2, 2), np.bool_), np.zeros((2, 3), np.bool_))
