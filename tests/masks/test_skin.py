from __future__ import annotations

import numpy as np

from delineate.masks import skin_of


def test_a_ball_has_a_skin_of_its_surface() -> None:
    z, y, x = np.indices((40, 40, 40)) - 19.5
    radius = np.sqrt(z**2 + y**2 + x**2)
    body = radius < 14
    intensities = np.where(radius < 15.5, 40, -1000)
    skin = skin_of(body, intensities)
    assert skin[radius.round() == 14].mean() > 0.9
    assert not skin[radius < 10].any()
    assert not skin[radius > 16].any()


def test_air_and_bone_are_no_skin() -> None:
    body = np.zeros((20, 20, 20), bool)
    body[4:16, 4:16, 4:16] = True
    assert not skin_of(body, np.full(body.shape, -900)).any()
    assert not skin_of(body, np.full(body.shape, 900)).any()
    assert skin_of(body, np.full(body.shape, 0)).any()
