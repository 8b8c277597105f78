import logging
import struct

import numpy as np
import pytest
from broken_files import OBLIQUE, an_image, noise, patched
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.case import Image
from delineate.errors import ImageReadError
from delineate.formats.images import read_image, write_image
from delineate.formats.itk import ask_itk
from delineate.formats.nifti import parse_header, plain_geometry
from delineate.geometry.grid import Grid

sitk = pytest.importorskip("SimpleITK")


def sheared(path, amount):
    """Write a volume whose sform, the only form, is sheared."""
    image = an_image(path, grid=Grid.regular((5, 6, 7), (3.0, 2.0, 1.0)))
    rows = list(struct.unpack_from("<12f", path.read_bytes(), 280))
    rows[1] += amount
    patched(path, "hh", 252, 0, 1)
    patched(path, "12f", 280, *rows)
    return image


@pytest.mark.parametrize("amount", [1e-3, 1e-2, 0.05])
def test_slightly_sheared_axes_are_straightened_and_recorded(tmp_path, amount, caplog):
    image = sheared(tmp_path / "a.nii", amount)
    with caplog.at_level(logging.WARNING):
        found = read_image(tmp_path / "a.nii")
    assert np.array_equal(found.array, image.array)
    assert "not orthonormal; repaired" in caplog.text
    axes = np.array(found.grid.direction)
    assert np.allclose(axes @ axes.T, np.eye(3), atol=1e-6)
    corner = np.array([4, 5, 6, 1])
    moved = np.linalg.norm((found.grid.affine - image.grid.affine) @ corner)
    assert moved < 0.5 + 5 * amount
    assert moved <= 6 * 5 * amount


def test_truly_sheared_axes_are_refused_with_the_remedy(tmp_path):
    sheared(tmp_path / "a.nii", 0.6)
    with pytest.raises(ImageReadError, match=r"a\.nii: expected orthonormal .* Resample it onto an orthogonal grid"):
        read_image(tmp_path / "a.nii")


def test_sheared_axes_of_other_formats_are_treated_alike(tmp_path, caplog):
    volume = sitk.GetImageFromArray(noise()[0])
    volume.SetDirection((np.eye(3) + 0.02 * np.eye(3, k=1)).ravel())
    sitk.WriteImage(volume, str(tmp_path / "a.mha"))
    with caplog.at_level(logging.WARNING):
        assert read_image(tmp_path / "a.mha").grid.shape == (5, 6, 7)
    assert "repaired" in caplog.text
    volume.SetDirection((np.eye(3) + 0.4 * np.eye(3, k=1)).ravel())
    sitk.WriteImage(volume, str(tmp_path / "a.mha"))
    with pytest.raises(ImageReadError, match="sheared"):
        read_image(tmp_path / "a.mha")


def test_no_form_at_all_is_read_as_itk_reads_it(tmp_path):
    an_image(tmp_path / "a.nii")
    patched(tmp_path / "a.nii", "hh", 252, 0, 0)
    reference = sitk.ReadImage(str(tmp_path / "a.nii"))
    found = read_image(tmp_path / "a.nii").grid
    assert np.array_equal(np.array(found.direction), np.array(reference.GetDirection()).reshape(3, 3).T[::-1])


@pytest.mark.parametrize(("slope", "intercept"), [(2.0, -1024.0), (1.0, 5.0), (0.0, 7.0), (1.0, 0.0), (0.1, 0.3)])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64])
def test_the_rescale_slope_is_applied_as_simpleitk_does(tmp_path, slope, intercept, dtype):
    an_image(tmp_path / "a.nii", dtype=dtype)
    patched(tmp_path / "a.nii", "2f", 112, slope, intercept)
    reference = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nii")))
    found = read_image(tmp_path / "a.nii").array[0]
    assert found.dtype == reference.dtype
    assert np.array_equal(found, reference)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_number_type_is_kept(tmp_path, dtype):
    image = an_image(tmp_path / "a.nii.gz", dtype=np.dtype(dtype))
    found = read_image(tmp_path / "a.nii.gz").array
    assert found.dtype == image.array.dtype
    assert np.array_equal(found, image.array)
    assert found.flags.writeable
    assert found.flags.c_contiguous


def test_big_endian_files_are_read(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    array = noise(dtype=np.int16)[0]
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4), header), tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes()[:4] == b"\x00\x00\x01\x5c"
    assert np.array_equal(read_image(tmp_path / "a.nii").array[0], array.T)


def test_colour_voxels_are_channels(tmp_path):
    colours = sitk.GetImageFromArray(np.moveaxis(noise(channels=3, dtype=np.uint8), 0, -1), isVector=True)
    sitk.WriteImage(colours, str(tmp_path / "a.nii.gz"))
    assert np.array_equal(read_image(tmp_path / "a.nii.gz").array, noise(channels=3, dtype=np.uint8))


def test_header_extensions_are_skipped(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(noise()[0], np.eye(4))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 333))
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert np.array_equal(read_image(tmp_path / "a.nii.gz").array[0], noise()[0].T)


def test_a_file_with_five_axes_is_refused(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5, 2, 2), np.uint8), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(ImageReadError, match="one file per channel"):
        read_image(tmp_path / "a.nii.gz")


def test_written_files_are_read_alike_by_nibabel(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    image = Image(array=noise(), grid=OBLIQUE)
    write_image(tmp_path / "a.nii.gz", image)
    found = nibabel.load(tmp_path / "a.nii.gz")
    assert np.array_equal(np.asarray(found.dataobj).T, image.array[0])
    assert int(found.header["sform_code"]) > 0
    assert int(found.header["qform_code"]) > 0
    assert np.allclose(found.get_qform(), found.get_sform(), atol=1e-4)


SIGNS = st.sampled_from([-1, 1])
FLOATS = st.floats(-300, 300, width=32)
SPACINGS = st.floats(0.125, 8, width=32)
QUATERNIONS = st.sampled_from([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0.5), (0.5, 0.5, 0.5)])


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(*[st.integers(1, 4)] * 3),
    spacing=st.tuples(*[SPACINGS] * 3),
    signs=st.tuples(*[SIGNS] * 3),
    quaternion=QUATERNIONS,
    handedness=st.sampled_from([-1.0, 0.0, 1.0]),
    offsets=st.tuples(*[FLOATS] * 3),
    others=st.one_of(st.none(), st.tuples(*[FLOATS] * 3)),
    codes=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    units=st.sampled_from([0, 1, 2, 3, 10]),
)
def test_what_needs_no_itk_is_what_itk_says(
    tmp_path_factory, size, spacing, signs, quaternion, handedness, offsets, others, codes, units
):
    path = tmp_path_factory.mktemp("header") / "a.nii"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros(size[::-1], np.int16)), str(path))
    patched(path, "4f", 76, handedness, *spacing)
    patched(path, "b", 123, units)
    patched(path, "hh", 252, *codes)
    patched(path, "6f", 256, *quaternion, *offsets)
    rows = np.diag(np.multiply(signs, spacing))
    for axis in range(3):
        patched(path, "4f", 280 + 16 * axis, *rows[axis], (others or offsets)[axis])
    head = path.read_bytes()[:348]
    found = plain_geometry(head, parse_header(head, path))
    if found is not None:
        assert found == ask_itk(path)


def test_common_headers_need_no_itk(tmp_path):
    grids = (
        Grid.regular((4, 5, 6), (3.0, 1.5, 0.75)),
        Grid(
            shape=(4, 5, 6),
            spacing_mm=(3.0, 1.5, 0.75),
            origin_mm=(10.5, -20.0, 30.0),
            direction=((0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (-1.0, 0.0, 0.0)),
        ),
    )
    for number, grid in enumerate(grids):
        path = tmp_path / f"{number}.nii"
        write_image(path, Image(array=np.zeros((1, 4, 5, 6), np.float32), grid=grid))
        head = path.read_bytes()[:348]
        assert plain_geometry(head, parse_header(head, path)) is not None
        assert read_image(path).grid == grid
