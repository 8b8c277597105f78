"""BIDS folders become datasets; every fault is told at once."""

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from delineate.case import Image
from delineate.errors import DatasetError, UsageError
from delineate.execution import Cancellation, Silent, Watched
from delineate.formats.datasets import open_dataset, verify_dataset
from delineate.formats.datasets.bids import BidsWish, MaskSource, parse_name, select_bids
from delineate.formats.images import read_image, read_labels, write_image
from delineate.geometry.grid import Grid
from delineate.workflows.convert_bids import convert_bids

SHAPE = (3, 6, 5)
GRID = Grid.regular(SHAPE, (3.0, 0.5, 0.5))
CORD, GREY = MaskSource(structure="cord", ending="seg-manual"), MaskSource(structure="grey", ending="gmseg-manual")
WISH = BidsWish(sources=(CORD, GREY))
WATCHED = Watched(progress=Silent(), cancellation=Cancellation())


def put(path: Path, array: np.ndarray, grid: Grid = GRID) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Image(array=array[None].astype(np.float32), grid=grid))


def masks() -> tuple[np.ndarray, np.ndarray]:
    cord, grey = np.zeros(SHAPE), np.zeros(SHAPE)
    cord[:, 1:5, 1:4] = 1
    grey[:, 2:4, 2] = 1
    return cord, grey


def add(root: Path, name: str, suffix: str = "T2starw", *, endings: tuple[str, ...] = ("seg-manual", "gmseg-manual")):
    """Write an image and its masks: ``name`` is ``sub-01_ses-1_run-1``."""
    subject, *rest = name.split("_")
    place = Path(subject, *[part for part in rest if part.startswith("ses-")], "anat")
    put(root / place / f"{name}_{suffix}.nii.gz", np.random.default_rng(len(name)).normal(size=SHAPE))
    for ending, mask in zip(("seg-manual", "gmseg-manual"), masks(), strict=True):
        if ending in endings:
            put(root / "derivatives" / "labels" / place / f"{name}_{suffix}_{ending}.nii.gz", mask)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "bids"
    folder.mkdir()
    (folder / "dataset_description.json").write_text('{"Name": "cords", "BIDSVersion": "1.6.0"}')
    (folder / "participants.tsv").write_text(
        "participant_id\tsex\tage\tSite\nsub-01\tF\t26\tMilan\nsub-02\tM\tn/a\tUCL\nsub-03\tn/a\tn/a\tOslo"
    )
    for name in ("sub-01_run-1", "sub-02_run-1"):
        add(folder, name)
    return folder


def test_a_bids_folder_becomes_a_dataset_that_can_be_used(root, tmp_path):
    done = convert_bids(root, tmp_path / "out", WISH, **WATCHED)
    dataset = open_dataset(tmp_path / "out")
    assert dataset == done.dataset
    assert verify_dataset(dataset).faults == ()
    assert [case.case_id for case in dataset.training] == ["sub-01_run-1", "sub-02_run-1"]
    assert {s.name: s.values for s in dataset.scheme.structures} == {"cord": (1, 2), "grey": (2,)}
    assert dataset.channel_names == ("T2starw",)
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["regions_class_order"] == [1, 2]
    cord, grey = masks()
    labels = read_labels(tmp_path / "out" / "labelsTr" / "sub-01_run-1.nii.gz")
    assert np.array_equal(labels.array, cord + grey)
    assert labels.grid.matches(GRID)
    copied = tmp_path / "out" / "imagesTr" / "sub-01_run-1_0000.nii.gz"
    assert copied.read_bytes() == (root / "sub-01" / "anat" / "sub-01_run-1_T2starw.nii.gz").read_bytes()


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "cases.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_the_table_has_every_column_and_nothing_where_nothing_is_known(root, tmp_path):
    convert_bids(root, tmp_path / "out", WISH, **WATCHED)
    assert table(tmp_path / "out") == [
        {"case": "sub-01_run-1", "patient": "sub-01", "sex": "F", "age": "26", "Site": "Milan"},
        {"case": "sub-02_run-1", "patient": "sub-02", "sex": "M", "age": "", "Site": "UCL"},
    ]


def test_sessions_are_one_patient_in_either_spelling(root, tmp_path):
    add(root, "sub-03_ses-1_run-1")
    add(root, "sub-03_ses-2_run-1")
    add(root, "sub-04Ses1_run-1")
    add(root, "sub-04Ses2_run-1")
    with (root / "participants.tsv").open("a") as stream:
        stream.write("\nsub-04Ses1\tM\t30\tBrno\nsub-04Ses2\tM\t30\tBrno\n")
    done = convert_bids(root, tmp_path / "out", WISH, **WATCHED)
    patients = {case.case_id: case.patient_id for case in done.dataset.training}
    assert patients["sub-03_ses-1_run-1"] == patients["sub-03_ses-2_run-1"] == "sub-03"
    assert patients["sub-04Ses1_run-1"] == patients["sub-04Ses2_run-1"] == "sub-04"
    assert {row["case"]: row["session"] for row in table(tmp_path / "out")}["sub-03_ses-2_run-1"] == "2"
    assert {row["case"]: row["Site"] for row in table(tmp_path / "out")}["sub-04Ses2_run-1"] == "Brno"


def test_runs_are_cases(root, tmp_path):
    add(root, "sub-01_run-2")
    done = convert_bids(root, tmp_path / "out", WISH, **WATCHED)
    assert [case.case_id for case in done.dataset.training][:2] == ["sub-01_run-1", "sub-01_run-2"]


def test_several_suffixes_must_be_chosen_and_become_channels(root, tmp_path):
    for subject in ("sub-01", "sub-02"):
        put(root / subject / "anat" / f"{subject}_run-1_T1w.nii.gz", np.arange(90.0).reshape(SHAPE))
    with pytest.raises(DatasetError, match=r"several kinds: T1w \(2\), T2starw \(2\)\. Choose with --suffix"):
        convert_bids(root, tmp_path / "out", WISH, **WATCHED)
    with pytest.raises(DatasetError, match="no images with the suffix FLAIR"):
        convert_bids(root, tmp_path / "out", replace(WISH, suffixes=("FLAIR",)), **WATCHED)
    done = convert_bids(root, tmp_path / "out", replace(WISH, suffixes=("T2starw", "T1w")), **WATCHED)
    assert done.dataset.channel_names == ("T2starw", "T1w")
    second = read_image(done.dataset.training[0].images[1]).array
    assert second.max() == 89
    one = convert_bids(root, tmp_path / "one", replace(WISH, suffixes=("T2starw",)), **WATCHED)
    assert one.dataset.channel_names == ("T2starw",)


def test_all_faults_are_told_at_once(root, tmp_path):
    add(root, "sub-03_run-1", endings=("seg-manual",))
    add(root, "sub-05_run-1")
    labels = root / "derivatives" / "labels"
    shifted = replace(GRID, origin_mm=(9.0, 0.0, 0.0))
    put(labels / "sub-01" / "anat" / "sub-01_run-1_T2starw_seg-manual.nii.gz", masks()[0], shifted)
    put(labels / "sub-02" / "anat" / "sub-02_run-1_T2starw_gmseg-manual.nii.gz", masks()[1] * 0.4)
    put(root / "sub-01" / "anat" / "image.nii.gz", masks()[1])
    put(root / "sub-01" / "anat" / "sub-01_run-1_T2starw_mask.nii.gz", masks()[1])  # beside its image: no fault
    with (root / "participants.tsv").open("a") as stream:
        stream.write("\nsub-02\tF\t30\tOslo")
    with pytest.raises(DatasetError) as caught:
        convert_bids(root, tmp_path / "out", WISH, **WATCHED)
    text = caught.value.diagnostics()
    assert "sub-03_run-1: no mask of grey; expected a file whose name ends in _gmseg-manual" in text
    assert "sub-05 is not in participants.tsv" in text
    assert "sub-01_run-1_T2starw_seg-manual.nii.gz: expected the grid of the image; found origin" in text
    assert "sub-02_run-1_T2starw_gmseg-manual.nii.gz: expected a binary mask" in text
    assert "image.nii.gz: expected a name such as sub-01_T1w" in text
    assert "sub-02 has several rows in participants.tsv" in text
    assert len(caught.value.faults) == 6
    assert not (tmp_path / "out").exists()


def test_without_a_table_of_participants_there_are_no_columns(root, tmp_path):
    (root / "participants.tsv").unlink()
    done = convert_bids(root, tmp_path / "out", WISH, **WATCHED)
    assert done.columns == ()
    assert list(table(tmp_path / "out")[0]) == ["case", "patient"]


@pytest.mark.parametrize("content", ["", "name\tsex\nsub-01\tF"])
def test_a_table_of_participants_that_is_none_is_refused(root, tmp_path, content):
    (root / "participants.tsv").write_text(content)
    with pytest.raises(DatasetError, match="expected a column participant_id"):
        convert_bids(root, tmp_path / "out", WISH, **WATCHED)


def test_images_without_any_mask_may_be_left_out(root, tmp_path):
    add(root, "sub-03_run-1", endings=())
    with pytest.raises(DatasetError):
        convert_bids(root, tmp_path / "out", WISH, **WATCHED)
    done = convert_bids(root, tmp_path / "out", replace(WISH, leave_out_unmasked=True), **WATCHED)
    assert done.left_out == ("sub-03_run-1",)
    assert len(done.dataset.training) == 2


def test_a_mask_whose_name_fits_two_images_is_refused(root, tmp_path):
    add(root, "sub-01_run-2")
    folder = root / "derivatives" / "labels" / "sub-01" / "anat"
    for path in folder.glob("*run-*_seg-manual*"):
        path.unlink()
    put(folder / "sub-01_T2starw_seg-manual.nii.gz", masks()[0])
    with pytest.raises(DatasetError) as caught:
        convert_bids(root, tmp_path / "out", WISH, **WATCHED)
    assert "the name fits several images (sub-01_run-1, sub-01_run-2)" in caught.value.diagnostics()


def test_the_mask_that_names_the_image_most_exactly_is_taken(root):
    folder = root / "derivatives" / "labels" / "sub-01" / "anat"
    put(folder / "sub-01_T2starw_seg-manual.nii.gz", masks()[0])
    case = select_bids(root, WISH).cases[0]
    assert case.masks["cord"].name == "sub-01_run-1_T2starw_seg-manual.nii.gz"


def test_masks_in_the_names_of_the_specification(root, tmp_path):
    for subject in ("sub-01", "sub-02"):
        values = masks()[0] + masks()[1]
        put(root / "derivatives" / "atlas" / subject / "anat" / f"{subject}_run-1_space-orig_dseg.nii.gz", values)
    sources = tuple(MaskSource(structure=name, ending="dseg", value=value) for name, value in (("wm", 1), ("gm", 2)))
    done = convert_bids(root, tmp_path / "out", BidsWish(sources=sources, derivative="atlas"), **WATCHED)
    assert {s.name: s.values for s in done.dataset.scheme.structures} == {"wm": (1,), "gm": (2,)}
    labels = read_labels(tmp_path / "out" / "labelsTr" / "sub-01_run-1.nii.gz").array
    assert np.array_equal(labels, masks()[0] + masks()[1])


def test_site_and_scanner_come_from_the_json_files_of_images(root, tmp_path):
    (root / "T2starw.json").write_text('{"Manufacturer": "Siemens", "MagneticFieldStrength": 3}')
    (root / "sub-02" / "anat" / "sub-02_run-1_T2starw.json").write_text('{"MagneticFieldStrength": 7}')
    convert_bids(root, tmp_path / "out", WISH, **WATCHED)
    assert [(r["Manufacturer"], r["MagneticFieldStrength"]) for r in table(tmp_path / "out")] == [
        ("Siemens", "3"),
        ("Siemens", "7"),
    ]


def test_images_may_be_linked(root, tmp_path):
    convert_bids(root, tmp_path / "out", WISH, hard_link=True, **WATCHED)
    source = root / "sub-01" / "anat" / "sub-01_run-1_T2starw.nii.gz"
    assert source.samefile(tmp_path / "out" / "imagesTr" / "sub-01_run-1_0000.nii.gz")


def test_a_folder_with_something_in_it_is_not_written_over(root, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(UsageError, match="does not exist yet or is empty"):
        convert_bids(root, tmp_path / "out", WISH, **WATCHED)


def test_other_folders_say_what_is_there(root, tmp_path):
    with pytest.raises(DatasetError, match=r"there is none\. Name the folder that holds it"):
        select_bids(tmp_path, WISH)
    with pytest.raises(DatasetError, match="Derivatives that are there: labels"):
        select_bids(root, replace(WISH, derivative="masks"))


def test_opening_a_bids_folder_names_the_command(root):
    with pytest.raises(DatasetError, match=r"delineate convert-bids FOLDER --mask NAME=ENDING"):
        open_dataset(root)


def test_parts_of_a_name():
    name = parse_name("sub-01_ses-a_run-2_T1w_seg-manual")
    assert dict(name.entities) == {"sub": "01", "ses": "a", "run": "2"}
    assert (name.suffix, name.rest, name.text) == ("T1w", "seg-manual", "sub-01_ses-a_run-2")


@pytest.mark.skipif("DELINEATE_DATA" not in os.environ, reason="DELINEATE_DATA does not point to the real data")
def test_the_spinal_cords_of_five_sites(tmp_path):
    root = Path(os.environ["DELINEATE_DATA"]) / "spinal_cord_gm"
    done = convert_bids(root, tmp_path / "out", WISH, **WATCHED)
    assert len(done.dataset.training) == 6
    assert len({case.patient_id for case in done.dataset.training}) == 5
    assert done.strays == ("sub-9604_run-1: 1 of 521 voxels of grey lie outside of cord; they now belong to both",)
    assert {row["Site"] for row in table(tmp_path / "out")} == {"UCL", "NWU", "Philips", "Milan", "CEITEC"}
    assert [fault for fault in verify_dataset(done.dataset).faults if fault.severity == "error"] == []


@pytest.mark.skipif("DELINEATE_DATA" not in os.environ, reason="DELINEATE_DATA does not point to the real data")
def test_masks_with_grey_edges_are_told(tmp_path):
    root = Path(os.environ["DELINEATE_DATA"]) / "axon_sem"
    sources = tuple(MaskSource(structure=name, ending=f"seg-{name}-manual") for name in ("axon", "myelin"))
    with pytest.raises(DatasetError) as caught:
        convert_bids(root, tmp_path / "out", BidsWish(sources=sources), **WATCHED)
    assert len(caught.value.faults) == 2
    assert "4 values (0, 130, 233, 255)" in caught.value.faults[0]
