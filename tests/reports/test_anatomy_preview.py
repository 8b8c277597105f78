from __future__ import annotations

import io

import numpy as np
from PIL import Image as Pillow

from delineate.reports.anatomy_preview import LONGEST_SIDE, anatomy_preview

RED, BLUE = (255, 0, 0), (0, 0, 255)


def drawn(labels: np.ndarray, spacing=(1.0, 1.0, 1.0)) -> np.ndarray:
    picture = anatomy_preview(labels, np.zeros(labels.shape, np.int16), spacing, {1: RED, 2: BLUE})
    return np.asarray(Pillow.open(io.BytesIO(picture)).convert("RGB")).astype(int)


def test_the_right_is_on_the_left_and_the_head_on_top() -> None:
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[30:36, 10:30, 30:36] = 1  # head, right
    labels[4:10, 10:30, 4:10] = 2  # feet, left
    front = drawn(labels)[:, :380]
    red = np.argwhere((front[..., 0] > 80) & (front[..., 2] < 40)).mean(axis=0)
    blue = np.argwhere((front[..., 2] > 80) & (front[..., 0] < 40)).mean(axis=0)
    assert red[0] < blue[0]
    assert red[1] < blue[1]


def test_what_is_in_front_hides_what_is_behind() -> None:
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[5:15, 15:18, 5:15] = 1
    labels[5:15, 2:5, 5:15] = 2
    front = drawn(labels)[:, :380]
    assert (front[..., 0] > 150).any()
    assert not (front[..., 2] > 100).any()


def test_panels_have_the_shape_of_the_body() -> None:
    flat = drawn(np.ones((10, 30, 40), np.uint8), (5.0, 1.0, 2.0))
    assert flat.shape[1] <= LONGEST_SIDE
    assert abs(flat.shape[0] / flat.shape[1] - 50 / (80 + 80 + 30 + 80)) < 0.02


def test_nothing_found_still_gives_a_picture() -> None:
    assert drawn(np.zeros((7, 5, 3), np.uint8)).size
