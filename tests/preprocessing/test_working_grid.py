from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delineate.case import Image, LabelMap
from delineate.errors import GeometryError, InputError
from delineate.formats.images import write_image
from delineate.geometry.grid import Grid
from delineate.geometry.orientation import orientation_codes
from delineate.masks import drop_small_pieces, keep_largest_piece, skin_of
from delineate.preprocessing.working_grid import box_around, from_working_grid, to_working_grid
from strategies import label_maps

PACKAGE = "DELINEATE_TOTALSEGMENTATOR"
"""Folder that holds TotalSegmentator's package, an unpacked wheel for instance."""


@given(label_maps())
def test_labels_come_back_unchanged_at_their_own_spacing(labels: LabelMap) -> None:
    working, trace = to_working_grid(Image(array=labels.array[None], grid=labels.grid), None)
    assert orientation_codes(working.grid) == "RAS"
    np.testing.assert_array_equal(from_working_grid(working.array[0], trace), labels.array)


@given(label_maps(), st.data())
def test_outside_of_the_box_is_background(labels: LabelMap, data: st.DataObject) -> None:
    box = []
    for size in labels.grid.shape:
        start = data.draw(st.integers(0, size - 1))
        box.append((start, data.draw(st.integers(start + 1, size))))
    inside = np.zeros(labels.grid.shape, bool)
    inside[tuple(slice(*side) for side in box)] = True
    image = Image(array=labels.array[None], grid=labels.grid)
    working, trace = to_working_grid(image, None, box=tuple(box))
    np.testing.assert_array_equal(from_working_grid(working.array[0], trace), np.where(inside, labels.array, 0))


def test_values_are_cut_towards_zero() -> None:
    image = Image(array=np.full((1, 4, 4, 4), -99.9, np.float32), grid=Grid.regular((4, 4, 4), (2.0, 2.0, 2.0)))
    working, _ = to_working_grid(image, (1.5, 1.5, 1.5))
    assert working.array.dtype == np.int32
    assert set(np.unique(working.array)) == {-99}


def test_a_scan_at_the_right_spacing_is_left_alone() -> None:
    image = Image(array=np.full((1, 4, 4, 4), 17.5, np.float32), grid=Grid.regular((4, 4, 4), (1.5, 1.5, 1.5)))
    working, _ = to_working_grid(image, (1.5, 1.5, 1.5))
    assert float(working.array.max()) == 17.5


def test_what_would_vanish_in_whole_numbers_is_refused() -> None:
    grid = Grid.regular((4, 4, 4), (2.0, 2.0, 2.0))
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 4, 4, 4)
    with pytest.raises(InputError, match="0 to 1 only"):
        to_working_grid(Image(array=ramp, grid=grid), (1.5, 1.5, 1.5))
    with pytest.raises(InputError, match="no numbers"):
        to_working_grid(Image(array=np.full((1, 4, 4, 4), np.nan), grid=grid), (1.5, 1.5, 1.5))
    with pytest.raises(InputError, match="has 2"):
        to_working_grid(Image(array=np.zeros((2, 4, 4, 4)), grid=grid), None)
    with pytest.raises(GeometryError, match="a plane"):
        to_working_grid(Image(array=np.zeros((1, 4, 4)), grid=Grid.regular((4, 4))), None)


def test_the_box_is_widened_by_whole_voxels_within_the_margin() -> None:
    mask = np.zeros((30, 20, 40), bool)
    mask[10:12, 9, 20:25] = True
    grid = Grid.regular(mask.shape, (3.0, 2.5, 0.8))
    assert box_around(mask, grid, 20.0) == ((4, 18), (1, 18), (0, 40))
    assert box_around(np.zeros_like(mask), grid, 20.0) is None


ORIENTATIONS = {
    "LPS": ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
    "RAS": ((0, 0, 1), (0, -1, 0), (-1, 0, 0)),
    "sagittal, turned": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "oblique": ((0, 0.0998334166468, 0.995004165278), (0, -0.995004165278, 0.0998334166468), (-1, 0, 0)),
}


@pytest.fixture(scope="module")
def package() -> tuple[str, str]:
    interpreter, package = os.environ.get("DELINEATE_ORACLE_PYTHON"), os.environ.get(PACKAGE)
    if not interpreter or not package:
        pytest.skip(f"DELINEATE_ORACLE_PYTHON or {PACKAGE} is not set")
    return interpreter, package


@pytest.mark.oracle
@pytest.mark.parametrize("margin_mm", [None, 5])
@pytest.mark.parametrize("name", ORIENTATIONS)
def test_the_numbers_are_totalsegmentators(package, tmp_path: Path, name: str, margin_mm: int | None) -> None:
    generator = np.random.default_rng(len(name))
    grid = Grid(
        shape=(14, 21, 17), spacing_mm=(2.5, 0.78, 1.31), origin_mm=(-30.0, 12.0, 5.0), direction=ORIENTATIONS[name]
    )
    array = generator.integers(-1000, 1000, (1, *grid.shape)).astype(np.int16)
    mask = np.zeros(grid.shape, bool)
    mask[5:9, 8:15, 4:11] = True
    write_image(tmp_path / "scan.nii.gz", Image(array=array, grid=grid))
    write_image(tmp_path / "mask.nii.gz", Image(array=mask[None], grid=grid))
    spacing = (1.5, 1.5, 1.5)
    request = {"spacing_xyz": spacing, "margin_mm": margin_mm, "labels": 4, "small": 3.4}
    (tmp_path / "request.json").write_text(json.dumps(request))
    script = Path(__file__).with_name("working_grid_oracle_script.py")
    subprocess.run(
        [package[0], "-W", "ignore", str(script), str(tmp_path)],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": package[1]},
    )
    image = Image(array=array, grid=grid)
    box = None if margin_mm is None else box_around(mask, grid, margin_mm)
    working, trace = to_working_grid(image, spacing, box=box)
    np.testing.assert_array_equal(working.array[0], np.load(tmp_path / "working.npy"))
    labels = (np.abs(working.array[0]) // 7 % 4).astype(np.uint8)
    np.testing.assert_array_equal(from_working_grid(labels, trace), np.load(tmp_path / "back.npy"))
    np.testing.assert_array_equal(keep_largest_piece(labels, 1), np.load(tmp_path / "largest.npy"))
    np.testing.assert_array_equal(drop_small_pieces(labels, 2, 3.4), np.load(tmp_path / "small.npy"))
    np.testing.assert_array_equal(skin_of(mask, array[0]), np.load(tmp_path / "skin.npy"))
