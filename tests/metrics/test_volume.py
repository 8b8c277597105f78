"""Volumes and their errors."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delineate.errors import GeometryError
from delineate.metrics.volume import (
    absolute_volume_error,
    relative_volume_error,
    signed_volume_error,
    volume_ml,
    volume_mm3,
)

volumes = st.floats(0, 1e7, allow_nan=False)


def test_a_litre_of_cubic_millimetres():
    assert volume_mm3(500_000, 2.0) == 1e6
    assert volume_ml(500_000, 2.0) == 1000.0


@given(volumes, volumes)
def test_errors_have_sign_and_size(predicted, reference):
    signed = signed_volume_error(predicted, reference)
    if predicted == reference == 0:
        assert math.isnan(signed)
        return
    assert signed == -signed_volume_error(reference, predicted)
    assert absolute_volume_error(predicted, reference) == abs(signed)
    if reference > 0:
        assert relative_volume_error(predicted, reference) == pytest.approx(signed / reference)


def test_without_reference_there_is_no_relative_error():
    assert math.isnan(relative_volume_error(3.0, 0.0))
    assert relative_volume_error(0.0, 3.0) == -1.0


@pytest.mark.parametrize("voxel", [0.0, -1.0, math.nan, math.inf])
def test_a_voxel_needs_a_volume(voxel):
    with pytest.raises(GeometryError, match="positive"):
        volume_ml(1, voxel)
