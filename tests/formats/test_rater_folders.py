"""Raters' files as people name and encode them."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from delineate.case import Image, Structure
from delineate.errors import DatasetError, LabelError, UsageError
from delineate.formats.datasets.rater_folders import match_files, rater_folders, read_rater_mask
from delineate.formats.images import write_image
from delineate.geometry.grid import Grid

MASK = np.zeros((6, 8), np.bool_)
MASK[2:4, 3:7] = True
CELL = (Structure(name="cell", values=(1,)),)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)
    return path


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        save(folder / name, MASK.astype(np.uint8))
    return folder


def encodings() -> dict[str, np.ndarray]:
    grey = MASK.astype(np.uint8) * 255
    colour = np.repeat(grey[..., None], 3, axis=-1)
    alpha = np.concatenate([colour, np.full((*MASK.shape, 1), 255, np.uint8)], axis=-1)
    return {"one": MASK.astype(np.uint8), "white": grey, "bits": MASK, "rgb": colour, "rgba": alpha}


@pytest.mark.parametrize("structures", [None, CELL])
@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("encoding", list(encodings()))
def test_every_encoding_means_the_same_voxels(tmp_path, encoding, inverted, structures):
    pixels = encodings()[encoding]
    if inverted:
        pixels = ~pixels if pixels.dtype == np.bool_ else pixels.max() - pixels
        if encoding == "rgba":
            pixels[..., 3] = 255
    found = read_rater_mask(save(tmp_path / "m.png", pixels), structures, inverted=inverted)
    (mask,) = found.structures.values()
    np.testing.assert_array_equal(mask, MASK)
    assert found.foreground == (0 if inverted else 1 if encoding in ("one", "bits") else 255)
    assert not found.says_geometry


def test_volumes_say_where_they_lie_and_hold_several_structures(tmp_path):
    labels = np.zeros((1, 3, 4, 5), np.float32)
    labels[0, 1, 1:3, 1:4] = 1
    labels[0, 2, 2, 2] = 3
    write_image(tmp_path / "m.nii.gz", Image(array=labels, grid=Grid.regular((3, 4, 5), (3.0, 1.0, 1.0))))
    two = (Structure(name="liver", values=(1, 3)), Structure(name="tumour", values=(3,)))
    found = read_rater_mask(tmp_path / "m.nii.gz", two)
    assert found.says_geometry
    assert found.grid.spacing_mm == (3.0, 1.0, 1.0)
    np.testing.assert_array_equal(found.structures["liver"], labels[0] > 0)
    np.testing.assert_array_equal(found.structures["tumour"], labels[0] == 3)
    with pytest.raises(LabelError, match=r"m.nii.gz: expected label values 0, 1; found 3"):
        read_rater_mask(tmp_path / "m.nii.gz", CELL)
    with pytest.raises(LabelError, match=r"0 and one other value; found 0, 1, 3"):
        read_rater_mask(tmp_path / "m.nii.gz", None)
    with pytest.raises(LabelError, match="inverted mask"):
        read_rater_mask(tmp_path / "m.nii.gz", two, inverted=True)


def test_grey_levels_and_colours_are_no_masks(tmp_path):
    ramp = np.arange(48, dtype=np.uint8).reshape(6, 8)
    with pytest.raises(LabelError, match=r"grey.png: expected a mask of 0 and one other value.*48 values"):
        read_rater_mask(save(tmp_path / "grey.png", ramp), None)
    with pytest.raises(LabelError, match=r"two\.png"):
        read_rater_mask(save(tmp_path / "two.png", MASK.astype(np.uint8) + 1), None)
    colours = np.stack([MASK, ~MASK, MASK], axis=-1).astype(np.uint8) * 255
    with pytest.raises(LabelError, match="colours"):
        read_rater_mask(save(tmp_path / "colours.png", colours), None)


def test_files_are_matched_by_their_case_whatever_stands_around_it(tmp_path):
    raters = {
        "a": touch(tmp_path / "a", "seg_B01.png", "Seg_B2.png", "B10_mask.png"),
        "b": touch(tmp_path / "b", "b01.png", "P1-B2-final.png", "B10.png", "notes_B9.png"),
    }
    predictions = touch(tmp_path / "model", "B01.png", "B2.png", "B10.png")
    found = match_files(raters, predictions)
    assert [case.case_id for case in found.cases] == ["B01", "B10", "B2"]
    by_case = {case.case_id: {name: path.name for name, path in case.masks.items()} for case in found.cases}
    assert by_case == {
        "B01": {"a": "seg_B01.png", "b": "b01.png"},
        "B10": {"a": "B10_mask.png", "b": "B10.png"},
        "B2": {"a": "Seg_B2.png", "b": "P1-B2-final.png"},
    }
    assert all(case.prediction == predictions / f"{case.case_id}.png" for case in found.cases)
    assert [path.name for path in found.unmatched] == ["notes_B9.png"]
    assert ("Seg_B2.png", "B2") in [(path.name, case_id) for path, case_id in found.by_part]
    assert "B10.png" not in [path.name for path, _ in found.by_part]


def test_the_longest_name_that_fits_counts_and_parts_of_words_do_not(tmp_path):
    raters = {"a": touch(tmp_path / "a", "x_case_1_b.png", "x_case_12.png"), "b": touch(tmp_path / "b", "case_1.png")}
    found = match_files(raters, None, ["case_1", "case_1_b", "case_2"])
    assert {case.case_id: sorted(case.masks) for case in found.cases} == {
        "case_1": ["b"],
        "case_1_b": ["a"],
        "case_2": [],
    }
    assert [path.name for path in found.unmatched] == ["x_case_12.png"]


def test_cases_that_only_people_drew_are_cases_and_predictions_may_be_missing(tmp_path):
    raters = {
        "a": touch(tmp_path / "a", "seg_B01.png", "seg_B02.png", "seg_B03.png"),
        "b": touch(tmp_path / "b", "B01_seg.png", "B02-mask.png"),
    }
    without = match_files(raters)
    assert [case.case_id for case in without.cases] == ["B01", "B02"]
    assert [path.name for path in without.unmatched] == ["seg_B03.png"]
    found = match_files(raters, touch(tmp_path / "model", "B02.png"))
    assert [(case.case_id, case.prediction is not None) for case in found.cases] == [("B01", False), ("B02", True)]


def test_two_masks_of_one_case_by_one_rater_are_told_all_at_once(tmp_path):
    raters = {
        "a": touch(tmp_path / "a", "B01.png", "B01_seg.png", "B02.png", "seg_B02.png"),
        "b": touch(tmp_path / "b", "B01.png", "B02.png"),
    }
    with pytest.raises(DatasetError) as told:
        match_files(raters)
    assert len(told.value.faults) == 2
    assert "a: 2 files belong to case B01" in told.value.diagnostics()


def test_raters_are_sub_folders_or_named(tmp_path):
    for name in ("ann", "bob", ".hidden"):
        (tmp_path / "all" / name).mkdir(parents=True)
    (tmp_path / "all" / "readme.txt").touch()
    assert rater_folders([tmp_path / "all"]) == {name: tmp_path / "all" / name for name in ("ann", "bob")}
    ann, bob = tmp_path / "all" / "ann", tmp_path / "all" / "bob"
    assert rater_folders([f"first={ann}", str(bob)]) == {"first": ann, "bob": bob}
    with pytest.raises(UsageError, match="nowhere is no folder; two folders are called x"):
        rater_folders([f"x={ann}", f"x={bob}", "y=nowhere"])
    with pytest.raises(UsageError, match="no second rater"):
        rater_folders([f"x={ann}"])
    with pytest.raises(UsageError, match="found: none"):
        rater_folders([ann])
