from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image as Pillow

from delineate.reports import training_picture
from delineate.reports.training_picture import CURVE, HEIGHT


def pixels(losses, dice) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(training_picture(losses, dice))))


def drawn(picture: np.ndarray) -> np.ndarray:
    """Return the rows and columns of the curve's colour."""
    return np.argwhere((picture == CURVE).all(axis=2))


def test_a_falling_loss_falls() -> None:
    points = drawn(pixels([3.0, 2.0, 1.0], []))
    rows = points[np.argsort(points[:, 1], kind="stable")][:, 0]
    assert rows[0] < rows[-1] < HEIGHT


def test_each_curve_has_its_panel() -> None:
    assert (drawn(pixels([1.0, 2.0], []))[:, 0] < HEIGHT).all()
    assert (drawn(pixels([], [0.1, 0.9]))[:, 0] >= HEIGHT).all()


def test_nothing_known_is_a_picture_too() -> None:
    assert drawn(pixels([], [math.nan])).size == 0


def test_a_single_value() -> None:
    assert drawn(pixels([0.5], [0.5])).size > 0
