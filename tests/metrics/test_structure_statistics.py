from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from delineate.case import LabelMap
from delineate.geometry.grid import Grid
from delineate.metrics.structure_statistics import structure_statistics
from strategies import label_maps

NAMES = {1: "a", 2: "b", 5: "c"}


@given(label_maps(), st.integers(0, 1000))
def test_numbers_are_those_of_plain_masks(labels: LabelMap, seed: int) -> None:
    values = np.random.default_rng(seed).integers(-1000, 1000, labels.array.shape).astype(np.int16)
    found = structure_statistics(labels.array, values, labels.grid, NAMES)
    assert list(found) == ["a", "b", "c"]
    for value, name in NAMES.items():
        mask, one = labels.array == value, found[name]
        assert one.voxels == mask.sum()
        np.testing.assert_allclose(one.volume_mm3, mask.sum() * labels.grid.voxel_volume_mm3)
        if not mask.any():
            assert (one.mean, one.median, one.centroid_mm, one.truncated) == (None, None, None, False)
            continue
        np.testing.assert_allclose([one.mean, one.median], [values[mask].mean(), np.median(values[mask])])
        places = [(labels.grid.affine @ (*index, 1))[:3] for index in np.argwhere(mask)]
        np.testing.assert_allclose(one.centroid_mm, np.mean(places, axis=0), atol=1e-3)


def test_three_voxels_from_the_border_count_as_cut() -> None:
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[3:17, 8, 8] = 1
    labels[2, 10, 10] = 2
    labels[10, 12, 17] = 5
    found = structure_statistics(labels, labels, Grid.regular(labels.shape), NAMES)
    assert [found[name].truncated for name in "abc"] == [False, True, True]
    assert found["a"].volume_ml == 0.014
