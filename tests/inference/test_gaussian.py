"""The Gaussian: peak, symmetry, positivity, and a slow reference by scipy."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from delineate.inference.gaussian import PEAK, gaussian_axis, gaussian_weights


@pytest.mark.parametrize("patch", [(40, 56, 40), (7, 12, 9), (32, 20), (1, 16, 16)])
def test_equals_a_blurred_point(patch):
    point = np.zeros(patch)
    point[tuple(p // 2 for p in patch)] = 1
    blurred = gaussian_filter(point, [p / 8 for p in patch], mode="constant")
    np.testing.assert_allclose(gaussian_weights(patch), PEAK * blurred / blurred.max(), rtol=1e-5)


def test_is_float32_positive_and_highest_at_the_centre():
    weights = gaussian_weights((16, 24, 8))
    assert weights.dtype == np.float32
    assert weights.min() > 0
    assert weights.max() == weights[8, 12, 4] == PEAK


def test_what_underflows_gets_the_smallest_positive_weight():
    assert gaussian_weights((2,) * 14).min() > 0  # e^-8 to the 14th is no float32


def test_axis_cannot_be_changed_by_its_users():
    with pytest.raises(ValueError, match="read-only"):
        gaussian_axis(8)[0] = 1
