"""Centroids against scipy."""

import numpy as np
import pytest
from scipy import ndimage

from delineate.errors import LabelError
from delineate.masks.instances import instance_centroids


def test_centroids_are_those_of_scipy():
    instances = np.random.default_rng(0).integers(0, 9, (7, 8, 9)) * 5
    ids, centres = instance_centroids(instances)
    np.testing.assert_array_equal(ids, np.arange(1, 9) * 5)
    expected = ndimage.center_of_mass(np.ones(instances.shape), instances, ids)
    np.testing.assert_allclose(centres, expected)


def test_background_has_no_centre():
    ids, centres = instance_centroids(np.zeros((3, 4), np.int32))
    assert ids.size == 0
    assert centres.shape == (0, 2)


@pytest.mark.parametrize("wrong", [np.zeros((2, 2)), np.full((2, 2), -1)])
def test_what_is_no_instance_number_is_refused(wrong):
    with pytest.raises(LabelError, match="whole numbers"):
        instance_centroids(wrong)
