"""Segmentations and structure sets to masks in files: in which form, under which names, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from ct_files import SHAPE, write_series

from delineate.case import LabelMap, Structure
from delineate.cli.main import main
from delineate.errors import GeometryError, ImageReadError, Interrupted, UsageError
from delineate.execution import Cancellation, Silent
from delineate.formats.images import read_image, read_labels, write_labels
from delineate.geometry.grid import Grid
from delineate.workflows.dicom_draft import load_draft
from delineate.workflows.dicom_masks import MaskSettings, convert_rtstruct, convert_seg
from delineate.workflows.dicom_out import ExportSettings, export_drafts

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
WATCHED = {"progress": Silent(), "cancellation": Cancellation()}


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return write_series(tmp_path / "images")


@pytest.fixture
def labels() -> np.ndarray:
    array = np.zeros(SHAPE, dtype=np.uint8)
    array[1:3, 2:5, 3:7] = 1
    array[3, 5, 7] = 2
    return array


NAMES = (Structure(name="liver", values=(1,)), Structure(name="a/b: c", values=(2,)))


def write_objects(folder: Path, array: np.ndarray, grid: Grid, names: tuple[Structure, ...] = NAMES, **how) -> None:
    write_labels(folder / "drawn.nii.gz", LabelMap(array=array, grid=grid))
    loaded = load_draft(folder / "drawn.nii.gz", folder / "images", structures=names)
    export_drafts(loaded, {"rtstruct": "rt.dcm", "seg": "seg.dcm"}, folder, ExportSettings(**how))


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_a_segmentation_becomes_a_label_map(kind: str, grid: Grid, labels: np.ndarray, tmp_path: Path, capsys) -> None:
    write_objects(tmp_path, labels, grid, seg_kind=kind)
    command = ["dicom", "from-seg", str(tmp_path / "seg.dcm"), "--images", str(tmp_path / "images"), "-o"]
    assert main([*command, str(tmp_path / "out")]) == 0
    assert "one label map, because no structures overlap" in capsys.readouterr().out
    found = read_labels(tmp_path / "out" / "labels.nii.gz")
    np.testing.assert_array_equal(found.array, labels)
    assert found.grid.matches(grid)
    rows = list(csv.DictReader((tmp_path / "out" / "structures.csv").read_text().splitlines()))
    assert [(row["value"], row["name"], row["code"], row["algorithm"], row["voxels"]) for row in rows] == [
        ("1", "liver", "10200004", "AUTOMATIC", "24"),
        ("2", "a/b: c", "85756007", "AUTOMATIC", "1"),
    ]
    assert rows[0]["tracking_uid"] != rows[1]["tracking_uid"] != ""
    assert json.loads((tmp_path / "out" / "report.json").read_text())["segmentation"] == kind
    assert main([*command, str(tmp_path / "each"), "--separate"]) == 0
    assert sorted(path.name for path in (tmp_path / "each" / "masks").iterdir()) == ["a_b_c.nii.gz", "liver.nii.gz"]
    np.testing.assert_array_equal(read_labels(tmp_path / "each" / "masks" / "liver.nii.gz").array, labels == 1)


def test_masks_go_out_again_under_their_names(grid: Grid, labels: np.ndarray, tmp_path: Path) -> None:
    """What ``from-seg`` wrote is taken by ``to-seg`` as it is, values, names and all."""
    write_objects(tmp_path, labels, grid)
    convert_seg(tmp_path / "seg.dcm", tmp_path / "images", tmp_path / "out", **WATCHED)
    loaded = load_draft(tmp_path / "out" / "labels.nii.gz", tmp_path / "images")
    assert [structure.name for structure in loaded.draft.structures] == ["liver", "a/b: c"]
    np.testing.assert_array_equal(loaded.draft.result.labels.array, labels)


def test_masks_of_a_folder_keep_names_that_are_no_file_names(grid: Grid, labels: np.ndarray, tmp_path: Path) -> None:
    write_objects(tmp_path, labels, grid)
    convert_seg(tmp_path / "seg.dcm", tmp_path / "images", tmp_path / "out", MaskSettings(separate=True), **WATCHED)
    again = load_draft(tmp_path / "out" / "masks", tmp_path / "images")
    assert {structure.name for structure in again.draft.structures} == {"liver", "a/b: c"}
    (tmp_path / "out" / "masks" / "liver.nii.gz").rename(tmp_path / "out" / "masks" / "spleen.nii.gz")
    renamed = load_draft(tmp_path / "out" / "masks", tmp_path / "images")
    assert {structure.name for structure in renamed.draft.structures} == {"spleen", "a/b: c"}


@pytest.mark.parametrize("kind", ["binary", "rtstruct"])
def test_overlapping_structures_become_a_mask_each(kind: str, grid: Grid, labels: np.ndarray, tmp_path: Path) -> None:
    names = (Structure(name="all", values=(1, 2)), Structure(name="part", values=(1,)))
    write_objects(tmp_path, labels, grid, names)
    convert, file = (convert_seg, "seg.dcm") if kind == "binary" else (convert_rtstruct, "rt.dcm")
    written = convert(tmp_path / file, tmp_path / "images", tmp_path / "out", **WATCHED)
    assert (written.form, written.why) == ("one mask per structure", "structures overlap in 24 voxels")
    assert written.voxels == (25, 24)
    for name, mask in (("all", labels > 0), ("part", labels == 1)):
        np.testing.assert_array_equal(read_labels(tmp_path / "out" / "masks" / f"{name}.nii.gz").array, mask)


def test_shares_of_a_fractional_segmentation(grid: Grid, labels: np.ndarray, tmp_path: Path) -> None:
    write_objects(tmp_path, labels, grid)
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    frames = dataset.pixel_array.astype(np.uint8)
    groups, generator = dataset.PerFrameFunctionalGroupsSequence, np.random.default_rng(0)
    shares = (frames * generator.integers(1, 201, frames.shape)).astype(np.uint8)
    dataset.SegmentationType, dataset.SegmentationFractionalType = "FRACTIONAL", "PROBABILITY"
    dataset.MaximumFractionalValue = 200
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelData = 7, shares.tobytes()
    dataset.save_as(tmp_path / "seg.dcm")
    images, out = tmp_path / "images", tmp_path / "out"
    written = convert_seg(tmp_path / "seg.dcm", images, out, MaskSettings(fractions=True), **WATCHED)
    found = read_image(out / "fractions" / "liver.nii.gz").array[0]
    assert found.dtype == np.float32
    mine = [n for n, g in enumerate(groups) if int(g.SegmentIdentificationSequence[0].ReferencedSegmentNumber) == 1]
    mine.sort(key=lambda n: float(groups[n].PlanePositionSequence[0].ImagePositionPatient[2]))
    np.testing.assert_allclose(found[labels == 1], shares[mine][frames[mine] > 0] / 200, atol=1e-6)
    held = int((found >= 0.5).sum())
    assert written.voxels[0] == held == int((read_labels(out / "labels.nii.gz").array == 1).sum())
    assert f"liver: the mask holds the {held} voxels of 0.5 or more; 24 are greater than 0" in written.notices


def test_only_fractional_segmentations_have_fractions(grid: Grid, labels: np.ndarray, tmp_path: Path) -> None:
    write_objects(tmp_path, labels, grid)
    images, how = tmp_path / "images", MaskSettings(fractions=True)
    with pytest.raises(UsageError, match="binary segmentation has no fractions"):
        convert_seg(tmp_path / "seg.dcm", images, tmp_path / "out", how, **WATCHED)
    with pytest.raises(UsageError, match="has no fractions"):
        convert_rtstruct(tmp_path / "rt.dcm", images, tmp_path / "out", how, **WATCHED)
    assert not (tmp_path / "out").exists()


def test_masks_of_two_objects_are_not_mixed(grid: Grid, labels: np.ndarray, tmp_path: Path) -> None:
    write_objects(tmp_path, labels, grid)
    images, out = tmp_path / "images", tmp_path / "out"
    convert_seg(tmp_path / "seg.dcm", images, out, **WATCHED)
    convert_rtstruct(tmp_path / "rt.dcm", images, out, **WATCHED)  # the same files: they are replaced
    with pytest.raises(UsageError, match=r"masks of something else \(labels.nii.gz\)"):
        convert_seg(tmp_path / "seg.dcm", images, out, MaskSettings(separate=True), **WATCHED)
    assert sorted(path.name for path in out.iterdir()) == ["labels.nii.gz", "report.json", "structures.csv"]


def test_nothing_is_left_of_a_run_that_was_stopped(grid: Grid, labels: np.ndarray, tmp_path: Path) -> None:
    write_objects(tmp_path, labels, grid)
    stopped = Cancellation()
    stopped.request()
    how = {"progress": Silent(), "cancellation": stopped}
    with pytest.raises(Interrupted):
        convert_seg(tmp_path / "seg.dcm", tmp_path / "images", tmp_path / "out", MaskSettings(separate=True), **how)
    assert not (tmp_path / "out").exists()


def test_the_images_are_those_that_the_object_names(grid: Grid, labels: np.ndarray, tmp_path: Path) -> None:
    """Of several series and phases in a folder, the one with the images that the object was made of."""
    write_objects(tmp_path, labels, grid)
    write_series(tmp_path / "study" / "other", np.zeros(SHAPE))
    (tmp_path / "images").rename(tmp_path / "study" / "images")
    for phase in (1, 2):
        _copy_as_phase(tmp_path / "study" / "images", tmp_path / "study" / f"phase{phase}", phase)
    for convert, file in ((convert_seg, "seg.dcm"), (convert_rtstruct, "rt.dcm")):
        convert(tmp_path / file, tmp_path / "study", tmp_path / file[:-4], **WATCHED)
        np.testing.assert_array_equal(read_labels(tmp_path / file[:-4] / "labels.nii.gz").array, labels)


def _copy_as_phase(images: Path, folder: Path, phase: int) -> None:
    """Put other images of the same series beside the images, as phases of a 4-D CT lie."""
    folder.mkdir()
    for file in images.iterdir():
        dataset = pydicom.dcmread(file)
        if "TemporalPositionIdentifier" not in dataset:
            dataset.TemporalPositionIdentifier = 0
            dataset.save_as(file)
        dataset.TemporalPositionIdentifier = phase
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{dataset.SOPInstanceUID[:50]}.{phase}"
        dataset.save_as(folder / file.name)


def _strip_frame(dataset: pydicom.Dataset) -> None:
    del dataset.FrameOfReferenceUID
    del dataset.ReferencedSeriesSequence
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.DerivationImageSequence


def _strange_value(dataset: pydicom.Dataset) -> None:
    dataset.decompress()
    frames = dataset.pixel_array.copy()
    frames[0, 0, 0] = 9
    dataset.PixelData = frames.tobytes()


def _no_number(dataset: pydicom.Dataset) -> None:
    del dataset.SegmentSequence[0].SegmentNumber


def _not_a_number(dataset: pydicom.Dataset) -> None:
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        frame.PlanePositionSequence[0].ImagePositionPatient = ["1", "nan", "2"]


def _fewer_frames(dataset: pydicom.Dataset) -> None:
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:-1]


def _no_segments(dataset: pydicom.Dataset) -> None:
    dataset.SegmentSequence = []


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (_strip_frame, GeometryError, "no frame of reference and names none"),
        (_no_number, ImageReadError, "is damaged"),
        (_not_a_number, ImageReadError, "do not say where they lie"),
        (_fewer_frames, ImageReadError, "frames are described|need .* bytes"),
        (_no_segments, ImageReadError, "describes no segments"),
    ],
)
def test_damaged_segmentations_are_refused(
    spoil, error: type[Exception], words: str, grid: Grid, labels: np.ndarray, tmp_path: Path
) -> None:
    write_objects(tmp_path, labels, grid)
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    spoil(dataset)
    dataset.save_as(tmp_path / "bad.dcm")
    with pytest.raises(error, match=words):
        convert_seg(tmp_path / "bad.dcm", tmp_path / "images", tmp_path / "out", **WATCHED)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_without_images_masks_lie_on_the_frames(kind: str, grid: Grid, labels: np.ndarray, tmp_path: Path) -> None:
    """From the first plane with a frame to the last, at the same places; a plane without one is empty."""
    labels[2] = 0
    write_objects(tmp_path, labels, grid, seg_kind=kind)
    assert main(["dicom", "from-seg", str(tmp_path / "seg.dcm"), "-o", str(tmp_path / "out")]) == 0
    found = read_labels(tmp_path / "out" / "labels.nii.gz")
    np.testing.assert_array_equal(found.array, labels[1:4])
    for corner in ((0, 0, 0), (2, 5, 7)):
        there = (found.grid.affine @ [*corner, 1])[:3]
        expected = (grid.affine @ [corner[0] + 1, *corner[1:], 1])[:3]
        np.testing.assert_allclose(there, expected, atol=1e-4)
    assert "NO_IMAGES" in (tmp_path / "out" / "report.json").read_text()


def _no_thickness(dataset: pydicom.Dataset) -> None:
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        if keyword in measures:
            delattr(measures, keyword)


def _one_beside(dataset: pydicom.Dataset) -> None:
    position = dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0].ImagePositionPatient
    position[2] = float(position[2]) + 0.4


def _one_aside(dataset: pydicom.Dataset) -> None:
    position = dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0].ImagePositionPatient
    position[0] = float(position[0]) + 0.4


def _one_frame(dataset: pydicom.Dataset) -> None:
    _no_thickness(dataset)
    dataset.NumberOfFrames = 1
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:1]
    dataset.PixelData = dataset.PixelData[:6]


@pytest.mark.parametrize("spoil", [_one_beside, _one_aside, _one_frame])
def test_frames_that_make_no_grid_are_refused(spoil, grid: Grid, labels: np.ndarray, tmp_path: Path) -> None:
    write_objects(tmp_path, labels, grid)
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    spoil(dataset)
    dataset.save_as(tmp_path / "bad.dcm")
    with pytest.raises(GeometryError, match="no grid of their own"):
        convert_seg(tmp_path / "bad.dcm", None, tmp_path / "out", **WATCHED)
    assert not (tmp_path / "out").exists()


def test_the_smallest_distance_where_none_is_stated(grid: Grid, labels: np.ndarray, tmp_path: Path) -> None:
    write_objects(tmp_path, labels, grid)
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    _no_thickness(dataset)
    dataset.save_as(tmp_path / "seg.dcm")
    convert_seg(tmp_path / "seg.dcm", None, tmp_path / "out", **WATCHED)
    assert read_labels(tmp_path / "out" / "labels.nii.gz").grid.spacing_mm == pytest.approx(grid.spacing_mm)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_truncated_objects_are_refused(share: float, grid: Grid, labels: np.ndarray, tmp_path: Path) -> None:
    write_objects(tmp_path, labels, grid)
    for name, convert in (("seg.dcm", convert_seg), ("rt.dcm", convert_rtstruct)):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ImageReadError):
            convert(tmp_path / name, tmp_path / "images", tmp_path / "out", **WATCHED)
    assert not (tmp_path / "out").exists()


def test_numbers_without_a_segment_are_told(grid: Grid, labels: np.ndarray, tmp_path: Path) -> None:
    write_objects(tmp_path, labels, grid, seg_kind="labelmap")
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    _strange_value(dataset)
    dataset.save_as(tmp_path / "seg.dcm")
    written = convert_seg(tmp_path / "seg.dcm", tmp_path / "images", tmp_path / "out", **WATCHED)
    assert any("the numbers [9], for which the file describes no segment" in notice for notice in written.notices)
    np.testing.assert_array_equal(read_labels(tmp_path / "out" / "labels.nii.gz").array, labels)
