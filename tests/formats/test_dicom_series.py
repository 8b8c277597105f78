from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK

from delineate.errors import ImageReadError
from delineate.formats.dicom_series import read_series
from delineate.formats.images import read_image

sitk: Any = SimpleITK
DATA = os.environ.get("DELINEATE_DATA")
SERIES = "1.2.826.0.1.3680043.8.498.1"
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
CORONAL = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0))


def write_slice(
    folder: Path,
    number: int,
    array: np.ndarray,
    *,
    position: tuple[float, ...],
    axes=AXIAL,
    series: str = SERIES,
    spacing: tuple[float, float] = (0.75, 0.5),
) -> None:
    """Write one slice (y, x); spacing is (row, column) distance."""
    image = sitk.GetImageFromArray(array[None].astype(np.int16))
    image.SetSpacing((spacing[1], spacing[0], 1.0))
    cosines = [*axes[0], *axes[1]]
    for tag, value in {
        "0008|0060": "CT",
        "0020|000d": "1.2.826.0.1.3680043.8.498.2",
        "0020|000e": series,
        "0020|0013": str(number),
        "0020|0032": "\\".join(f"{v:.6f}" for v in position),
        "0020|0037": "\\".join(f"{v:.6f}" for v in cosines),
        "0028|1052": "-1024",
        "0028|1053": "1",
    }.items():
        image.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(folder / f"slice_{series[-1]}_{number:03d}.dcm"))
    writer.Execute(image)


def write_stack(folder: Path, heights, **options) -> np.ndarray:
    generator = np.random.default_rng(4)
    folder.mkdir(exist_ok=True)
    arrays = generator.integers(-1000, 1000, (len(heights), 6, 5))
    for number, (array, height) in enumerate(zip(arrays, heights, strict=True)):
        write_slice(folder, number, array, position=(-10.0, 4.0, height), **options)
    return arrays


def test_slices_are_put_in_order_by_their_positions(tmp_path: Path) -> None:
    heights = [6.0, 0.0, 10.0, 2.0, 8.0, 4.0]
    arrays = write_stack(tmp_path / "s", heights)
    image = read_image(tmp_path / "s")
    np.testing.assert_array_equal(image.array[0], arrays[np.argsort(heights)])
    assert image.grid.spacing_mm == (2.0, 0.75, 0.5)
    assert image.grid.origin_mm == (-10.0, 4.0, 0.0)
    np.testing.assert_allclose(image.grid.direction, [(0, 0, 1), (0, 1, 0), (1, 0, 0)])


def test_coronal_slices_run_along_their_normal(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    arrays = np.random.default_rng(1).integers(-1000, 1000, (3, 6, 5))
    for number, array in enumerate(arrays):
        write_slice(folder, number, array, position=(0.0, 5.0 * number, 0.0), axes=CORONAL)
    image = read_series(folder)
    normal = np.array(image.grid.direction[0])
    np.testing.assert_allclose(normal, np.cross(*CORONAL))
    expected = arrays if normal[1] > 0 else arrays[::-1]
    np.testing.assert_array_equal(image.array[0], expected)
    last = image.grid.affine @ (2, 0, 0, 1)
    np.testing.assert_allclose(sorted([image.grid.origin_mm[1], last[1]]), [0.0, 10.0])


@pytest.mark.parametrize(
    ("heights", "message"),
    [
        ([0.0, 2.0, 4.0, 8.0, 10.0], "at 1 places not 2 mm"),
        ([0.0, 2.0, 2.0, 4.0, 6.0], "several slices lie at one place"),
        ([0.0, 2.0, 4.2, 6.0, 8.0], "Slices are missing, or the spacing varies"),
        ([0.0], "found a single one"),
    ],
)
def test_incomplete_stacks_are_refused(tmp_path: Path, heights: list[float], message: str) -> None:
    write_stack(tmp_path / "s", heights)
    with pytest.raises(ImageReadError, match=message):
        read_series(tmp_path / "s")


def test_several_series_are_refused(tmp_path: Path) -> None:
    write_stack(tmp_path / "s", [0.0, 2.0, 4.0])
    write_stack(tmp_path / "s", [0.0, 2.0, 4.0], series=SERIES[:-1] + "7")
    with pytest.raises(ImageReadError, match="expected one DICOM series; found 2"):
        read_series(tmp_path / "s")


def test_mixed_orientations_and_spacings_are_refused(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", [0.0, 2.0, 4.0])
    write_slice(tmp_path / "a", 9, np.zeros((6, 5)), position=(0, 0, 6.0), axes=CORONAL)
    with pytest.raises(ImageReadError, match="orientations"):
        read_series(tmp_path / "a")
    write_stack(tmp_path / "b", [0.0, 2.0, 4.0])
    write_slice(tmp_path / "b", 9, np.zeros((6, 5)), position=(-10, 4, 6.0), spacing=(0.7, 0.5))
    with pytest.raises(ImageReadError, match="pixel spacings"):
        read_series(tmp_path / "b")
    write_stack(tmp_path / "c", [0.0, 2.0, 4.0])
    write_slice(tmp_path / "c", 9, np.zeros((6, 6)), position=(-10, 4, 6.0))
    with pytest.raises(ImageReadError, match="rows and columns"):
        read_series(tmp_path / "c")


def test_a_tilted_gantry_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    for number in range(4):
        write_slice(folder, number, np.zeros((6, 5)), position=(0.0, 0.5 * number, 2.0 * number))
    with pytest.raises(ImageReadError, match="tilted gantry"):
        read_series(folder)


def test_a_folder_without_dicom_is_told(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(ImageReadError, match="a folder without DICOM"):
        read_series(tmp_path)


def test_other_files_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_stack(tmp_path / "s", [0.0, 2.0, 4.0])
    (tmp_path / "s" / "notes.txt").write_text("hello")
    assert read_series(tmp_path / "s").grid.shape == (3, 6, 5)
    assert "1 other files" in caplog.text


@pytest.mark.data
def test_a_real_series_lies_where_its_segmentation_lies() -> None:
    if not DATA:
        pytest.skip("DELINEATE_DATA is not set")
    folder = Path(DATA) / "totalseg_reference"
    scan, masks = read_image(folder / "example_ct_dicom"), read_image(folder / "example_seg_dicom.nii.gz")
    assert scan.grid.shape == (20, 512, 512)
    corners = [grid.affine @ (*index, 1) for grid in (scan.grid, masks.grid) for index in ((0, 0, 0), (19, 511, 511))]
    low = [np.minimum(corners[i], corners[i + 1]) for i in (0, 2)]
    np.testing.assert_allclose(low[0], low[1], atol=0.01)
