"""Shapes of instances against scikit-image, one instance at a time there and all at once here."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import ConvexHull
from skimage.measure import regionprops_table

from delineate.errors import GeometryError
from delineate.masks.instance_shapes import measure_instances
from instance_pictures import picture_of

NAMES = {
    "area": "area",
    "perimeter": "perimeter",
    "equivalent_diameter": "equivalent_diameter_area",
    "major_axis": "axis_major_length",
    "minor_axis": "axis_minor_length",
    "eccentricity": "eccentricity",
    "orientation_rad": "orientation",
    "centroid_y": "centroid-0",
    "centroid_x": "centroid-1",
    "min_y": "bbox-0",
    "max_x": "bbox-3",
    "mean_1": "intensity_mean-1",
    "std_2": "intensity_std-2",
}


def blobs(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(generator.standard_normal((70, 90)), 2)
    labels = ndimage.label(noise > 0.1 * noise.std())[0].astype(np.int32)
    halves = np.where(labels > 0, labels * 3 + (np.arange(90) // 11) % 2, 0)  # gaps in the numbers, touching neighbours
    return halves.astype(np.int32)


@pytest.mark.parametrize("seed", range(4))
def test_shapes_are_those_of_scikit_image(seed: int) -> None:
    labels = blobs(seed)
    picture = picture_of(labels, seed, colour=True)
    properties = sorted({name.split("-")[0] for name in NAMES.values()} | {"label"})
    expected = regionprops_table(labels, picture.astype(float), properties=properties)
    found = measure_instances(labels, picture)
    assert found["label"].tolist() == expected["label"].tolist()
    for ours, theirs in NAMES.items():
        many = expected["area"] > 2  # of one or two pixels the axes are rounding errors there
        assert np.allclose(found[ours][many], expected[theirs][many], atol=1e-5), ours


@pytest.mark.parametrize("seed", range(3))
def test_solidity_is_the_area_over_the_hull_of_the_corners(seed: int) -> None:
    labels = blobs(seed)
    found = measure_instances(labels)
    for number, solidity in zip(found["label"], found["solidity"], strict=True):
        y, x = np.nonzero(labels == number)
        corners = np.concatenate([np.stack([y + a, x + b], 1) for a in (0, 1) for b in (0, 1)])
        assert solidity == pytest.approx(len(y) / ConvexHull(corners).volume, rel=0.04)


def test_a_rectangle_is_solid_and_lengths_have_the_unit_of_the_pixel() -> None:
    labels = np.zeros((20, 30), dtype=np.int32)
    labels[5:9, 10:22] = 3
    found = measure_instances(labels, pixel=0.5)
    assert found["solidity"][0] == pytest.approx(1)
    assert found["area"][0] == 12
    assert found["perimeter"][0] == pytest.approx(measure_instances(labels)["perimeter"][0] / 2)


def test_nothing_and_other_sizes() -> None:
    nothing = measure_instances(np.zeros((4, 5), dtype=np.int32), np.zeros((4, 5, 3)))
    assert {len(column) for column in nothing.values()} == {0}
    with pytest.raises(GeometryError, match="one size"):
        measure_instances(np.zeros((4, 5), dtype=np.int32), np.zeros((5, 4, 3)))


def test_thousands_take_a_fraction_of_a_second() -> None:
    y, x = np.mgrid[:1000, :1000]
    inside = np.hypot(y % 20 - 10, x % 20 - 10) <= 8
    labels = np.where(inside, y // 20 * 50 + x // 20 + 1, 0).astype(np.int32)
    began = time.process_time()
    assert len(measure_instances(labels, picture_of(labels, 0, colour=True))["area"]) == 2500
    assert time.process_time() - began < 3
