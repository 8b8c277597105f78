"""Overlay pictures: what is in them, and where."""

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image as Pillow
from report_examples import SCHEME, draw, labels_of, score

from delineate.case.image import Image, LabelMap
from delineate.errors import GeometryError
from delineate.geometry.grid import Grid
from delineate.metrics.scores import evaluate_case
from delineate.reports.overlays import WIDTH, PictureSettings, picture_case

PLANE = Grid.regular((30, 40), (0.5, 0.5))


def evaluated(prediction, reference):
    structures = tuple((s.name, s.values) for s in SCHEME.structures)
    return evaluate_case(prediction, reference, structures, voxel_volume_mm3=1, case_id="c", patient_id="p")


def panels_of(overlay):
    return ElementTree.fromstring(overlay.svg).findall("./g/g/svg")


def pictures_of(overlay):
    found = [panel.find("image").get("href") for panel in panels_of(overlay)]
    return [np.asarray(Pillow.open(io.BytesIO(base64.b64decode(href.split(",", 1)[1])))) for href in found]


def test_volumes_have_three_planes_at_one_scale():
    overlay = draw()
    shapes = [picture.shape for picture in pictures_of(overlay)]
    assert shapes == [(14, 16), (12, 16), (12, 14)]
    sizes = [(float(p.get("height")), float(p.get("width"))) for p in panels_of(overlay)]
    scale = sizes[0][1] / 16
    np.testing.assert_allclose(
        sizes, [(14 * scale, 16 * scale), (36 * scale, 16 * scale), (36 * scale, 14 * scale)], rtol=1e-3
    )
    assert re.findall(r'class="name">(\w+)<', overlay.svg) == ["axial", "coronal", "sagittal"]


def test_planes_have_one_picture_without_letters():
    overlay = draw(grid=PLANE)
    (picture,) = pictures_of(overlay)
    assert picture.shape == (30, 40)
    assert not re.search(">[RLAPSI]</text>", overlay.svg)


def test_volumes_of_one_slice_have_one_picture():
    assert len(panels_of(draw(grid=Grid.regular((1, 30, 40))))) == 1


def test_colour_images_are_shown_in_colour():
    assert pictures_of(draw(grid=PLANE, channels=3))[0].shape == (30, 40, 3)
    assert pictures_of(draw(grid=PLANE, channels=3, settings=PictureSettings(colour=False)))[0].ndim == 2
    assert pictures_of(draw(channels=3))[0].ndim == 2


def test_eight_bit_colours_are_kept():
    grid = Grid.regular((20, 24))
    array = np.random.default_rng(1).integers(0, 256, (3, *grid.shape)).astype(np.uint8)
    labels = LabelMap(array=labels_of(grid.shape), grid=grid)
    overlay = picture_case(score(), Image(array=array, grid=grid), labels, labels, SCHEME, role="best")
    np.testing.assert_array_equal(pictures_of(overlay)[0], np.moveaxis(array, 0, -1))


def picture_of(image, reference, prediction, grid, **more):
    maps = (LabelMap(array=array, grid=grid) for array in (reference, prediction))
    scores = evaluated(prediction, reference)
    return picture_case(scores, Image(array=image[None], grid=grid), *maps, SCHEME, role="worst", **more)


def test_outlines_lie_on_the_masks_they_belong_to():
    grid = Grid.regular((40, 50))
    reference, prediction = np.zeros((2, *grid.shape), np.uint8)
    reference[10:20, 10:30] = 1
    prediction[12:20, 10:35] = 1
    overlay = picture_of(np.zeros(grid.shape, np.float32), reference, prediction, grid)
    (panel,) = panels_of(overlay)
    scale = float(panel.get("width")) / pictures_of(overlay)[0].shape[1]
    # the shown part begins where a margin of 15 pixels around the structures meets the border: at (0, 0)
    for source, mask in (("reference", reference), ("prediction", prediction)):
        path = panel.find(f"./g[@class='{source}']/path[@class='outline']").get("d")
        points = np.array(re.findall(r"([\d.]+) ([\d.]+)", path), float)[:, ::-1] / scale
        inside = np.argwhere(mask)
        np.testing.assert_allclose(points.min(axis=0), inside.min(axis=0), atol=0.02)
        np.testing.assert_allclose(points.max(axis=0), inside.max(axis=0) + 1, atol=0.02)


def test_the_slice_goes_through_the_worst_structure():
    grid = Grid.regular((20, 16, 16))
    reference = np.zeros(grid.shape, np.uint8)
    reference[2:8, 4:12, 4:12] = 1
    reference[15, 5:9, 5:9] = 2
    prediction = np.where(reference == 2, 0, reference)
    image = np.broadcast_to(np.arange(20, dtype=np.float32)[:, None, None], grid.shape)
    overlay = picture_of(image, reference, prediction, grid, settings=PictureSettings(window=(0.0, 255.0)))
    assert set(np.unique(pictures_of(overlay)[0])) == {15}
    assert overlay.shown == "Planes through the largest section of lesion, the structure with the lowest Dice here."


def test_flipped_grids_show_the_same_picture():
    straight = Grid.regular((12, 14, 16))
    flipped = Grid(
        shape=(16, 14, 12),
        spacing_mm=(1.0,) * 3,
        origin_mm=(0.0,) * 3,
        direction=((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    )
    reference = labels_of(straight.shape, 1.5)
    image = np.random.default_rng(2).normal(size=straight.shape).astype(np.float32)

    def drawn(grid, move):
        labels = LabelMap(array=move(reference), grid=grid)
        return picture_case(score(), Image(array=move(image)[None], grid=grid), labels, labels, SCHEME, role="best").svg

    assert drawn(straight, lambda a: a) == drawn(flipped, lambda a: np.flip(a.T, 0))


def test_empty_cases_show_the_middle():
    grid = Grid.regular((10, 12, 14))
    empty = LabelMap(array=np.zeros(grid.shape, np.uint8), grid=grid)
    scores = evaluated(empty.array, empty.array)
    image = Image(array=np.zeros((1, *grid.shape), np.int16), grid=grid)
    overlay = picture_case(scores, image, empty, empty, SCHEME, role="only")
    assert [picture.shape for picture in pictures_of(overlay)] == [(12, 14), (10, 14), (10, 12)]
    assert 'class="outline"' not in overlay.svg


def test_pictures_are_as_wide_as_the_page_at_most_and_equal_each_time():
    for grid in (None, PLANE, Grid.regular((3, 90, 90), (9.0, 0.4, 0.4))):
        width = float(ElementTree.fromstring(draw(grid=grid).svg).get("viewBox").split()[2])
        assert width <= WIDTH + 1e-6
    assert draw() == draw()


def test_no_patient_is_named():
    assert "Jane" not in repr(draw())


def test_label_maps_of_another_shape_are_refused():
    image = Image(array=np.zeros((1, *PLANE.shape)), grid=PLANE)
    other = LabelMap(array=np.zeros((3, 3), int), grid=Grid.regular((3, 3)))
    with pytest.raises(GeometryError, match=r"Case case_0: .*\(30, 40\); got \(3, 3\)"):
        picture_case(score(), image, other, other, SCHEME, role="best")


def test_missing_channels_are_refused():
    with pytest.raises(GeometryError, match="has 1 channel"):
        draw(settings=PictureSettings(channel=1))
