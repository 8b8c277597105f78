"""Images of every orientation to a label map, to objects and back: every voxel equal, every position the header's.

The label map is made and read by nibabel, positions are computed from the attributes of images and objects alone.
"""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from messy_series import make_series, put_pixels, write_series
from numpy.typing import NDArray
from pydicom import Dataset

from delineate.case import Structure
from delineate.cli.main import main
from delineate.workflows.dicom_draft import load_draft
from delineate.workflows.dicom_out import ExportSettings, export_drafts

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SHAPES = {"square": (3, 6, 6), "non-square": (4, 5, 9)}
SPACINGS = {"isotropic": (2.0, 2.0, 2.0), "anisotropic": (3.3, 0.7, 1.2)}
POSITIONS = ("HFS", "FFS", "HFP", "FFP", "HFDR", "HFDL", "FFDR", "FFDL")
MARKED = 3
"""Label of a single voxel."""
TOLERANCE_MM = 1e-4


def orientations() -> list[NDArray[np.float64]]:
    """All 48: directions of planes, rows and columns, each along one world axis either way."""
    found = []
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            axes = np.zeros((3, 3))
            for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
                axes[axis, world] = sign
            found.append(axes)
    return found


def labels_of(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Two structures, one with a hole, and one voxel; unlike itself in every direction."""
    labels = np.zeros(shape, dtype=np.uint8)
    labels[0:2, 1:4, 0:4] = 1
    labels[1, 2, 1] = 0
    labels[1:, 4, 2:5] = 2
    labels[2, 1, 4] = MARKED
    return labels


def positions_of(planes: list[Dataset], labels: NDArray[np.uint8], value: int) -> NDArray[np.float64]:
    """Return LPS mm of the voxels of a value, by PS3.3 C.7.6.2.1.1 from each plane's own attributes."""
    found = []
    for plane, drawn in zip(planes, labels, strict=True):
        for y, x in np.argwhere(drawn == value):
            found.append(_position(plane.ImagePositionPatient, plane.ImageOrientationPatient, plane.PixelSpacing, y, x))
    return np.array(found)


def _position(position: Any, orientation: Any, spacing: Any, y: int, x: int) -> NDArray[np.float64]:
    along, down = np.array([float(v) for v in orientation]).reshape(2, 3)
    rows_mm, columns_mm = (float(v) for v in spacing)
    place: NDArray[np.float64] = np.array([float(v) for v in position]) + along * columns_mm * x + down * rows_mm * y
    return place


def in_segmentation(file: Path, number: int) -> NDArray[np.float64]:
    """Return LPS mm of the voxels of a segment, by the attributes of its frames."""
    dataset, found = pydicom.dcmread(file), []
    shared, frames = dataset.SharedFunctionalGroupsSequence[0], dataset.pixel_array
    frames = frames.reshape(-1, dataset.Rows, dataset.Columns)
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        if dataset.SegmentationType == "LABELMAP":
            held = frame == number
        else:
            held = (frame > 0) & (int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber) == number)
        for y, x in np.argwhere(held):
            position = group.PlanePositionSequence[0].ImagePositionPatient
            orientation = (group if "PlaneOrientationSequence" in group else shared).PlaneOrientationSequence[0]
            spacing = (group if "PixelMeasuresSequence" in group else shared).PixelMeasuresSequence[0].PixelSpacing
            found.append(_position(position, orientation.ImageOrientationPatient, spacing, y, x))
    return np.array(found)


def in_structure_set(file: Path, number: int) -> NDArray[np.float64]:
    """Return the middle of the points of a structure's only contour, LPS mm."""
    (item,) = [one for one in pydicom.dcmread(file).ROIContourSequence if int(one.ReferencedROINumber) == number]
    (contour,) = item.ContourSequence
    return np.array([float(v) for v in contour.ContourData]).reshape(-1, 3).mean(axis=0, keepdims=True)


def in_nifti(file: Path, value: int) -> NDArray[np.float64]:
    """Return LPS mm of the voxels of a value, by nibabel."""
    image = nibabel.load(file)
    index = np.argwhere(np.asarray(image.dataobj) == value)
    return (index @ image.affine[:3, :3].T + image.affine[:3, 3]) * (-1, -1, 1)


def same_places(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Say whether two sets of points are the same, in any order."""
    apart = np.linalg.norm(one[:, None] - other[None], axis=-1)
    return len(one) == len(other) > 0 and max(apart.min(axis=0).max(), apart.min(axis=1).max()) <= TOLERANCE_MM


def go_round(folder: Path, axes: NDArray[np.float64], shape: tuple[int, int, int], spacing: Any, **how: Any) -> None:
    """Take one series the whole way and compare."""
    planes = make_series(shape=shape, axes=(axes[2], axes[1]), step_mm=axes[0] * spacing[0], spacing_mm=spacing)
    labels = labels_of(shape)
    for plane, drawn in zip(planes, labels, strict=True):
        put_pixels(plane, drawn, bits=12)
        plane.RescaleIntercept, plane.PatientPosition = 0, how["position"]
    write_series(folder / "images", planes)
    images, scan = str(folder / "images"), folder / "scan.nii.gz"
    assert main(["dicom", "to-nifti", images, "-o", str(scan)]) == 0
    image = nibabel.load(scan)
    drawn = np.asarray(image.dataobj).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(drawn, image.affine), folder / "labels.nii.gz")

    names = tuple(Structure(name=f"s{value}", values=(value,)) for value in (1, 2, MARKED))
    loaded = load_draft(folder / "labels.nii.gz", folder / "images", structures=names)
    settings = ExportSettings(holes=how["holes"], seg_kind=how["kind"])
    export_drafts(loaded, {"rtstruct": "rt.dcm", "seg": "seg.dcm"}, folder, settings)
    for door, file in (("from-rtstruct", "rt.dcm"), ("from-seg", "seg.dcm")):
        back = folder / door
        assert main(["dicom", door, str(folder / file), "--images", images, "-o", str(back)]) == 0
        returned = nibabel.load(back / "labels.nii.gz")
        np.testing.assert_array_equal(np.asarray(returned.dataobj), drawn)
        np.testing.assert_allclose(returned.affine, image.affine, atol=1e-6)
        assert same_places(in_nifti(back / "labels.nii.gz", MARKED), positions_of(planes, labels, MARKED))
    for value in (1, 2, MARKED):
        assert same_places(in_nifti(scan, value), positions_of(planes, labels, value))
        assert same_places(in_segmentation(folder / "seg.dcm", value), positions_of(planes, labels, value))
    assert same_places(in_structure_set(folder / "rt.dcm", MARKED), positions_of(planes, labels, MARKED))


def cases(step: int) -> list[Any]:
    """Return every ``step``-th combination; patient position, kind and holes go through theirs on the way."""
    every = list(product(range(48), SPACINGS, SHAPES))
    return [
        pytest.param(number, spacing, shape, id=f"{number}-{spacing}-{shape}")
        for number, spacing, shape in every[::step]
    ]


def run(number: int, spacing: str, shape: str, tmp_path: Path) -> None:
    for kind, holes in (("binary", "keyhole"), ("labelmap", "xor")):
        how = {"kind": kind, "holes": holes, "position": POSITIONS[number % len(POSITIONS)]}
        go_round(tmp_path / kind, orientations()[number], SHAPES[shape], SPACINGS[spacing], **how)


@pytest.mark.parametrize(("number", "spacing", "shape"), cases(23))
def test_some_orientations_come_back(number: int, spacing: str, shape: str, tmp_path: Path) -> None:
    run(number, spacing, shape, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "spacing", "shape"), cases(1))
def test_every_orientation_comes_back(number: int, spacing: str, shape: str, tmp_path: Path) -> None:
    run(number, spacing, shape, tmp_path)
