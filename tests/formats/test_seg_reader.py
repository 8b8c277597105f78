"""Segmentations of other writers, against the NRRD files that their owners put beside them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from delineate.errors import GeometryError, LabelError
from delineate.formats.dicom.reading import read_dicom
from delineate.formats.dicom.seg_grid import own_source
from delineate.formats.dicom.seg_reader import named_images, read_seg
from delineate.geometry.grid import Grid

pytestmark = [pytest.mark.data, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture(scope="module")
def data() -> Path:
    folder = Path(os.environ.get("DELINEATE_DATA", "")) / "dicom"
    if "DELINEATE_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("needs DELINEATE_DATA: the folder of real data")
    return folder


def nrrd(path: Path, grid: Grid) -> NDArray[Any]:
    """Return a label map on the grid of the images, by SimpleITK."""
    reference = sitk.Image(grid.shape[::-1], sitk.sitkUInt8)
    reference.SetSpacing(grid.spacing_mm[::-1])
    reference.SetOrigin(grid.origin_mm)
    reference.SetDirection(np.array(grid.direction[::-1]).T.ravel().tolist())
    image = sitk.ReadImage(str(path))
    found: NDArray[Any] = sitk.GetArrayFromImage(
        sitk.Resample(image, reference, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    )
    return found


def test_a_binary_segmentation(data: Path) -> None:
    folder = data / "dcmqi" / "segmentations"
    source = read_dicom(folder / "ct-3slice").source
    found = read_seg(folder / "liver.dcm", source)
    assert found.segments[0].type == ("T-62000", "SRT", "Liver")
    assert np.array_equal(found.mask(1), nrrd(folder / "liver_seg.nrrd", source.grid) > 0)
    assert found.mask(1).any()


def test_partly_overlapping_segments(data: Path) -> None:
    folder = data / "dcmqi" / "segmentations"
    source = read_dicom(folder / "ct-3slice").source
    found = read_seg(folder / "partial_overlaps.dcm", source)
    for part, numbers in ((1, (1, 4, 5)), (2, (2,)), (3, (3,))):
        expected = nrrd(folder / f"partial_overlaps-{part}.nrrd", source.grid)
        for number in numbers:
            assert np.array_equal(found.mask(number), expected == number), number
    with pytest.raises(LabelError, match="1 with 2, 1 with 3, 2 with 3"):
        found.labels()


@pytest.mark.parametrize("size", ["23x38x3", "24x38x3"])
def test_bits_of_odd_frames(data: Path, size: str) -> None:
    """23 x 38 bits a frame end in the middle of a byte."""
    folder = data / "dcmqi" / "segmentations" / size
    source = read_dicom(folder / "image").source
    expected = nrrd(folder / "nrrd" / "label.nrrd", source.grid)
    assert np.array_equal(read_seg(folder / "seg" / "label.seg", source).labels(), expected)


@pytest.mark.parametrize("padding", ["noppv", "ppv5"])
def test_label_maps_with_missing_frames(data: Path, padding: str) -> None:
    """Frames that are not there hold the padding value, 5 in one of the files: nothing."""
    folder = data / "dcmqi" / "segmentations"
    source = read_dicom(folder / "24x38x3" / "image").source
    found = read_seg(folder / f"sparse-labelmap-{padding}.dcm", source)
    assert (found.kind, [s.number for s in found.segments]) == ("labelmap", [1])
    assert np.array_equal(found.labels() == 1, nrrd(folder / f"sparse_labelmap_{padding}_seg.nrrd", source.grid) == 1)


def test_a_fractional_segmentation(data: Path) -> None:
    """42 of 60 sagittal planes; the writer's frames run against the order of the images."""
    folder = data / "breast_mr_seg" / "UCSF-BR-06"
    volume = read_dicom(folder / "image_dce_3dfgre_orig", part="content time 102551")
    found = read_seg(folder / "mask" / "1-1.dcm", volume.source)
    stored = pydicom.dcmread(folder / "mask" / "1-1.dcm")
    frames, shares = stored.pixel_array, found.fraction(1)
    assert int(found.mask(1).sum()) == int((frames >= 128).sum()) == 82527
    for frame, group in zip(frames, stored.PerFrameFunctionalGroupsSequence, strict=True):
        position = group.PlanePositionSequence[0].ImagePositionPatient
        plane = min(
            range(volume.source.grid.shape[0]),
            key=lambda z: float(np.abs(np.subtract(volume.source.slices[z].position_mm, position)).max()),
        )
        np.testing.assert_allclose(shares[plane], frame / 255, atol=1e-6)


def test_a_single_frame_of_another_library(data: Path) -> None:
    """One plane of a CT by highdicom, among slides, radiographs and reports in one folder."""
    folder = data / "highdicom"
    file = folder / "seg_image_ct_binary_single_frame.dcm"
    volume = read_dicom(folder, holding=named_images(file))
    found = read_seg(file, volume.source)
    assert found.notices == ()
    assert np.array_equal(found.mask(1)[0], pydicom.dcmread(file).pixel_array.astype(bool))
    assert int(found.mask(1).sum()) == 1832


@pytest.mark.parametrize("name", ["cr_binary", "ct_binary", "ct_binary_overlap", "ct_true_fractional"])
def test_segmentations_of_images_that_are_not_there_are_refused(data: Path, name: str) -> None:
    folder = data / "highdicom"
    source = read_dicom(folder / "ct_image.dcm").source
    with pytest.raises(GeometryError, match=r"another frame of reference|names none of the images"):
        read_seg(folder / f"seg_image_{name}.dcm", source)


@pytest.mark.parametrize(
    ("name", "expected", "number"),
    [
        ("liver.dcm", "liver_seg.nrrd", 1),
        ("24x38x3/seg/label.seg", "24x38x3/nrrd/label.nrrd", 1),
        ("23x38x3/seg/label.seg", "23x38x3/nrrd/label.nrrd", 1),
        ("sparse-labelmap-ppv5.dcm", "sparse_labelmap_ppv5_seg.nrrd", 1),
        ("partial_overlaps.dcm", "partial_overlaps-2.nrrd", 2),
    ],
)
def test_without_images_segments_lie_where_their_writer_put_them(
    data: Path, name: str, expected: str, number: int
) -> None:
    folder = data / "dcmqi" / "segmentations"
    source = own_source(folder / name)
    mask = read_seg(folder / name, source).mask(number)
    other = sitk.ReadImage(str(folder / expected))
    assert mask.any()
    assert np.array_equal(mask, nrrd(folder / expected, source.grid) == number)
    assert int(mask.sum()) == int((sitk.GetArrayFromImage(other) == number).sum())  # none lies beyond the frames
