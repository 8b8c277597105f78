import csv
import json

import numpy as np
import pytest
from broken_files import OBLIQUE, a_mask, an_image, noise

from delineate.case import Image, LabelMap
from delineate.errors import DatasetError, GeometryError, InputError, LabelError, UsageError
from delineate.formats.datasets import REPAIRS, open_dataset
from delineate.formats.datasets.patients import patient_from_name
from delineate.formats.images import write_image, write_labels
from delineate.geometry.grid import Grid

PLANE = Grid.regular((6, 9))


def nnunet_folder(root, *, cases=3, channels=1, ending=".nii.gz", **changes):
    for i in range(cases):
        for c in range(channels):
            an_image(root / "imagesTr" / f"case_{i}_{c:04d}{ending}", seed=10 * i + c)
        a_mask(root / "labelsTr" / f"case_{i}{ending}", seed=i)
    content = {
        "channel_names": {str(c): f"channel{c}" for c in range(channels)},
        "labels": {"background": 0, "liver": 1, "spleen": 2},
        "numTraining": cases,
        "file_ending": ending,
        **changes,
    }
    root.mkdir(exist_ok=True)
    (root / "dataset.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return root


def picture(path, array):
    write_image(path, Image(array=array, grid=Grid.regular(array.shape[1:])))


# nnU-Net raw ------------------------------------------------------------------------------------------------------


def test_an_nnunet_folder_is_read(tmp_path):
    root = nnunet_folder(tmp_path / "Dataset001_Test", channels=2)
    an_image(root / "imagesTs" / "new_0000.nii.gz")
    an_image(root / "imagesTs" / "new_0001.nii.gz")
    dataset = open_dataset(root)
    assert (dataset.name, dataset.layout, dataset.file_ending) == ("Dataset001_Test", "nnunet_raw", ".nii.gz")
    assert dataset.channel_names == ("channel0", "channel1")
    assert [s.name for s in dataset.scheme.structures] == ["liver", "spleen"]
    assert [c.case_id for c in dataset.training] == ["case_0", "case_1", "case_2"]
    assert [p.name for p in dataset.training[1].images] == ["case_1_0000.nii.gz", "case_1_0001.nii.gz"]
    assert dataset.reader_name == "SimpleITKIO"
    assert [c.case_id for c in dataset.testing] == ["new"]
    assert dataset.testing[0].labels is None
    case = dataset.load(dataset.training[2])
    assert case.image.array.shape == (2, *OBLIQUE.shape)
    assert case.labels.scheme is dataset.scheme
    assert dataset.load(dataset.testing[0]).labels is None


def test_held_out_truth_is_found_beside_the_test_images(tmp_path):
    root = nnunet_folder(tmp_path)
    an_image(root / "imagesTs" / "new_0000.nii.gz")
    a_mask(root / "labelsTs" / "new.nii.gz")
    assert open_dataset(root).testing[0].labels == root / "labelsTs" / "new.nii.gz"


def test_regions_and_the_ignore_label(tmp_path):
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    root = nnunet_folder(tmp_path, labels=labels, regions_class_order=[1, 2])
    scheme = open_dataset(root).scheme
    assert [s.values for s in scheme.structures] == [(1, 2), (2,)]
    assert (scheme.ignore, scheme.region_order, scheme.head_count) == (3, (1, 2), 2)


def test_the_first_versions_spelling_is_understood(tmp_path):
    labels = {"0": "background", "1": "liver", "2": "spleen"}
    root = nnunet_folder(tmp_path, channel_names=None, modality={"0": "CT"}, labels=labels, file_ending=None)
    dataset = open_dataset(root)
    assert dataset.channel_names == ("CT",)
    assert [s.name for s in dataset.scheme.structures] == ["liver", "spleen"]
    assert dataset.file_ending == ".nii.gz"


def test_explicit_file_lists_with_variables(tmp_path, monkeypatch):
    nnunet_folder(tmp_path / "elsewhere")
    monkeypatch.setenv("SOME_PLACE", str(tmp_path / "elsewhere"))
    listed = {
        f"c{i}": {
            "images": [f"$SOME_PLACE/imagesTr/case_{i}_0000.nii.gz"],
            "label": f"../elsewhere/labelsTr/case_{i}.nii.gz",
        }
        for i in range(2)
    }
    root = nnunet_folder(tmp_path / "here", cases=0, dataset=listed)
    dataset = open_dataset(root)
    assert [c.case_id for c in dataset.training] == ["c0", "c1"]
    assert dataset.load(dataset.training[1]).image.array.shape == (1, *OBLIQUE.shape)


def test_all_faults_of_a_dataset_json_are_told_at_once(tmp_path):
    root = nnunet_folder(tmp_path, labels={"liver": 1}, channel_names={"1": "CT"}, file_ending=".xyz", numTraining="3")
    with pytest.raises(DatasetError, match=r"dataset\.json has 5 fault") as caught:
        open_dataset(root)
    text = caught.value.diagnostics()
    for word in ("background", "without gaps", "file_ending", "numTraining", "no training cases"):
        assert word in text


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ({"background": 0, "a": 2}, "consecutive"),
        ({"background": 0, "a": 1, "ignore": 7}, "ignore"),
        ({"background": 0, "a": [1, 2]}, "regions_class_order"),
        ({"background": 0, "a": 1.5}, "whole number"),
        ({"0": "background", "1": "a", "2": "a"}, "unique"),
        ({}, "labels"),
    ],
)
def test_impossible_labels_are_told(tmp_path, labels, text):
    with pytest.raises(DatasetError) as caught:
        open_dataset(nnunet_folder(tmp_path, labels=labels))
    assert text in caught.value.diagnostics()


@pytest.mark.parametrize("content", ["{", "[1]", "\xff"])
def test_a_broken_dataset_json_is_told(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content, encoding="latin-1")
    with pytest.raises(DatasetError, match=r"dataset\.json: expected a JSON object"):
        open_dataset(tmp_path)


def test_colour_pictures_count_as_three_channels(tmp_path):
    for i in range(2):
        picture(tmp_path / "imagesTr" / f"c{i}_0000.png", noise((6, 9), 3, np.uint8))
        picture(tmp_path / "labelsTr" / f"c{i}.png", (noise((6, 9), 1, np.uint8) > 90).astype(np.uint8))
    names = {"0": "R", "1": "G", "2": "B"}
    content = {"channel_names": names, "labels": {"background": 0, "x": 1}, "numTraining": 2, "file_ending": ".png"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    dataset = open_dataset(tmp_path)
    assert dataset.reader_name == "NaturalImage2DIO"
    assert dataset.load(dataset.training[0]).image.array.shape == (3, 6, 9)


@pytest.mark.parametrize(("shape", "reader"), [((6, 9), "NaturalImage2DIO"), ((4, 6, 9), "Tiff3DIO")])
def test_the_reader_of_tiff_files_depends_on_what_they_are(tmp_path, shape, reader):
    picture(tmp_path / "images" / "a.tif", noise(shape, 1, np.uint8))
    picture(tmp_path / "masks" / "a.tif", (noise(shape, 1, np.uint8) > 90).astype(np.uint8))
    assert open_dataset(tmp_path).reader_name == reader


# Decathlon --------------------------------------------------------------------------------------------------------


def decathlon_folder(root, *, numbered=False):
    sitk = pytest.importorskip("SimpleITK")
    for i in range(2):
        channels = [sitk.GetImageFromArray(v) for v in noise((5, 6, 7), 2, seed=i)]
        a_mask(root / "labelsTr" / f"b_{i}.nii.gz", grid=Grid.regular((5, 6, 7)))
        (root / "imagesTr").mkdir(exist_ok=True)
        if numbered:
            for c, channel in enumerate(channels):
                sitk.WriteImage(channel, str(root / "imagesTr" / f"b_{i}_{c:04d}.nii.gz"))
        else:
            sitk.WriteImage(sitk.JoinSeries(channels), str(root / "imagesTr" / f"b_{i}.nii.gz"))
        (root / "imagesTr" / f"._b_{i}.nii.gz").write_bytes(b"mac")
    pairs = [{"image": f"./imagesTr/b_{i}.nii.gz", "label": f"./labelsTr/b_{i}.nii.gz"} for i in range(2)]
    content = {
        "name": "BRATS",
        "modality": {"0": "FLAIR", "1": "T1w"},
        "labels": {"0": "background", "1": "edema", "2": "tumour"},
        "numTraining": 2,
        "training": pairs,
        "test": ["./imagesTs/b_9.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("numbered", [False, True])
def test_a_decathlon_folder_is_read(tmp_path, numbered):
    dataset = open_dataset(decathlon_folder(tmp_path, numbered=numbered))
    assert (dataset.name, dataset.layout) == ("BRATS", "msd")
    assert dataset.channel_names == ("FLAIR", "T1w")
    assert [c.case_id for c in dataset.training] == ["b_0", "b_1"]
    assert [c.case_id for c in dataset.testing] == ["b_9"]
    assert dataset.surplus == ()
    case = dataset.load(dataset.training[1])
    assert np.array_equal(case.image.array, noise((5, 6, 7), 2, seed=1))


def test_a_decathlon_list_with_faults_is_told(tmp_path):
    decathlon_folder(tmp_path)
    content = json.loads((tmp_path / "dataset.json").read_text())
    content["training"] = [{"image": "a.nii.gz"}, 5]
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="3 fault"):
        open_dataset(tmp_path)


# plain folders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "mask", "first"),
    [
        ("images/{i}.nii.gz", "labels/{i}.nii.gz", "p0"),
        ("Images/{i}.nrrd", "masks/{i}.nii.gz", "p0"),
        ("images/sub/{i}.nii.gz", "segmentations/sub/{i}_seg.nii.gz", "p0"),
        ("{i}_image.nii.gz", "{i}_mask.nii.gz", "p0"),
        ("{i}.nrrd", "{i}-label.nrrd", "p0"),
        ("{i}/image.nii.gz", "{i}/mask.nii.gz", "p0"),
        ("{i}/CT_image.nii.gz", "{i}/CT_mask.nii.gz", "p0"),
        ("a/{i}_img.mha", "a/{i}_seg.mha", "p0"),
    ],
)
def test_plain_folders_are_paired_by_name(tmp_path, image, mask, first):
    for i in range(3):
        an_image(tmp_path / image.format(i=f"p{i}"))
        a_mask(tmp_path / mask.format(i=f"p{i}"), values=(0, 1, 2))
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "folder_pairs"
    assert [c.case_id for c in dataset.training] == [first, "p1", "p2"]
    assert [s.name for s in dataset.scheme.structures] == ["label_1", "label_2"]
    assert dataset.channel_names == (("CT",) if "CT" in image else ("image",))
    case = dataset.load(dataset.training[0])
    assert case.labels.array.max() == 2


def test_two_scans_in_one_patients_folder_get_both_names(tmp_path):
    for patient in ("a", "b"):
        for scan in ("one", "two"):
            an_image(tmp_path / patient / f"{scan}_image.nii.gz")
            a_mask(tmp_path / patient / f"{scan}_mask.nii.gz")
    assert [c.case_id for c in open_dataset(tmp_path).training] == ["a_one", "a_two", "b_one", "b_two"]


def test_channel_numbers_in_a_plain_folder_are_channels(tmp_path):
    for i in range(2):
        for c in range(2):
            an_image(tmp_path / "images" / f"x{i}_{c:04d}.nii.gz")
        a_mask(tmp_path / "labels" / f"x{i}.nii.gz")
    dataset = open_dataset(tmp_path)
    assert [len(c.images) for c in dataset.training] == [2, 2]
    assert dataset.channel_names == ("channel_0", "channel_1")


@pytest.mark.parametrize("content", [{"liver": 1, "spleen": 2}, {"background": 0, "liver": 1, "spleen": 2}])
def test_a_labels_file_names_the_labels(tmp_path, content):
    an_image(tmp_path / "images" / "a.nii.gz")
    a_mask(tmp_path / "labels" / "a.nii.gz")
    (tmp_path / "labels.json").write_text(json.dumps(content))
    assert [s.name for s in open_dataset(tmp_path).scheme.structures] == ["liver", "spleen"]


def test_hounsfield_units_make_the_channel_ct(tmp_path):
    values = noise().astype(np.int16) * 10 - 1000
    write_image(tmp_path / "images" / "a.nii.gz", Image(array=values, grid=OBLIQUE))
    a_mask(tmp_path / "labels" / "a.nii.gz")
    assert open_dataset(tmp_path).channel_names == ("CT",)


@pytest.mark.parametrize(
    ("values", "text"),
    [((0,), "every mask that can be read is empty"), ((0, 1, 3), r"found \[1, 3\]"), ((0, 100, 200), "without gaps")],
)
def test_mask_values_that_are_no_classes_are_told(tmp_path, values, text):
    an_image(tmp_path / "images" / "a.nii.gz")
    a_mask(tmp_path / "labels" / "a.nii.gz", values=values)
    with pytest.raises(DatasetError, match=text):
        open_dataset(tmp_path)


def test_instance_numbers_are_told(tmp_path):
    grid = Grid.regular((20, 20))
    an_image(tmp_path / "images" / "a.nii.gz", grid=grid)
    write_labels(tmp_path / "labels" / "a.nii.gz", LabelMap(array=np.arange(400).reshape(20, 20), grid=grid))
    with pytest.raises(DatasetError, match="instance"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("content", [{}, {"dataset_description.json": "{}"}])
def test_a_folder_that_is_not_understood_says_what_is(tmp_path, content):
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    an_image(tmp_path / "x.nii.gz")
    with pytest.raises(DatasetError, match="layout is not understood; found") as caught:
        open_dataset(tmp_path)
    assert len(caught.value.faults) == 5
    assert ("BIDS" in str(caught.value)) == bool(content)


def test_a_missing_folder_and_an_unknown_repair(tmp_path):
    with pytest.raises(DatasetError, match="found nothing"):
        open_dataset(tmp_path / "no")
    with pytest.raises(UsageError, match="nan-to-zero"):
        open_dataset(tmp_path, repairs=frozenset({"magic"}))


# patients ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("sub-012_ses-1_T1w", "sub-012"),
        ("sub-9709Ses2_run-1", "sub-9709"),
        ("SC-HF-I-01-IM-0001-0048.dcm", "SC-HF-I-01"),
        ("BraTS-GLI-00005-001", "BraTS-GLI-00005"),
        ("TCGA-CS-4941_19960909", "TCGA-CS-4941"),
        ("hippocampus_003", "hippocampus_003"),
    ],
)
def test_names_of_known_collections_carry_the_patient(case, patient):
    assert patient_from_name(case) == patient


@pytest.mark.parametrize(("name", "delimiter"), [("patients.csv", ","), ("cases.csv", ";"), ("participants.tsv", "\t")])
def test_a_table_says_which_patient_a_case_belongs_to(tmp_path, name, delimiter):
    root = nnunet_folder(tmp_path)
    with (root / name).open("w", newline="") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([("Case", "Patient"), ("case_0", "p"), ("case_2", "p")])
    assert [c.patient_id for c in open_dataset(root).training] == ["p", "case_1", "p"]


def test_a_table_that_contradicts_itself_is_told(tmp_path):
    root = nnunet_folder(tmp_path)
    (root / "patients.csv").write_text("case,patient\ncase_0,a\ncase_0,b\n")
    with pytest.raises(DatasetError, match="one patient only") as caught:
        open_dataset(root)
    assert "case_0" in caught.value.diagnostics()


def test_a_table_about_other_things_is_left_alone(tmp_path):
    root = nnunet_folder(tmp_path)
    (root / "participants.tsv").write_text("participant_id\tage\nsub-1\t30\n")
    assert [c.patient_id for c in open_dataset(root).training] == ["case_0", "case_1", "case_2"]


# repairs ----------------------------------------------------------------------------------------------------------


def broken_case(tmp_path, kind):
    root = nnunet_folder(tmp_path, cases=1)
    image, mask = root / "imagesTr" / "case_0_0000.nii.gz", root / "labelsTr" / "case_0.nii.gz"
    if kind == "nan-to-zero":
        array = noise().astype(np.float32)
        array.flat[:3] = (np.nan, np.inf, -np.inf)
        write_image(image, Image(array=array, grid=OBLIQUE))
    if kind == "geometry-from-image":
        a_mask(mask, grid=Grid.regular(OBLIQUE.shape))
    if kind == "undeclared-to-background":
        a_mask(mask, values=(0, 1, 2, 7))
    if kind == "round-mask":
        write_image(mask, Image(array=np.full((1, *OBLIQUE.shape), 0.9, np.float32), grid=OBLIQUE))
    if kind == "map-255-to-1":
        a_mask(mask, values=(0, 255))
    return root


@pytest.mark.parametrize(
    ("repair", "error"),
    [
        ("nan-to-zero", InputError),
        ("geometry-from-image", GeometryError),
        ("undeclared-to-background", LabelError),
        ("round-mask", LabelError),
        ("map-255-to-1", LabelError),
    ],
)
def test_a_repair_is_done_only_when_asked_for_and_is_recorded(tmp_path, repair, error, caplog):
    root = broken_case(tmp_path, repair)
    strict = open_dataset(root)
    with pytest.raises(error, match=f"--repair {repair}"):
        strict.load(strict.training[0])
    mended = open_dataset(root, repairs=frozenset({repair}))
    case = mended.load(mended.training[0])
    assert "case_0" in caplog.text
    assert np.isfinite(case.image.array).all()
    assert case.labels.grid == case.image.grid
    assert 1 <= case.labels.array.max() <= 2
    assert repair in REPAIRS
