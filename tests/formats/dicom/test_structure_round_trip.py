"""Shapes through the writer and back: the project's reader, a point-in-polygon rasteriser, and foreign programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from messy_series import make_series, write_series
from numpy.typing import NDArray
from skimage.draw import polygon2mask
from structure_shapes import ANALYTIC_ML, SHAPE, SPACING, dice, shapes
from test_structure_set_reading import write_labels_as_rtstruct

from delineate.formats.dicom.contour_filling import contour_points
from delineate.formats.dicom.reading import DicomVolume, read_dicom
from delineate.formats.dicom.rtstruct_reader import read_rtstruct

ORACLE = os.environ.get("DELINEATE_DICOM_ORACLE_PYTHON")
SHAPES = shapes()


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> DicomVolume:
    folder = tmp_path_factory.mktemp("round_trip") / "images"
    write_series(folder, make_series(shape=SHAPE, spacing_mm=SPACING, origin_mm=(-125.1, -120.3, -70.0)))
    return read_dicom(folder)


def by_voxel_centres(file: Path, volume: DicomVolume) -> NDArray[np.bool_]:
    """Ask for every centre whether it lies in an odd number of contours, with nothing of the project's reader."""
    grid = volume.image.grid
    mask = np.zeros(grid.shape, dtype=bool)
    for contour in pydicom.dcmread(file).ROIContourSequence[0].ContourSequence:
        x, y, z = ((contour_points(contour) - np.array(grid.origin_mm)) / np.array(grid.spacing_mm)[::-1]).T
        mask[round(float(z[0]))] ^= polygon2mask(grid.shape[1:], np.stack([y, x], axis=1))
    return mask


@pytest.mark.slow
@pytest.mark.parametrize("holes", ["keyhole", "xor"])
@pytest.mark.parametrize("name", SHAPES)
def test_shapes_come_back_voxel_for_voxel(name: str, holes: str, volume: DicomVolume, tmp_path: Path) -> None:
    mask = SHAPES[name]
    write_labels_as_rtstruct(tmp_path / "rt.dcm", mask.astype(np.uint8), volume, holes=holes)
    read = read_rtstruct(tmp_path / "rt.dcm", volume.source)
    np.testing.assert_array_equal(read.structures[0].mask, mask)
    assert read.notices == ()
    np.testing.assert_array_equal(by_voxel_centres(tmp_path / "rt.dcm", volume), mask)


@pytest.mark.parametrize("name", ANALYTIC_ML)
def test_volumes_are_those_of_the_ideal_bodies(name: str, volume: DicomVolume, tmp_path: Path) -> None:
    """By the attribute, by the area of the contours themselves, and by the mask that is read back."""
    written = write_labels_as_rtstruct(tmp_path / "rt.dcm", SHAPES[name].astype(np.uint8), volume)
    area = 0.0
    for contour in written.ROIContourSequence[0].ContourSequence:
        x, y, _ = np.array([float(v) for v in contour.ContourData]).reshape(-1, 3).T
        area += abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
    by_contours = area * SPACING[0] / 1000
    by_mask = (
        float(read_rtstruct(tmp_path / "rt.dcm", volume.source).structures[0].mask.sum()) * np.prod(SPACING) / 1000
    )
    assert float(written.StructureSetROISequence[0].ROIVolume) == pytest.approx(by_contours, rel=1e-4)
    assert by_contours == pytest.approx(by_mask, rel=1e-4)
    assert by_contours == pytest.approx(ANALYTIC_ML[name], rel=0.02)  # what voxels make of a curved surface


@pytest.mark.slow
@pytest.mark.oracle
def test_foreign_programs_read_what_was_written(tmp_path: Path) -> None:
    if not ORACLE:
        pytest.skip("DELINEATE_DICOM_ORACLE_PYTHON is not set")
    write_series(tmp_path / "images", make_series(shape=SHAPE, spacing_mm=SPACING, origin_mm=(-125.1, -120.3, -70.0)))
    volume = read_dicom(tmp_path / "images")
    files = []
    for holes in ("keyhole", "xor"):
        for number, mask in enumerate(SHAPES.values()):
            files.append(tmp_path / f"{holes}{number}.dcm")
            write_labels_as_rtstruct(files[-1], mask.astype(np.uint8), volume, holes=holes)
    script = Path(__file__).with_name("structure_oracle_script.py")
    command = [ORACLE, str(script), str(tmp_path / "images"), str(tmp_path / "out.npz"), *map(str, files)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    sys.stdout.write("\n".join(["", *(line for line in done.stderr.splitlines() if "cannot read" in line), ""]))
    found = np.load(tmp_path / "out.npz")
    scores: dict[tuple[str, str, str], float] = {}
    for position, (holes, name) in enumerate((holes, name) for holes in ("keyhole", "xor") for name in SHAPES):
        for reader in ("dcmrtstruct2nii", "rt-utils", "platipy"):
            key = f"{position}:{reader}"
            scores[holes, name, reader] = dice(found[key], SHAPES[name]) if key in found else float("nan")
        line = "  ".join(f"{scores[holes, name, r]:.3f}" for r in ("dcmrtstruct2nii", "rt-utils", "platipy"))
        sys.stdout.write(f"{holes:<8} {name:<16} {line}\n")
    for name in SHAPES:
        assert scores["keyhole", name, "dcmrtstruct2nii"] == 1.0
    for reader in ("rt-utils", "platipy"):
        assert scores["keyhole", "sphere r30", reader] >= 0.97
        assert scores["keyhole", "shell 30-24", reader] >= 0.90
