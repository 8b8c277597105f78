"""Real folders, as users have them; skipped where DELINEATE_DATA is not set."""

import os
from pathlib import Path

import numpy as np
import pytest

from delineate.errors import DatasetError
from delineate.formats.datasets import open_dataset, verify_dataset
from delineate.formats.images import read_image

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        "DELINEATE_DATA" not in os.environ, reason="DELINEATE_DATA, the folder of real data, is not set"
    ),
]


@pytest.fixture
def data():
    return Path(os.environ["DELINEATE_DATA"])


def test_the_decathlons_hippocampus_is_sound(data):
    dataset = open_dataset(data / "hippocampus")
    assert (dataset.layout, len(dataset.training), dataset.reader_name) == ("msd", 208, "SimpleITKIO")
    assert [s.name for s in dataset.scheme.structures] == ["Anterior", "Posterior"]
    assert verify_dataset(dataset).faults == ()


def test_files_are_read_as_simpleitk_reads_them(data):
    sitk = pytest.importorskip("SimpleITK")
    paths = sorted((data / "hippocampus" / "imagesTr").glob("*.nii.gz"))[:10]
    paths += sorted(data.glob("sarcoma_ct/*/*.nii.gz"))[:6] + sorted(data.glob("tumour_mr_nrrd/*.nrrd"))
    paths += sorted(data.glob("totalseg_reference/*.nii.gz")) + sorted(data.glob("spinal_cord_gm/**/*.nii.gz"))
    for path in paths:
        reference, found = sitk.ReadImage(str(path)), read_image(path)
        array = sitk.GetArrayFromImage(reference)
        assert found.array.dtype == array.dtype
        assert np.array_equal(found.array[0], array)
        assert found.grid.spacing_mm == reference.GetSpacing()[::-1]
        assert found.grid.origin_mm == reference.GetOrigin()


def test_a_folder_per_case(data):
    dataset = open_dataset(data / "sarcoma_ct")
    assert (len(dataset.training), dataset.channel_names) == (15, ("CT",))
    assert dataset.training[0].case_id == "STS_003"
    assert verify_dataset(dataset).faults == ()


def test_pictures_with_black_and_white_masks(data):
    dataset = open_dataset(data / "sunnybrook_cine")
    assert len({case.patient_id for case in dataset.training}) == 30
    verification = verify_dataset(dataset)
    assert {(fault.kind, fault.repair) for fault in verification.errors} == {("black-and-white", "map-255-to-1")}
    mended = open_dataset(data / "sunnybrook_cine", repairs=frozenset({"map-255-to-1"}))
    assert np.unique(mended.load(mended.training[0]).labels.array).tolist() == [0, 1]


def test_nrrd_pairs(data):
    with pytest.raises(DatasetError, match="without gaps"):
        open_dataset(data / "tumour_mr_nrrd")
    dataset = open_dataset(data / "tumour_mr_nrrd", repairs=frozenset({"undeclared-to-background"}))
    names = [case.case_id for case in dataset.training]
    assert names == ["brain1", "brain2", "breast1", "prostate_phantom_subvolume"]
    for files in dataset.training:
        assert dataset.load(files).labels.array.max() <= 1


def test_bids_is_explained(data):
    with pytest.raises(DatasetError, match="looks like BIDS"):
        open_dataset(data / "spinal_cord_gm")
