import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from broken_files import OBLIQUE, a_mask, an_image, noise
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from delineate.case import Image, LabelMap, LabelScheme
from delineate.errors import GeometryError, ImageReadError, LabelError, UsageError
from delineate.formats.images import read_image, read_labels, read_mask, write_image, write_labels
from delineate.geometry.grid import Grid
from strategies import images, label_maps

SINGLE_PRECISION = {"rtol": 3e-7, "atol": 3e-7}
"""NIfTI headers hold float32."""


def same_grid(found, expected, *, exact):
    tolerance = {"rtol": 1e-14, "atol": 1e-14} if exact else SINGLE_PRECISION
    assert found.shape == expected.shape
    assert np.allclose(found.spacing_mm, expected.spacing_mm, **tolerance)
    assert np.allclose(found.origin_mm, expected.origin_mm, **{**tolerance, "atol": 1e-11 if exact else 1e-4})
    assert np.allclose(found.direction, expected.direction, rtol=0, atol=1e-14 if exact else 1e-6)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([2, 3]).flatmap(images), st.sampled_from([".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"]))
def test_volumes_come_back_as_they_were_written(image, ending):
    # a NIfTI file of several channels does not say whether its single slice was a plane
    assume(not (ending.startswith(".nii") and image.channels > 1 and image.grid.shape[0] == 1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"image{ending}"
        write_image(path, image)
        once = read_image(path)
        write_image(path, once)
        twice = read_image(path)
    for found in (once, twice):
        assert found.array.dtype == image.array.dtype
        assert np.array_equal(found.array, image.array)
        same_grid(found.grid, image.grid, exact=not ending.startswith(".nii"))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([2, 3]).flatmap(label_maps), st.sampled_from([".nii.gz", ".nrrd", ".mha"]))
def test_label_maps_come_back_as_they_were_written(labels, ending):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"labels{ending}"
        write_labels(path, labels)
        found = read_labels(path, LabelScheme.simple("a"))
    assert found.array.dtype == np.uint8
    assert found.scheme == LabelScheme.simple("a")
    assert np.array_equal(found.array, labels.array)
    same_grid(found.grid, labels.grid, exact=not ending.startswith(".nii"))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_what_is_read_is_what_simpleitk_reads(tmp_path, ending):
    sitk = pytest.importorskip("SimpleITK")
    path = tmp_path / f"a{ending}"
    an_image(path)
    reference = sitk.ReadImage(str(path))
    found = read_image(path)
    assert np.array_equal(found.array[0], sitk.GetArrayFromImage(reference))
    assert found.grid.spacing_mm == reference.GetSpacing()[::-1]
    assert found.grid.origin_mm == reference.GetOrigin()
    direction = np.array(reference.GetDirection()).reshape(3, 3)
    assert np.array_equal(np.array(found.grid.direction), direction.T[::-1])
    index = (2.0, 3.0, 1.0)  # xyz
    point = reference.TransformContinuousIndexToPhysicalPoint(index)
    assert np.allclose(found.grid.affine @ [*index[::-1], 1], [*point, 1])


def test_the_axis_vectors_of_a_nifti_file_agree_with_nibabel(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    path = tmp_path / "a.nii.gz"
    an_image(path)
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    xyz_affine = to_lps @ nibabel.load(path).affine
    ours = read_image(path).grid.affine[:, [2, 1, 0, 3]]
    assert np.allclose(ours, xyz_affine, atol=1e-4)


def test_one_file_per_channel_is_stacked_in_the_given_order(tmp_path):
    paths = [tmp_path / f"a_{i:04d}.nii.gz" for i in range(3)]
    singles = [an_image(path, seed=i) for i, path in enumerate(paths)]
    found = read_image(paths[::-1])
    assert np.array_equal(found.array, np.concatenate([s.array for s in singles[::-1]]))


def test_channels_on_different_grids_are_refused_by_name(tmp_path):
    an_image(tmp_path / "a.nii.gz")
    an_image(tmp_path / "b.nii.gz", grid=Grid.regular(OBLIQUE.shape))
    with pytest.raises(GeometryError, match=r"b\.nii\.gz: expected the grid of .*a\.nii\.gz; found spacing"):
        read_image([tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"])


def test_the_fourth_axis_of_a_file_is_the_channel(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    volumes = noise((3, 4, 5), channels=2)
    joined = sitk.JoinSeries([sitk.GetImageFromArray(v) for v in volumes])
    for ending in (".nii.gz", ".nrrd", ".mha"):
        sitk.WriteImage(joined, str(tmp_path / f"a{ending}"))
        assert np.array_equal(read_image(tmp_path / f"a{ending}").array, volumes)


def test_whole_numbers_stored_as_floats_are_labels(tmp_path):
    write_image(tmp_path / "a.nii.gz", Image(array=np.array([[[0.0, 2.0]]], np.float32), grid=Grid.regular((1, 2))))
    found = read_labels(tmp_path / "a.nii.gz")
    assert np.issubdtype(found.array.dtype, np.integer)
    assert found.array.tolist() == [[0, 2]]


@pytest.mark.parametrize("value", [0.5, float("nan"), float("inf")])
def test_fractions_are_no_labels(tmp_path, value):
    write_image(tmp_path / "a.nii.gz", Image(array=np.array([[[0.0, value]]], np.float32), grid=Grid.regular((1, 2))))
    with pytest.raises(LabelError, match=r"a\.nii\.gz: expected whole numbers .*round-mask"):
        read_labels(tmp_path / "a.nii.gz")


def test_colours_are_no_labels_but_equal_channels_are(tmp_path):
    array = noise((4, 5), channels=3, dtype=np.uint8)
    write_image(tmp_path / "a.png", Image(array=array, grid=Grid.regular((4, 5))))
    with pytest.raises(LabelError, match="colours"):
        read_labels(tmp_path / "a.png")
    write_image(tmp_path / "b.png", Image(array=np.repeat(array[:1], 3, axis=0), grid=Grid.regular((4, 5))))
    assert np.array_equal(read_mask(tmp_path / "b.png").array, array[:1])


@pytest.mark.parametrize(("highest", "dtype"), [(254, np.uint8), (255, np.uint16), (1000, np.uint16)])
def test_labels_are_written_as_small_as_nnunet_does(tmp_path, highest, dtype):
    labels = LabelMap(array=np.array([[0, highest]], np.int64), grid=Grid.regular((1, 2)))
    write_labels(tmp_path / "a.nii.gz", labels)
    assert read_image(tmp_path / "a.nii.gz").array.dtype == dtype


@pytest.mark.parametrize("value", [-1, 70000])
def test_labels_out_of_range_are_not_written(tmp_path, value):
    labels = LabelMap(array=np.array([[0, value]], np.int64), grid=Grid.regular((1, 2)))
    with pytest.raises(LabelError, match="between 0 and 65535"):
        write_labels(tmp_path / "a.nii.gz", labels)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [np.bool_, np.float16])
def test_types_that_files_lack_are_written_as_the_next_larger_one(tmp_path, dtype):
    array = noise(dtype=np.uint8).astype(dtype)
    write_image(tmp_path / "a.nii.gz", Image(array=array, grid=OBLIQUE))
    assert np.array_equal(read_image(tmp_path / "a.nii.gz").array, array)


def test_an_unknown_ending_is_refused(tmp_path):
    image = Image(array=noise(), grid=OBLIQUE)
    with pytest.raises(UsageError, match="can be written as"):
        write_image(tmp_path / "a.xyz", image)
    (tmp_path / "a.xyz").write_text("x")
    with pytest.raises(ImageReadError, match="none of these endings"):
        read_image(tmp_path / "a.xyz")
    with pytest.raises(UsageError, match="at least one file"):
        read_image([])


def test_labels_lie_on_the_grid_of_their_file(tmp_path):
    labels = a_mask(tmp_path / "a.nrrd")
    assert read_labels(tmp_path / "a.nrrd").grid.matches(labels.grid, tolerance_mm=1e-9, relative=1e-9)


def test_many_threads_write_into_one_folder(tmp_path: Path) -> None:
    """Every file is a writer's own business: earlier each one touched all files of the folder."""
    labels = LabelMap(array=np.zeros((6, 5, 4), np.uint8), grid=Grid.regular((6, 5, 4)), scheme=None)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: write_labels(tmp_path / "new" / f"{i}.nii.gz", labels), range(80)))
    assert len(list((tmp_path / "new").iterdir())) == 80
