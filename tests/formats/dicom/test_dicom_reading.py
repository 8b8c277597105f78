"""Volumes of valid series: where every voxel lies, what it says, and which files belong together."""

from __future__ import annotations

import copy
import stat
import zipfile
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pydicom
import pytest
from messy_series import (
    ROWS,
    compress,
    directory_of,
    enhanced,
    intensities,
    make_series,
    put_pixels,
    repeated,
    write_series,
    write_zip,
)
from pydicom.uid import JPEG2000Lossless, generate_uid

from delineate.errors import ImageReadError
from delineate.formats.dicom.reading import inspect_dicom, read_dicom
from delineate.formats.images import read_image


def orientations():
    """All 24 orientations of a plane, and its planes rising either way along the normal: 48 arrays."""
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            rows = np.zeros((3, 3))
            for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
                rows[axis, world] = sign
            yield rows  # planes, rows, columns


@pytest.mark.parametrize("shape", [(3, 5, 5), (3, 4, 6)])
@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (3.3, 0.7, 1.2)])
@pytest.mark.parametrize("angle", [0.0, pytest.param(23.0, marks=pytest.mark.slow)])
def test_every_voxel_lies_where_the_header_says(shape, spacing, angle: float, tmp_path: Path) -> None:
    turn = np.deg2rad(angle)
    around_x = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    around_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    for number, axes in enumerate(orientations()):
        along, down, right = axes @ (around_x @ around_z).T
        planes = make_series(shape=shape, axes=(right, down), step_mm=along * spacing[0], spacing_mm=spacing)
        write_series(tmp_path / str(number), planes)
        volume = read_dicom(tmp_path / str(number))
        by_uid = {plane.SOPInstanceUID: plane for plane in planes}
        assert len(volume.source.slices) == len(planes)
        for z, one in enumerate(volume.source.slices):
            plane = by_uid[one.sop_instance_uid]
            y, x = np.mgrid[: shape[1], : shape[2]]
            index = np.stack([np.full(y.shape, z), y, x, np.ones(y.shape)], axis=-1)
            found = (index @ volume.image.grid.affine.T)[..., :3]
            np.testing.assert_allclose(found, header_algebra(plane, y, x), atol=1e-4)
            np.testing.assert_array_equal(volume.image.array[0, z], intensities([plane])[0])


def header_algebra(plane, y, x):
    """PS3.3 C.7.6.2.1.1: the row cosine goes with the column index and the distance of columns."""
    cosines = np.array([float(v) for v in plane.ImageOrientationPatient]).reshape(2, 3)
    position = np.array([float(v) for v in plane.ImagePositionPatient])
    rows, columns = (float(v) for v in plane.PixelSpacing)
    return position + x[..., None] * columns * cosines[0] + y[..., None] * rows * cosines[1]


def test_files_without_ending_in_sub_folders_among_others(tmp_path: Path) -> None:
    planes = make_series()
    write_series(tmp_path / "a" / "b", planes[:3], ending="", prefix="IM")
    write_series(tmp_path / "c", planes[3:], ending="", prefix="IM")
    (tmp_path / "readme").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.image.array[0], intensities(planes))
    assert volume.image.array.dtype == np.int16
    assert [one.code for one in volume.report.findings] == ["OTHER_FILES"]


def test_files_without_preamble_are_read(tmp_path: Path) -> None:
    planes = make_series()
    for number, plane in enumerate(planes):
        pydicom.dcmwrite(tmp_path / f"im{number}", plane, implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(read_dicom(tmp_path).image.array[0], intensities(planes))


def test_big_endian_files_are_read(tmp_path: Path) -> None:
    planes = make_series()
    for number, plane in enumerate(planes):
        turned = copy.deepcopy(plane)
        turned.PixelData = np.frombuffer(plane.PixelData, "<u2").astype(">u2").tobytes()
        turned.file_meta = pydicom.dataset.FileMetaDataset()
        turned.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
        turned.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read_dicom(tmp_path).image.array[0], intensities(planes))


def test_nothing_and_no_images_are_told(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match="there is nothing"):
        read_dicom(tmp_path / "none")
    with pytest.raises(ImageReadError, match="expected DICOM images; found 0 files"):
        read_dicom(tmp_path)
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(ImageReadError, match="found 1 files that are none"):
        inspect_dicom(tmp_path)


def test_a_single_plane_needs_its_thickness(tmp_path: Path) -> None:
    planes = make_series()
    write_series(tmp_path / "a", planes[:1])
    volume = read_dicom(tmp_path / "a")
    assert volume.image.grid.spacing_mm == (2.5, 0.75, 0.5)
    assert [(one.code, one.severity) for one in volume.report.findings] == [("SINGLE_PLANE", "note")]
    del planes[0].SliceThickness
    write_series(tmp_path / "b", planes[:1])
    with pytest.raises(ImageReadError, match="SINGLE_PLANE"):
        read_dicom(tmp_path / "b")


def test_several_series_are_named_and_chosen(tmp_path: Path) -> None:
    first, second = make_series(), make_series("MR", seed=7)
    write_series(tmp_path / "a", first)
    write_series(tmp_path / "b", second)
    with pytest.raises(ImageReadError, match="expected one volume; found 2") as told:
        read_dicom(tmp_path)
    assert first[0].SeriesInstanceUID in str(told.value)
    assert second[0].SeriesInstanceUID in str(told.value)
    assert "Doe" not in str(told.value)
    chosen = read_dicom(tmp_path, series_uid=second[0].SeriesInstanceUID)
    assert chosen.source.modality == "MR"
    np.testing.assert_array_equal(chosen.image.array[0], intensities(second))
    with pytest.raises(ImageReadError, match="no series of that identifier"):
        read_dicom(tmp_path, series_uid="1.2.3")


def test_another_series_never_stands_in_for_a_refused_one(tmp_path: Path) -> None:
    broken, other = make_series(), make_series(seed=7)
    write_series(tmp_path / "a", [*broken[:2], *broken[3:]])
    write_series(tmp_path / "b", other)
    with pytest.raises(ImageReadError, match="MISSING_SLICES"):
        read_dicom(tmp_path)


def test_pictures_of_the_screen_and_scouts_compete_with_no_volume(tmp_path: Path) -> None:
    planes, picture, scout = make_series(), make_series(seed=7)[:1], make_series(seed=8)[:3]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(picture[0], keyword)
    for plane in scout:
        plane.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    write_series(tmp_path, planes)
    write_series(tmp_path, picture, prefix="picture")
    write_series(tmp_path, scout, prefix="scout")
    assert sorted(report.accepted for report in inspect_dicom(tmp_path)) == [False, False, True]
    np.testing.assert_array_equal(read_dicom(tmp_path).image.array[0], intensities(planes))


PARTED = {
    "temporal position": ("TemporalPositionIdentifier", lambda time: time + 1),
    "b-value": ("DiffusionBValue", lambda time: 400.0 * time),
    "echo": ("EchoTime", lambda time: 4.6 * (time + 1)),
    "trigger time": ("TriggerTime", lambda time: 40.0 * time),
    "frame time": ("FrameReferenceTime", lambda time: 1000.0 * time),
    "acquisition": ("AcquisitionNumber", lambda time: time + 1),
    "content time": ("ContentTime", lambda time: f"10111{time}"),
    "image type": ("ImageType", lambda time: ["ORIGINAL", "PRIMARY", "ABC"[time]]),
}


@pytest.mark.parametrize("name", PARTED)
def test_a_4d_series_is_split_by_what_parts_it(name: str, tmp_path: Path) -> None:
    keyword, value = PARTED[name]
    planes = repeated(make_series("MR"), 3, lambda plane, time: setattr(plane, keyword, value(time)))
    write_series(tmp_path, planes)
    reports = inspect_dicom(tmp_path)
    assert [report.accepted for report in reports] == [True] * 3
    assert all(report.part.startswith(name) for report in reports)
    assert [report.findings for report in reports] == [()] * 3
    with pytest.raises(ImageReadError, match="expected one volume; found 3"):
        read_dicom(tmp_path)
    for time, report in enumerate(reports):
        part = read_dicom(tmp_path, part=report.part).image.array[0]
        np.testing.assert_array_equal(part, intensities(planes[6 * time : 6 * time + 6]))


def test_two_attributes_part_echoes_in_time(tmp_path: Path) -> None:
    def tell(plane, number):
        plane.TemporalPositionIdentifier, plane.EchoTime = number // 2, 5.0 + number % 2

    write_series(tmp_path, repeated(make_series("MR"), 4, tell))
    reports = inspect_dicom(tmp_path)
    assert len(reports) == 4
    assert reports[0].part == "temporal position 0, echo 5.0"
    assert all(report.accepted for report in reports)


def test_an_attribute_that_gives_no_complete_volumes_splits_nothing(tmp_path: Path) -> None:
    def tell(plane, time):
        plane.ContentTime = f"1011{2 * int(plane.InstanceNumber) + time:02d}"

    write_series(tmp_path, repeated(make_series(), 2, tell))
    reports = inspect_dicom(tmp_path)
    assert [(report.part, report.accepted) for report in reports] == [("", False)]
    assert [one.code for one in reports[0].findings] == ["DUPLICATE_POSITIONS"]


def test_a_series_exported_twice_is_read_once(tmp_path: Path) -> None:
    planes = make_series()
    again = copy.deepcopy(planes)
    for plane in again:
        plane.SOPInstanceUID = generate_uid(prefix=None)
    write_series(tmp_path, [*planes, *again])
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.image.array[0], intensities(planes))
    assert [(one.code, one.severity) for one in volume.report.findings] == [("DUPLICATE_PLANES", "repaired")]


def test_equal_planes_of_different_phases_are_no_copies(tmp_path: Path) -> None:
    planes = repeated(make_series("MR"), 2, lambda plane, time: setattr(plane, "TemporalPositionIdentifier", time))
    for plane in planes:
        put_pixels(plane, np.zeros((6, 5)), bits=12)
    write_series(tmp_path, planes)
    assert [(report.n_planes, report.accepted) for report in inspect_dicom(tmp_path)] == [(6, True)] * 2


def test_a_multi_frame_image_equals_its_planes(tmp_path: Path) -> None:
    planes = make_series("MR")
    write_series(tmp_path, [enhanced(planes)])
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.image.array[0], intensities(planes))
    assert volume.image.grid.spacing_mm == (2.5, 0.75, 0.5)
    assert [one.frame for one in volume.source.slices] == [1, 2, 3, 4, 5, 6]
    assert read_image(next(tmp_path.iterdir())).grid == volume.image.grid


def test_frames_in_any_order_with_phases_and_stacks(tmp_path: Path) -> None:
    planes = make_series("MR")
    phases = repeated(planes, 2, lambda plane, time: setattr(plane, "TemporalPositionIdentifier", time + 1))
    write_series(tmp_path / "a", [enhanced(phases[::-1])])
    assert [report.part for report in inspect_dicom(tmp_path / "a")] == ["temporal position 1", "temporal position 2"]
    second = read_dicom(tmp_path / "a", part="temporal position 2")
    np.testing.assert_array_equal(second.image.array[0], intensities(phases[6:]))

    other = make_series("MR", axes=((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)), seed=9)
    write_series(tmp_path / "b", [enhanced([*planes, *other], stacks=["1"] * 6 + ["2"] * 6)])
    reports = inspect_dicom(tmp_path / "b")
    assert [report.part for report in reports] == ["stack 1, axial", "stack 2, sagittal"]
    found = read_dicom(tmp_path / "b", part="stack 2, sagittal")
    np.testing.assert_array_equal(found.image.array[0], intensities(other))


def test_a_multi_frame_image_that_does_not_place_its_frames_is_refused(tmp_path: Path) -> None:
    whole = make_series()[0]
    whole.NumberOfFrames = 3
    whole.PixelData = whole.PixelData * 3
    write_series(tmp_path, [whole])
    with pytest.raises(ImageReadError, match="NO_GEOMETRY"):
        read_dicom(tmp_path)


def test_a_zip_with_hostile_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planes = make_series(shape=(3, 120, 90))  # longer than what is deferred in files
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    hostile = [(zipfile.ZipInfo("../outside.dcm"), b"x"), (zipfile.ZipInfo("/root.dcm"), b"x"), (link, b"/etc")]
    write_zip(tmp_path / "study.zip", planes, hostile)
    volume = read_dicom(tmp_path / "study.zip")
    np.testing.assert_array_equal(volume.image.array[0], intensities(planes))
    told = [one for one in volume.report.findings if one.code == "UNSAFE_ENTRIES"]
    assert "3 entries" in told[0].words
    assert not (tmp_path.parent / "outside.dcm").exists()

    monkeypatch.setattr("delineate.formats.dicom.files.LARGEST_ZIP_BYTES", 1000)
    with pytest.raises(ImageReadError, match="Unpack it"):
        read_dicom(tmp_path / "study.zip")
    monkeypatch.setattr("delineate.formats.dicom.files.LARGEST_ENTRY_BYTES", 10)
    with pytest.raises(ImageReadError, match="expected DICOM images"):
        read_dicom(tmp_path / "study.zip")


def test_a_damaged_zip_is_told(tmp_path: Path) -> None:
    write_zip(tmp_path / "study.zip", make_series())
    content = bytearray((tmp_path / "study.zip").read_bytes())
    content[200:260] = b"\xff" * 60
    (tmp_path / "study.zip").write_bytes(bytes(content))
    with pytest.raises(ImageReadError, match="cannot be unpacked"):
        read_dicom(tmp_path / "study.zip")


def test_a_dicomdir_stands_for_its_folder(tmp_path: Path) -> None:
    planes = make_series()
    write_series(tmp_path / "images", planes, ending="")
    write_series(tmp_path / "other", [directory_of(planes)], ending="")
    next((tmp_path / "other").iterdir()).rename(tmp_path / "DICOMDIR")
    volume = read_dicom(tmp_path / "DICOMDIR")
    np.testing.assert_array_equal(volume.image.array[0], intensities(planes))
    assert volume.report.findings == ()


@pytest.mark.parametrize(("charset", "name"), [("ISO_IR 100", "Müller^Jürgen"), ("ISO_IR 192", "山田^太郎")])
def test_the_character_set_is_kept(charset: str, name: str, tmp_path: Path) -> None:
    planes = make_series()
    for plane in planes:
        plane.SpecificCharacterSet, plane.PatientName = charset, name
    write_series(tmp_path, planes)
    source = read_dicom(tmp_path).source
    assert str(source.header.PatientName) == name
    assert source.header.SpecificCharacterSet == charset
    assert "PixelData" not in source.header


def test_a_damaged_value_of_no_interest_does_no_harm(tmp_path: Path) -> None:
    planes = make_series()
    for plane in planes:
        plane.add_new("PatientWeight", "LO", "heavy")  # no number
    write_series(tmp_path, planes)
    assert read_dicom(tmp_path).report.accepted


def test_undecodable_pixels_are_told_before_anything_is_made(tmp_path: Path) -> None:
    planes = make_series()
    for plane in planes:
        compress(plane, JPEG2000Lossless)
    planes[1].PixelData = pydicom.encaps.encapsulate([b"\xff\x4f" + b"\0" * 40])
    planes[4].PixelData = planes[1].PixelData
    for number in (1, 4):
        planes[number]["PixelData"].VR, planes[number]["PixelData"].is_undefined_length = "OB", True
    write_series(tmp_path, planes)
    with pytest.raises(ImageReadError, match="UNDECODABLE: the pixels of 2 of 6 planes"):
        read_dicom(tmp_path)


def test_the_hash_is_of_the_values(tmp_path: Path) -> None:
    planes = make_series()
    write_series(tmp_path / "a", planes)
    write_series(tmp_path / "b", planes[::-1])
    first, second = read_dicom(tmp_path / "a"), read_dicom(tmp_path / "b")
    assert first.report.pixel_sha256 == second.report.pixel_sha256 != ""
    put_pixels(planes[0], np.ones((ROWS, 5)), bits=12)
    write_series(tmp_path / "c", planes)
    assert read_dicom(tmp_path / "c").report.pixel_sha256 != first.report.pixel_sha256
    assert inspect_dicom(tmp_path / "a")[0].pixel_sha256 == ""


def test_read_image_reads_a_folder_and_tells_repairs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    planes = make_series()
    planes[1].ImagePositionPatient[2] += 0.05
    write_series(tmp_path, planes)
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image.array[0], intensities(planes))
    assert "NEARLY_REGULAR_SPACING" in caplog.text
    assert image.grid.origin_mm == (-10.0, 4.0, 30.0)
