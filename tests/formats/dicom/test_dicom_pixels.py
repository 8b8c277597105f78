"""Stored numbers to intensities: every transfer syntax, width and sign, and what the header does to them."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pydicom
import pytest
from messy_series import LOSSLESS, compress, intensities, make_series, put_pixels, stored_of, write_series
from pydicom.uid import JPEGExtended12Bit

from delineate.formats.dicom.reading import inspect_dicom, read_dicom


def series_of(bits: int, *, signed: bool, modality: str = "CT"):
    planes = make_series(modality, shape=(3, 17, 14))
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if signed else (0, 1 << bits)
    generator = np.random.default_rng(bits)
    for plane in planes:
        values = generator.integers(low, high, (17, 14))
        values[0, :2] = low, high - 1
        put_pixels(plane, values, bits=bits, signed=signed)
    return planes


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.keyword)
def test_compressed_series_equal_the_uncompressed_one(syntax: str, bits: int, signed: bool, tmp_path: Path) -> None:
    planes = series_of(bits, signed=signed)
    write_series(tmp_path / "plain", planes)
    expected = read_dicom(tmp_path / "plain").image
    np.testing.assert_array_equal(expected.array[0], intensities(planes))
    packed = copy.deepcopy(planes)
    for plane in packed:
        compress(plane, syntax)
    files = write_series(tmp_path / "packed", packed)
    assert pydicom.dcmread(files[0]).file_meta.TransferSyntaxUID == syntax
    found = read_dicom(tmp_path / "packed").image
    assert found.array.dtype == expected.array.dtype
    np.testing.assert_array_equal(found.array, expected.array)


def test_lossy_12_bit_jpeg_is_near(tmp_path: Path) -> None:
    planes = series_of(12, signed=False)
    smooth = np.add.outer(np.arange(17), np.arange(14)) * 100
    for plane in planes:
        put_pixels(plane, smooth, bits=12)
        compress(plane, JPEGExtended12Bit)
        plane.LossyImageCompression = "01"
    write_series(tmp_path, planes)
    volume = read_dicom(tmp_path)
    assert np.abs(volume.image.array[0, 0] - (smooth - 1024)).max() < 40
    assert [one.code for one in volume.report.findings] == ["LOSSY_COMPRESSION"]


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_whole_numbers_stay_whole(bits: int, signed: bool, tmp_path: Path) -> None:
    planes = series_of(bits, signed=signed)
    write_series(tmp_path, planes)
    array = read_dicom(tmp_path).image.array
    fits = intensities(planes).max() <= 32767 and intensities(planes).min() >= -32768
    assert array.dtype == (np.int16 if fits else np.int32)


def test_bits_above_the_stored_ones_are_no_part_of_the_value(tmp_path: Path) -> None:
    planes = series_of(12, signed=True)
    expected = intensities(planes)
    for plane in planes:  # an overlay in the highest bit, as older scanners keep it
        raw = np.frombuffer(plane.PixelData, np.uint16) | 0x8000
        plane.PixelData = raw.tobytes()
    write_series(tmp_path, planes)
    np.testing.assert_array_equal(read_dicom(tmp_path).image.array[0], expected)


def test_values_in_the_high_bits_are_shifted(tmp_path: Path) -> None:
    planes = series_of(12, signed=False)
    expected = intensities(planes)
    for plane in planes:
        plane.HighBit = 15
        plane.PixelData = (np.frombuffer(plane.PixelData, np.uint16) << 4).tobytes()
    write_series(tmp_path, planes)
    np.testing.assert_array_equal(read_dicom(tmp_path).image.array[0], expected)


def test_each_plane_has_its_own_slope(tmp_path: Path) -> None:
    planes = series_of(16, signed=True, modality="PT")
    for number, plane in enumerate(planes):
        plane.RescaleSlope, plane.RescaleIntercept = 1.7141 + 0.371 * number, 0.5
    write_series(tmp_path, planes)
    array = read_dicom(tmp_path).image.array
    assert array.dtype == np.float32
    np.testing.assert_allclose(array[0], intensities(planes), rtol=1e-7)


def test_whole_slopes_beyond_one(tmp_path: Path) -> None:
    planes = series_of(12, signed=False)
    for plane in planes:
        plane.RescaleSlope = 20
    write_series(tmp_path, planes)
    array = read_dicom(tmp_path).image.array
    assert array.dtype == np.int32
    np.testing.assert_array_equal(array[0], intensities(planes))


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("implicit", [False, True])
def test_padding_becomes_the_smallest_intensity_of_its_plane(signed: bool, implicit: bool, tmp_path: Path) -> None:
    planes = series_of(16, signed=signed)
    padding = -2000 if signed else 63536
    for plane in planes:
        values = stored_of(plane) // 16
        values[:, 0] = padding
        put_pixels(plane, values, bits=16, signed=signed)
        plane.add_new("PixelPaddingValue", "SS" if signed else "US", padding)
    write_series(tmp_path / "a", planes)
    if implicit:
        for file in (tmp_path / "a").iterdir():
            dataset = pydicom.dcmread(file)
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
            dataset.save_as(file, implicit_vr=True)
    array = read_dicom(tmp_path / "a").image.array[0]
    expected = intensities(planes)
    np.testing.assert_array_equal(array[:, :, 1:], expected[:, :, 1:])
    for found, plane in zip(array, expected, strict=True):
        assert (found[:, 0] == plane[:, 1:].min()).all()


def test_a_range_of_padding(tmp_path: Path) -> None:
    planes = series_of(12, signed=False)
    for plane in planes:
        values = stored_of(plane) + 10
        values[0, :3] = 0, 3, 5
        put_pixels(plane, np.minimum(values, 4095), bits=12)
        plane.add_new("PixelPaddingValue", "US", 0)
        plane.add_new("PixelPaddingRangeLimit", "US", 5)
    write_series(tmp_path, planes)
    array = read_dicom(tmp_path).image.array[0]
    assert array.min() >= 10 - 1024
    assert (array[:, 0, :3] == array.min(axis=(1, 2))[:, None]).all()


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_monochrome1_is_turned_alike_on_all_planes_where_numbers_have_no_unit(signed: bool, tmp_path: Path) -> None:
    planes = series_of(12, signed=signed, modality="MR")
    for plane in planes:
        plane.PhotometricInterpretation, plane.RescaleIntercept = "MONOCHROME1", 0
    write_series(tmp_path, planes)
    volume = read_dicom(tmp_path)
    stored = np.stack([stored_of(plane) for plane in planes])
    np.testing.assert_array_equal(volume.image.array[0], (-1 if signed else 4095) - stored)
    assert [(one.code, one.severity) for one in volume.report.findings] == [("MONOCHROME1", "repaired")]


def test_monochrome1_of_ct_keeps_hounsfield_units(tmp_path: Path) -> None:
    planes = series_of(12, signed=False)
    for plane in planes:
        plane.PhotometricInterpretation = "MONOCHROME1"
    write_series(tmp_path, planes)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.image.array[0], intensities(planes))
    assert [(one.code, one.severity) for one in volume.report.findings] == [("MONOCHROME1", "note")]


def test_a_palette_is_colour(tmp_path: Path) -> None:
    planes = series_of(8, signed=False)
    for plane in planes:
        plane.PhotometricInterpretation = "PALETTE COLOR"
    write_series(tmp_path, planes)
    assert [one.code for one in inspect_dicom(tmp_path)[0].findings] == ["COLOUR"]
