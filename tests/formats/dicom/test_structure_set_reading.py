"""Structure sets as other writers leave them: what is read, what is told, what is refused."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from messy_series import make_series, write_series
from pydicom import Dataset
from pydicom.sequence import Sequence as Items
from skimage.draw import polygon2mask

from delineate.case import LabelMap, Provenance, Result
from delineate.clinical.coding import Code, CodedStructure
from delineate.clinical.results import DraftResult
from delineate.clinical.rtstruct import StructureSetSettings, write_draft_rtstruct
from delineate.errors import GeometryError, ImageReadError
from delineate.formats.dicom.contour_filling import contour_points
from delineate.formats.dicom.reading import DicomVolume, read_dicom
from delineate.formats.dicom.rtstruct_reader import read_rtstruct, referenced_series

SHAPE = (5, 16, 14)


@pytest.fixture
def volume(tmp_path: Path) -> DicomVolume:
    write_series(tmp_path / "images", make_series(shape=SHAPE))
    return read_dicom(tmp_path / "images")


def coded(name: str, value: int) -> CodedStructure:
    code = Code(value="123037004", scheme="SCT", meaning="Anatomical Structure")
    return CodedStructure(
        name=name,
        values=(value,),
        label=name,
        category=code,
        type=code,
        laterality=None,
        interpreted_type="ORGAN",
        colour=(10, 20, 30),
        tracking_id=name,
        tracking_uid="1.2.3",
    )


def write_labels_as_rtstruct(path: Path, labels: np.ndarray, volume: DicomVolume, **how) -> Dataset:
    result = Result(
        case_id="c",
        labels=LabelMap(array=labels, grid=volume.image.grid),
        provenance=Provenance(software="test", model="m"),
    )
    structures = tuple(coded(f"s{value}", int(value)) for value in np.unique(labels) if value)
    draft = DraftResult(result=result, source=volume.source, structures=structures)
    write_draft_rtstruct(path, draft, StructureSetSettings(**how))
    return pydicom.dcmread(path)


def block() -> np.ndarray:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[1:4, 3:12, 2:11] = 1
    return labels


def reread(path: Path, dataset: Dataset, volume: DicomVolume, **how):
    dataset.save_as(path)
    return read_rtstruct(path, volume.source, **how)


def contours_of(dataset: Dataset):
    return dataset.ROIContourSequence[0].ContourSequence


def test_a_series_and_its_structures_meet_through_files(volume: DicomVolume, tmp_path: Path) -> None:
    write_labels_as_rtstruct(tmp_path / "rt.dcm", block(), volume)
    read = read_rtstruct(tmp_path / "rt.dcm", volume.source)
    np.testing.assert_array_equal(read.structures[0].mask, block() == 1)
    assert read.notices == ()
    assert (read.structures[0].interpreted_type, read.structures[0].colour) == ("ORGAN", (10, 20, 30))
    assert referenced_series(tmp_path / "rt.dcm") == {volume.source.series_uid}


def test_arbitrary_polygons_are_filled_as_skimage_fills_them(volume: DicomVolume, tmp_path: Path) -> None:
    dataset = write_labels_as_rtstruct(tmp_path / "rt.dcm", block(), volume)
    generator = np.random.default_rng(3)
    affine = volume.image.grid.affine
    expected = []
    for contour, plane in zip(contours_of(dataset), (1, 2, 3), strict=True):
        angles = np.sort(generator.uniform(0, 2 * np.pi, 11))
        radius = generator.uniform(2.0, 6.0, 11)
        polygon = np.stack([7.3 + radius * np.sin(angles), 6.2 + radius * np.cos(angles)], axis=1)
        index = np.column_stack([np.full(11, plane), polygon, np.ones(11)])
        contour.ContourData = [f"{v:.6f}" for v in (index @ affine.T)[:, :3].ravel()]
        expected.append(polygon2mask(SHAPE[1:], polygon))
    mask = reread(tmp_path / "rt.dcm", dataset, volume).structures[0].mask
    np.testing.assert_array_equal(mask[1:4], expected)


def test_contours_of_a_nearly_regular_series_keep_their_planes(tmp_path: Path) -> None:
    planes = make_series(shape=SHAPE, spacing_mm=(4.0, 0.75, 0.5))
    planes[2].ImagePositionPatient[2] += 0.18
    write_series(tmp_path / "images", planes)
    volume = read_dicom(tmp_path / "images")
    dataset = write_labels_as_rtstruct(tmp_path / "rt.dcm", block(), volume)
    heights = [contour_points(contour)[0, 2] for contour in contours_of(dataset)]
    assert heights == pytest.approx([34.0, 38.18, 42.0])
    read = read_rtstruct(tmp_path / "rt.dcm", volume.source)
    np.testing.assert_array_equal(read.structures[0].mask, block() == 1)
    assert read.notices == ()


def test_contours_without_image_references_are_found_by_their_place(volume: DicomVolume, tmp_path: Path) -> None:
    dataset = write_labels_as_rtstruct(tmp_path / "rt.dcm", block(), volume)
    for contour in contours_of(dataset):
        del contour.ContourImageSequence
    np.testing.assert_array_equal(reread(tmp_path / "rt.dcm", dataset, volume).structures[0].mask, block() == 1)


def test_both_spellings_of_exclusive_contours(volume: DicomVolume, tmp_path: Path) -> None:
    labels = block()
    labels[2, 6:9, 5:8] = 0
    labels[2, 7, 6] = 1
    dataset = write_labels_as_rtstruct(tmp_path / "rt.dcm", labels, volume, holes="xor")
    assert {contour.ContourGeometricType for contour in contours_of(dataset)} == {"CLOSEDPLANAR_XOR"}
    np.testing.assert_array_equal(read_rtstruct(tmp_path / "rt.dcm", volume.source).structures[0].mask, labels == 1)
    content = (tmp_path / "rt.dcm").read_bytes()
    for contour in contours_of(dataset):
        contour["ContourGeometricType"]._value = "CLOSED_PLANAR_XOR"  # too long for its type, and met in files
    dataset.save_as(tmp_path / "misspelt.dcm")
    assert b"CLOSED_PLANAR_XOR" not in content
    assert b"CLOSED_PLANAR_XOR" in (tmp_path / "misspelt.dcm").read_bytes()
    read = read_rtstruct(tmp_path / "misspelt.dcm", volume.source)
    np.testing.assert_array_equal(read.structures[0].mask, labels == 1)


def test_a_contour_that_is_there_twice_does_not_cancel_itself(volume: DicomVolume, tmp_path: Path) -> None:
    dataset = write_labels_as_rtstruct(tmp_path / "rt.dcm", block(), volume)
    contours_of(dataset).append(copy.deepcopy(contours_of(dataset)[0]))
    read = reread(tmp_path / "rt.dcm", dataset, volume)
    np.testing.assert_array_equal(read.structures[0].mask, block() == 1)
    assert any("twice" in notice for notice in read.notices)


def moved(contour: Dataset, by_mm) -> None:
    points = contour_points(contour) + np.asarray(by_mm)
    contour.ContourData = [f"{v:.4f}" for v in points.ravel()]


@pytest.mark.parametrize(
    ("by_mm", "words", "kept"),
    [
        ((0, 0, 1.0), "moved to the nearer one", True),
        ((0, 0, 60.0), "lie beyond the images", False),
        ((-2.5, 0, 0), "reach beyond the images", True),
        ((0, 0, 2.5), "name another image", True),
    ],
)
def test_contours_beside_their_images_are_told(by_mm, words, kept, volume: DicomVolume, tmp_path: Path) -> None:
    dataset = write_labels_as_rtstruct(tmp_path / "rt.dcm", block(), volume)
    moved(contours_of(dataset)[2], by_mm)
    read = reread(tmp_path / "rt.dcm", dataset, volume)
    assert any(words in notice for notice in read.notices)
    assert read.structures[0].mask[3:].any() == kept


def test_a_contour_across_the_images_is_left_out_and_told(volume: DicomVolume, tmp_path: Path) -> None:
    dataset = write_labels_as_rtstruct(tmp_path / "rt.dcm", block(), volume)
    points = contour_points(contours_of(dataset)[0])
    points[0, 2] += 5.0
    contours_of(dataset)[0].ContourData = [f"{v:.4f}" for v in points.ravel()]
    read = reread(tmp_path / "rt.dcm", dataset, volume)
    assert any("not parallel" in notice for notice in read.notices)
    assert not read.structures[0].mask[1].any()


def test_a_tiny_contour_deletes_nothing_and_is_told(volume: DicomVolume, tmp_path: Path) -> None:
    dataset = write_labels_as_rtstruct(tmp_path / "rt.dcm", block(), volume)
    tiny = copy.deepcopy(contours_of(dataset)[0])
    corner = contour_points(tiny)[0]
    tiny.ContourData = [f"{v:.4f}" for v in (corner + np.array([[0, 0, 0], [0.06, 0, 0], [0.06, 0.06, 0]])).ravel()]
    contours_of(dataset).append(tiny)
    read = reread(tmp_path / "rt.dcm", dataset, volume)
    np.testing.assert_array_equal(read.structures[0].mask, block() == 1)
    assert any("hold no voxel centre" in notice for notice in read.notices)


def test_structures_without_contours_and_contours_without_structure(volume: DicomVolume, tmp_path: Path) -> None:
    dataset = write_labels_as_rtstruct(tmp_path / "rt.dcm", block(), volume)
    empty, nameless = copy.deepcopy(dataset.StructureSetROISequence[0]), copy.deepcopy(dataset.ROIContourSequence[0])
    empty.ROINumber, empty.ROIName, nameless.ReferencedROINumber = 7, "none", 9
    dataset.StructureSetROISequence.append(empty)
    dataset.ROIContourSequence.append(nameless)
    read = reread(tmp_path / "rt.dcm", dataset, volume)
    assert [(one.name, bool(one.mask.any())) for one in read.structures] == [("s1", True), ("none", False)]
    assert read.notices == ("Contours of the unknown structure 9 were left out.",)


def test_structure_sets_of_nothing_or_of_others_are_refused(volume: DicomVolume, tmp_path: Path) -> None:
    dataset = write_labels_as_rtstruct(tmp_path / "rt.dcm", block(), volume)
    other = copy.deepcopy(dataset)
    contours_of(other)[0].ContourImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    with pytest.raises(GeometryError, match="1 of 3 images that the contours name are not in the series"):
        reread(tmp_path / "other.dcm", other, volume)
    homeless = copy.deepcopy(dataset)
    homeless.ReferencedFrameOfReferenceSequence = Items([])
    del homeless.StructureSetROISequence[0].ReferencedFrameOfReferenceUID
    for contour in contours_of(homeless):
        del contour.ContourImageSequence
    with pytest.raises(GeometryError, match="may belong to any scan"):
        reread(tmp_path / "homeless.dcm", homeless, volume)


def test_damaged_structure_sets_are_told(volume: DicomVolume, tmp_path: Path) -> None:
    dataset = write_labels_as_rtstruct(tmp_path / "rt.dcm", block(), volume)
    content = (tmp_path / "rt.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(content[: content.rfind(b"\x06\x30\x39\x00")])
    with pytest.raises(ImageReadError, match=r"holds no structures|damaged"):
        read_rtstruct(tmp_path / "cut.dcm", volume.source)
    spoiled = re.sub(rb"(?<=\d)\\(?=[-\d])", b"x", content, count=40)  # a length may hold the byte of a backslash, too
    (tmp_path / "spoiled.dcm").write_bytes(spoiled)
    with pytest.raises(ImageReadError, match="damaged"):
        read_rtstruct(tmp_path / "spoiled.dcm", volume.source)
    dataset.ROIContourSequence[0].ReferencedROINumber = None
    with pytest.raises(ImageReadError, match="damaged"):
        reread(tmp_path / "numberless.dcm", dataset, volume)
