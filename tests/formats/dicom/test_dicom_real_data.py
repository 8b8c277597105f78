"""Real studies: volumes equal another reader's, twins equal each other, structure sets equal another rasteriser's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from numpy.typing import NDArray
from skimage.draw import polygon2mask

from delineate.errors import GeometryError, ImageReadError
from delineate.formats.dicom.contour_filling import contour_points
from delineate.formats.dicom.reading import DicomVolume, inspect_dicom, read_dicom
from delineate.formats.dicom.rtstruct_reader import read_rtstruct
from delineate.formats.images import read_image

sitk: Any = SimpleITK
DATA = os.environ.get("DELINEATE_DATA")
pytestmark = [pytest.mark.data, pytest.mark.skipif(not DATA, reason="DELINEATE_DATA is not set")]
DICOM = Path(DATA or ".") / "dicom"
STS = DICOM / "sts_raw_001"


def codes(volume: DicomVolume) -> list[str]:
    return [one.code for one in volume.report.findings]


def as_itk_reads(folder: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Values (z, y, x) and affine of array indices, LPS mm."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    reader.SetGlobalWarningDisplay(False)
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = (np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing()))[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image), affine


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("../totalseg_reference/example_ct_dicom", ["NO_IDENTIFIERS"]),
        ("sts_raw_001/MR_T2/image", []),
        ("sts_raw_001/FDG_PET/image", ["NEARLY_REGULAR_SPACING", "RESCALE_PER_SLICE"]),
    ],
)
def test_series_equal_what_itk_reads(folder: str, found: list[str]) -> None:
    volume = read_dicom(DICOM / folder)
    values, affine = as_itk_reads(DICOM / folder)
    np.testing.assert_allclose(volume.image.array[0], values, rtol=1e-6)
    np.testing.assert_allclose(volume.image.grid.affine, affine, atol=1e-6)
    assert codes(volume) == found


def test_padding_is_the_only_difference_from_itk() -> None:
    folder = DICOM / "dcmqi" / "segmentations" / "ct-3slice"
    volume = read_dicom(folder)
    values, affine = as_itk_reads(folder)
    padding = values == -2000 - 1024
    assert padding.any()
    np.testing.assert_array_equal(volume.image.array[0][~padding], values[~padding])
    for plane, outside in zip(volume.image.array[0], padding, strict=True):
        assert (plane[outside] == plane[~outside].min()).all()
    np.testing.assert_allclose(volume.image.grid.affine, affine, atol=1e-6)


def test_joined_beds_of_a_pet_move_no_plane_by_more_than_told() -> None:
    volume = read_dicom(STS / "FDG_PET" / "image")
    grid = volume.image.grid
    shift = [
        np.abs((grid.affine @ (z, 0, 0, 1))[:3] - one.position_mm).max() for z, one in enumerate(volume.source.slices)
    ]
    assert max(shift) == pytest.approx(0.040, abs=5e-4)
    assert "0.04 mm (1.2%)" in volume.report.findings[0].words
    assert len({plane.RescaleSlope for plane in _headers(STS / "FDG_PET" / "image")}) > 100


def _headers(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(file, stop_before_pixels=True) for file in folder.iterdir()]


def test_a_dynamic_breast_series_falls_into_three_volumes() -> None:
    reports = inspect_dicom(DICOM / "breast_mr_seg" / "UCSF-BR-06")
    assert [(report.part, report.n_planes, report.accepted) for report in reports] == [
        (f"content time {time}", 60, True) for time in ("102551", "103238", "103832")
    ]
    volumes = [read_dicom(DICOM / "breast_mr_seg", part=report.part).image for report in reports]
    assert volumes[0].grid == volumes[1].grid == volumes[2].grid
    assert volumes[1].array.mean() > volumes[0].array.mean()  # contrast medium came
    with pytest.raises(ImageReadError, match="expected one volume; found 3"):
        read_dicom(DICOM / "breast_mr_seg")


@pytest.mark.parametrize("name", ["23x38x3", "24x38x3"])
def test_an_enhanced_ct_equals_its_single_frame_twin(name: str) -> None:
    folder = DICOM / "dcmqi" / "segmentations" / name
    single, multi = read_dicom(folder / "image"), read_dicom(folder / "multiframe" / "mf.dcm")
    np.testing.assert_array_equal(single.image.array, multi.image.array)
    np.testing.assert_allclose(single.image.grid.affine, multi.image.grid.affine, atol=1e-6)
    assert [one.frame for one in multi.source.slices] != [None] * 3
    with pytest.raises(ImageReadError, match="expected one volume; found 2"):
        read_dicom(folder)


def test_oblique_slices_without_frame_of_reference(tmp_path: Path) -> None:
    folder = DICOM / "rt_utils" / "oriented_data"
    refused = inspect_dicom(folder)[0]
    assert {one.code for one in refused.findings if one.severity == "refused"} == {
        "NO_FRAME_OF_REFERENCE",
        "MIXED_STUDY",
    }
    planes = [pydicom.dcmread(folder / f"{number}.dcm") for number in range(3)]
    for number, plane in enumerate(planes):
        plane.FrameOfReferenceUID, plane.StudyInstanceUID = "1.2.3.4", planes[0].StudyInstanceUID
        plane.save_as(tmp_path / f"{number}.dcm")
    image = read_dicom(tmp_path).image
    for z, plane in enumerate(planes):
        cosines = np.array(plane.ImageOrientationPatient, dtype=float).reshape(2, 3)
        for y, x in ((0, 0), (49, 99)):  # 50 rows 3.5 mm apart, 100 columns 2.5 mm apart
            expected = np.array(plane.ImagePositionPatient, dtype=float) + y * 3.5 * cosines[1] + x * 2.5 * cosines[0]
            np.testing.assert_allclose((image.grid.affine @ (z, y, x, 1))[:3], expected, atol=1e-3)


@pytest.mark.parametrize("name", ["rt", "invalid_reference_rt", "non_existent_reference_rt"])
def test_structure_sets_of_other_images_are_refused(name: str) -> None:
    volume = read_dicom(DICOM / "rt_utils" / "mock_data")
    with pytest.raises(GeometryError, match=r"another frame of reference|are not in the series"):
        read_rtstruct(DICOM / "rt_utils" / "mock_data" / f"{name}.dcm", volume.source)


def by_skimage(file: Path, volume: DicomVolume) -> dict[str, NDArray[np.bool_]]:
    """Fill the contours with another rasteriser, plane by plane, found by the image that each contour names."""
    dataset = pydicom.dcmread(file)
    names = {int(roi.ROINumber): str(roi.ROIName) for roi in dataset.StructureSetROISequence}
    plane_of = {one.sop_instance_uid: plane for plane, one in enumerate(volume.source.slices)}
    grid = volume.image.grid
    masks = {}
    for item in dataset.ROIContourSequence:
        mask = np.zeros(grid.shape, dtype=bool)
        for contour in item.ContourSequence:
            plane = plane_of[str(contour.ContourImageSequence[0].ReferencedSOPInstanceUID)]
            lies = volume.source.slices[plane].position_mm
            offset = contour_points(contour) - np.array(lies)
            y = offset @ np.array(grid.direction[1]) / grid.spacing_mm[1]
            x = offset @ np.array(grid.direction[2]) / grid.spacing_mm[2]
            mask[plane] ^= polygon2mask(grid.shape[1:], np.stack([y, x], axis=1))
        masks[names[int(item.ReferencedROINumber)]] = mask
    return masks


@pytest.mark.parametrize("kind", ["FDG_PET", "MR_T2"])
def test_tumours_equal_another_rasteriser(kind: str) -> None:
    volume = read_dicom(STS / kind / "image")
    file = next((STS / kind / "mask").iterdir())
    read = read_rtstruct(file, volume.source)
    expected = by_skimage(file, volume)
    assert {one.name for one in read.structures} == set(expected) == {"GTV_Mass", "GTV_Edema"}
    for one in read.structures:
        other = expected[one.name]
        # centres exactly on a contour are given to one side or the other
        assert int((one.mask != other).sum()) <= 2e-4 * int(other.sum())
    assert read.notices == ()


def test_the_tumour_has_one_volume_in_pet_and_mr() -> None:
    litres = {}
    for kind in ("FDG_PET", "MR_T2"):
        volume = read_dicom(STS / kind / "image")
        for one in read_rtstruct(next((STS / kind / "mask").iterdir()), volume.source).structures:
            litres[kind, one.name] = float(one.mask.sum()) * volume.image.grid.voxel_volume_mm3 / 1e6
    for name in ("GTV_Mass", "GTV_Edema"):
        assert litres["FDG_PET", name] == pytest.approx(litres["MR_T2", name], rel=0.005)


def test_a_real_series_lies_where_its_segmentation_lies() -> None:
    folder = Path(DATA or ".") / "totalseg_reference"
    scan, masks = read_image(folder / "example_ct_dicom"), read_image(folder / "example_seg_dicom.nii.gz")
    corners = [grid.affine @ (*index, 1) for grid in (scan.grid, masks.grid) for index in ((0, 0, 0), (19, 511, 511))]
    low = [np.minimum(corners[i], corners[i + 1]) for i in (0, 2)]
    np.testing.assert_allclose(low[0], low[1], atol=0.01)


def test_a_zipped_study_is_the_folder(tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "study"), "zip", STS / "MR_T2")
    zipped, plain = read_dicom(Path(archive)), read_dicom(STS / "MR_T2")
    assert zipped.report.pixel_sha256 == plain.report.pixel_sha256
    assert zipped.image.grid == plain.image.grid


def test_a_slice_taken_out_of_a_real_series_is_missed(tmp_path: Path) -> None:
    shutil.copytree(STS / "FDG_PET" / "image", tmp_path / "pet")
    victim = sorted((tmp_path / "pet").iterdir())[100]
    victim.unlink()
    report = inspect_dicom(tmp_path / "pet")[0]
    assert "MISSING_SLICES" in {one.code for one in report.findings}
