import json
import logging

import numpy as np
import PIL.Image
import pytest
import tifffile
from broken_files import OBLIQUE, noise

from delineate.case import Image
from delineate.errors import GeometryError, ImageReadError, UsageError
from delineate.formats.images import read_image, read_labels, write_image
from delineate.geometry.grid import Grid

PLANE = Grid.regular((6, 9))


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_come_back_as_they_were_written(tmp_path, ending, channels):
    image = Image(array=noise(PLANE.shape, channels, np.uint8), grid=PLANE)
    write_image(tmp_path / f"a{ending}", image)
    found = read_image(tmp_path / f"a{ending}")
    assert np.array_equal(found.array, image.array)
    assert found.grid == PLANE
    assert [p.name for p in tmp_path.iterdir()] == [f"a{ending}"]


def test_sixteen_bit_grey_and_colour_keep_their_depth(tmp_path):
    import imagecodecs

    grey = (noise(PLANE.shape, 1, np.uint16) * 300).astype(np.uint16)
    write_image(tmp_path / "a.png", Image(array=grey, grid=PLANE))
    assert np.array_equal(read_image(tmp_path / "a.png").array, grey)
    colour = (noise(PLANE.shape, 3, np.uint16) * 300).astype(np.uint16)
    (tmp_path / "b.png").write_bytes(imagecodecs.png_encode(np.ascontiguousarray(np.moveaxis(colour, 0, -1))))
    assert np.array_equal(read_image(tmp_path / "b.png").array, colour)


def test_colour_pictures_lose_their_alpha_and_palettes_keep_their_colours(tmp_path):
    colours = np.moveaxis(noise(PLANE.shape, 3, np.uint8), 0, -1)
    alpha = np.full((*PLANE.shape, 1), 255, np.uint8)
    PIL.Image.fromarray(np.concatenate([colours, alpha], axis=-1)).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png").array, np.moveaxis(colours, -1, 0))
    indexed = PIL.Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
    indexed = indexed.convert("P")
    indexed.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    indexed.save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png").array[:, 0, 0].tolist() == [10, 20, 30]
    assert read_labels(tmp_path / "p.png").array.tolist() == [[0, 1], [2, 1]]


def test_a_one_bit_mask_is_zero_and_one(tmp_path):
    PIL.Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert read_labels(tmp_path / "a.png").array.tolist() == [[1, 0]]


def test_jpeg_is_read_but_not_written(tmp_path):
    PIL.Image.fromarray(np.zeros((6, 9, 3), np.uint8)).save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").array.shape == (3, 6, 9)
    with pytest.raises(UsageError, match="JPEG nothing without loss"):
        write_image(tmp_path / "b.jpg", Image(array=noise(PLANE.shape, dtype=np.uint8), grid=PLANE))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_tiff_stacks_keep_values_and_spacing(tmp_path, channels, dtype):
    grid = Grid.regular((4, 6, 9), (5.0, 0.5, 0.25))
    image = Image(array=noise(grid.shape, channels, dtype), grid=grid)
    write_image(tmp_path / "case_0000.tif", image)
    assert json.loads((tmp_path / "case.json").read_text()) == {"spacing": [5.0, 0.5, 0.25]}
    found = read_image(tmp_path / "case_0000.tif")
    assert found.grid == grid
    assert found.array.dtype == dtype
    assert np.array_equal(found.array, image.array)


def test_a_stack_without_spacing_is_one_millimetre_and_says_so(tmp_path, caplog):
    tifffile.imwrite(tmp_path / "a.tif", noise((4, 6, 9))[0], photometric="minisblack")
    with caplog.at_level(logging.WARNING):
        assert read_image(tmp_path / "a.tif").grid == Grid.regular((4, 6, 9))
    assert "1 mm" in caplog.text


@pytest.mark.parametrize("content", ['{"spacing": [1, 0, 1]}', '{"spacing": "x"}', "{", '{"spacing": [1]}'])
def test_a_wrong_spacing_file_is_told(tmp_path, content):
    tifffile.imwrite(tmp_path / "a.tif", noise((4, 6, 9))[0], photometric="minisblack")
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ImageReadError, match=r"a\.json: expected"):
        read_image(tmp_path / "a.tif")


def test_a_json_file_about_other_things_does_not_matter(tmp_path):
    write_image(tmp_path / "a.png", Image(array=noise(PLANE.shape, dtype=np.uint8), grid=PLANE))
    (tmp_path / "a.json").write_text('{"author": "x"}')
    assert read_image(tmp_path / "a.png").grid == PLANE


def test_a_plane_keeps_its_spacing_beside_it(tmp_path):
    grid = Grid.regular((6, 9), (0.5, 0.25))
    write_image(tmp_path / "a.png", Image(array=noise(grid.shape, dtype=np.uint8), grid=grid))
    assert json.loads((tmp_path / "a.json").read_text())["spacing"] == [999.0, 0.5, 0.25]
    assert read_image(tmp_path / "a.png").grid == grid


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_origin_and_direction_are_not_lost_silently(tmp_path, name):
    grid = OBLIQUE if name == "a.tif" else Grid(**{**_fields(PLANE), "origin_mm": (1.0, 2.0)})
    with pytest.raises(GeometryError, match=r"cannot hold an origin .* Write \.nii\.gz"):
        write_image(tmp_path / name, Image(array=noise(grid.shape, dtype=np.uint8), grid=grid))


@pytest.mark.parametrize(
    ("array", "grid"),
    [
        (noise((6, 9), 2, np.uint8), PLANE),
        (noise((6, 9), 1, np.float32), PLANE),
        (noise((6, 9), 3, np.uint16), PLANE),
        (noise((4, 6, 9), 1, np.uint8), Grid.regular((4, 6, 9))),
    ],
)
def test_a_picture_holds_only_what_it_can(tmp_path, array, grid):
    with pytest.raises(UsageError, match="a picture can hold"):
        write_image(tmp_path / "a.png", Image(array=array, grid=grid))


def test_a_tiff_with_time_and_channels_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 3, 2, 6, 9), np.uint8), imagej=True, metadata={"axes": "TZCYX"})
    with pytest.raises(ImageReadError, match="one file per channel"):
        read_image(tmp_path / "a.tif")


def _fields(grid):
    return {name: getattr(grid, name) for name in ("shape", "spacing_mm", "origin_mm", "direction")}
