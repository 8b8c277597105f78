"""Finding trained models among folders; reading them is tested with the flow (``test_exchange_models``)."""

from __future__ import annotations

from pathlib import Path

import pytest

from delineate.errors import ModelError
from delineate.formats.nnunet.trained_model import find_trained_folder, trained_folders

NAMES = ("nnUNetTrainer__nnUNetPlans__2d", "nnUNetTrainer__nnUNetPlans__3d_fullres", "Mine__nnUNetPlans__3d_fullres")


@pytest.fixture
def results(tmp_path) -> Path:
    results = tmp_path / "home" / "results"
    for name in NAMES:
        (results / "Dataset001_A" / name / "fold_0").mkdir(parents=True)
    (results / "Dataset001_A" / "ensembles" / "ensemble___a__b__c___d__e__f___0").mkdir(parents=True)
    (results / "readme.txt").write_text("")
    return results


def test_models_are_found_from_every_level(results) -> None:
    for level in (results, results / "Dataset001_A", results.parent):
        assert sorted(folder.name for folder in trained_folders(level)) == sorted(NAMES)
    assert trained_folders(results / "Dataset001_A" / NAMES[0]) == [results / "Dataset001_A" / NAMES[0]]


def test_a_folder_of_another_name_is_known_by_its_content(tmp_path) -> None:
    (tmp_path / "mine" / "fold_all").mkdir(parents=True)
    assert trained_folders(tmp_path / "mine") == []
    (tmp_path / "mine" / "plans.json").write_text("{}")
    assert trained_folders(tmp_path / "mine") == [tmp_path / "mine"]
    assert find_trained_folder(tmp_path, configuration=None) == tmp_path / "mine"


def test_one_is_chosen(results) -> None:
    assert find_trained_folder(results, configuration="2d").name == NAMES[0]
    assert find_trained_folder(results, configuration=NAMES[2]).name == NAMES[2]


@pytest.mark.parametrize(("asked", "told"), [(None, "several"), ("3d_fullres", "fits 2"), ("3d_lowres", "fits 0")])
def test_unclear_wishes_list_what_there_is(results, asked, told) -> None:
    with pytest.raises(ModelError, match=told) as caught:
        find_trained_folder(results, configuration=asked)
    assert all(name in str(caught.value) for name in NAMES)


def test_nothing_there(tmp_path) -> None:
    assert trained_folders(tmp_path / "none") == []
    with pytest.raises(ModelError, match="no trained model of nnU-Net"):
        find_trained_folder(tmp_path)
