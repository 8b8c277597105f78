"""Turning images as nnU-Net's reorienting readers do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from delineate.case import Image, LabelMap
from delineate.geometry.grid import Grid
from delineate.preprocessing.reader_orientation import reader_turning, turn_array_back, turn_image, turn_labels_back
from formats.nnunet.trained_models import plan

READERS = ("NibabelIOWithReorient", "SimpleITKIOWithReorient")
# the array axes z, y, x of the turned image run to S, A, R
RAS = ((0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (-1.0, 0.0, 0.0))


def sagittal() -> Image:
    """An image whose axes are neither in order nor in the usual direction."""
    grid = Grid(
        shape=(3, 4, 5),
        spacing_mm=(3.0, 2.0, 1.0),
        origin_mm=(10.0, 20.0, 30.0),
        direction=((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)),
    )
    return Image(array=np.arange(60.0).reshape(1, 3, 4, 5), grid=grid)


@pytest.mark.parametrize("reader", READERS)
def test_images_are_turned_to_ras_and_back(reader) -> None:
    image = sagittal()
    turning = reader_turning(plan(image_reader=reader), image.grid)
    turned = turn_image(image, turning)
    assert turned.grid.direction == RAS
    assert turned.grid.spacing_mm == (2.0, 1.0, 3.0)
    labels = LabelMap(array=turned.array[0].astype(np.int16), grid=turned.grid)
    back = turn_labels_back(labels, turning, image.grid)
    np.testing.assert_array_equal(back.array, image.array[0])
    assert back.grid == image.grid
    np.testing.assert_array_equal(turn_array_back(turned.array, turning), image.array)


def test_every_voxel_keeps_its_place_in_the_world() -> None:
    image = sagittal()
    turned = turn_image(image, reader_turning(plan(image_reader=READERS[0]), image.grid))
    for index in ((0, 0, 0), (1, 2, 0), (3, 4, 2)):
        value = turned.array[(0, *index)]
        (old,) = np.argwhere(image.array[0] == value)
        np.testing.assert_allclose(turned.grid.affine @ (*index, 1), image.grid.affine @ (*old, 1))


def test_other_readers_and_planes_turn_nothing() -> None:
    image = sagittal()
    assert turn_image(image, reader_turning(plan(image_reader="NibabelIO"), image.grid)) is image
    plane = Image(array=np.zeros((1, 4, 5)), grid=Grid.regular((4, 5)))
    assert turn_image(plane, reader_turning(replace(plan(), image_reader=READERS[0]), plane.grid)) is plane
