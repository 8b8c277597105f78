"""Label maps in folders: names, values, and what a file does not say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from delineate.case import Structure
from delineate.errors import DatasetError, LabelError
from delineate.formats.datasets.label_files import (
    LabelRules,
    is_placed,
    label_files,
    open_label_folder,
    read_by,
    same_case,
    value_counts,
)
from evaluation_folders import two_organs, write_map, write_picture


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
def test_values_are_counted(dtype: type) -> None:
    labels = np.random.default_rng(0).integers(0, 9, (5, 6, 7)).astype(dtype)
    assert value_counts(labels) == {v: int((labels == v).sum()) for v in range(9)}
    if dtype != np.uint8:
        labels[0, 0, 0] = -4
        assert value_counts(labels)[-4] == 1
    if dtype == np.int32:
        labels[0, 0, 1] = 1_000_000
        assert value_counts(labels)[1_000_000] == 1


def test_undeclared_values_become_background_and_are_counted(tmp_path: Path) -> None:
    path = write_map(tmp_path, "a", two_organs())
    found = read_by(LabelRules(declared=frozenset({1})), path)
    assert found.undeclared == {2: int((two_organs() == 2).sum())}
    assert set(np.unique(found.array)) == {0, 1}
    wanted = LabelRules(declared=frozenset({1}), repairs=frozenset({"undeclared-to-background"}))
    assert read_by(wanted, path).undeclared == {}
    renamed = read_by(LabelRules(declared=frozenset({1}), renamed=((2, 1), (1, 0))), path)
    assert np.array_equal(renamed.array, two_organs() == 2)  # all at once, not one after the other


def test_white_is_one_only_where_one_is_the_only_value(tmp_path: Path) -> None:
    path = write_picture(tmp_path, "a", np.array([[0, 255], [255, 0]], np.uint8))
    assert read_by(LabelRules(declared=frozenset({1})), path).white
    assert read_by(LabelRules(declared=frozenset({1, 2})), path).undeclared == {255: 2}
    assert read_by(LabelRules(declared=frozenset({255})), path).array.max() == 255


def test_which_files_tell_the_size_of_a_voxel(tmp_path: Path) -> None:
    assert is_placed(write_map(tmp_path, "a", two_organs()))
    picture = write_picture(tmp_path, "b", np.eye(4, dtype=np.uint8))
    assert not is_placed(picture)
    (tmp_path / "b.json").write_text('{"spacing": [999, 0.5, 0.5]}')
    assert is_placed(picture)


def test_names_of_cases(tmp_path: Path) -> None:
    for folder, name in (("x", "segmentation"), ("y", "segmentation")):
        write_map(tmp_path / "per_case" / folder, name, two_organs())
    assert list(label_files(tmp_path / "per_case")) == ["x", "y"]
    for folder, name in (("p1", "a"), ("p1", "b"), ("p2", "c")):
        write_map(tmp_path / "parts" / folder, name, two_organs())
    assert list(label_files(tmp_path / "parts")) == ["a", "b", "c"]
    write_map(tmp_path / "parts" / "p2", "a", two_organs())
    with pytest.raises(DatasetError) as told:
        label_files(tmp_path / "parts")
    assert told.value.faults == (f"a: {Path('p1/a.nii.gz')}, {Path('p2/a.nii.gz')}",)
    assert [same_case(s) for s in ("a_seg", "a-mask", "mask", "a_0000", "a_0001")] == ["a", "a", "mask", "a", "a_0001"]


def test_what_a_folder_declares(tmp_path: Path) -> None:
    write_map(tmp_path / "maps", "a", two_organs())
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "whole": [1, 2], "core": 2}}))
    with pytest.raises(DatasetError, match="fault"):
        open_label_folder(tmp_path / "maps")  # regions without their order
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "liver", "2": "tumour"}}))
    assert [s.name for s in open_label_folder(tmp_path / "maps").structures] == ["liver", "tumour"]
    given = (Structure(name="any", values=(1, 2)),)
    assert open_label_folder(tmp_path / "maps", given).structures == given
    (tmp_path / "none").mkdir()
    with pytest.raises(DatasetError, match="found none"):
        open_label_folder(tmp_path / "none")


def test_instances_and_empty_maps_are_no_classes(tmp_path: Path) -> None:
    numbers = np.arange(300, dtype=np.uint16).reshape(3, 10, 10)
    write_map(tmp_path / "instances", "a", numbers)
    with pytest.raises(DatasetError, match="instance numbers"):
        open_label_folder(tmp_path / "instances")
    write_map(tmp_path / "empty", "a", np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(DatasetError, match="with foreground"):
        open_label_folder(tmp_path / "empty")


def test_colours_are_no_values(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (5, 5, 3)).astype(np.uint8)
    PIL.Image.fromarray(colours).save(tmp_path / "a.png")
    with pytest.raises(LabelError, match="colours"):
        read_by(LabelRules(declared=frozenset({1})), tmp_path / "a.png")
