from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from delineate.errors import ModelError
from delineate.formats.nnunet.model_zip import install_model_zip
from delineate.formats.totalsegmentator import find_models, weights_hash
from delineate.planning.anatomy import LICENCES, SubModel, task_named

MODELS = task_named("total").variant("normal").models
OPEN = LICENCES["open"]


def place_model(root: Path, model: SubModel, *, folder: str = "", trained: str = "", leave_out: str = "") -> Path:
    target = root / (folder or model.folder) / (trained or model.model_folder)
    for name in ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth"):
        if name != leave_out:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_text(name)
    return target


def test_all_models_are_found_in_the_first_place_that_has_them(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    expected = {model.dataset_id: place_model(second, model) for model in MODELS}
    expected[291] = place_model(first, MODELS[0])
    assert find_models(MODELS, [first, second], OPEN) == expected


def test_the_home_folder_of_totalsegmentator_will_do(tmp_path: Path) -> None:
    expected = place_model(tmp_path / "nnunet" / "results", MODELS[0])
    assert find_models(MODELS[:1], [tmp_path], OPEN) == {291: expected}


def test_other_names_of_the_same_id_and_configuration_are_taken(tmp_path: Path) -> None:
    expected = place_model(
        tmp_path, MODELS[0], folder="Dataset291_mine", trained="nnUNetTrainer_mine__nnUNetPlans__3d_fullres"
    )
    assert find_models(MODELS[:1], [tmp_path], OPEN) == {291: expected}
    published = place_model(tmp_path, MODELS[0])
    assert find_models(MODELS[:1], [tmp_path], OPEN) == {291: published}


def test_everything_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    place_model(tmp_path, MODELS[0])
    place_model(tmp_path, MODELS[1], leave_out="fold_0/checkpoint_final.pth")
    (tmp_path / MODELS[2].folder).mkdir()
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(ModelError) as raised:
        find_models(MODELS, [tmp_path, elsewhere], OPEN)
    text = str(raised.value)
    assert "4 of 5 models are missing or incomplete" in text
    assert "is incomplete, missing are fold_0/checkpoint_final.pth" in text
    assert f"has no trained model {MODELS[2].model_folder}" in text
    assert f"294: {MODELS[3].folder} is nowhere" in text
    assert str(tmp_path) in text
    assert str(elsewhere) in text
    assert f"{MODELS[3].folder}.zip of release v2.0.0-weights" in text
    assert "Apache-2.0" in text
    assert f"{MODELS[0].folder}.zip" not in text


def test_models_without_a_release_come_from_their_authors(tmp_path: Path) -> None:
    task = task_named("tissue_types")
    with pytest.raises(ModelError, match="from its authors") as raised:
        find_models(task.variant("normal").models, [tmp_path], task.licence)
    assert "licence number" in str(raised.value)


def test_the_hash_covers_all_folds(tmp_path: Path) -> None:
    folder = place_model(tmp_path, MODELS[0])
    before = weights_hash(folder)
    (folder / "fold_1").mkdir()
    (folder / "fold_1" / "checkpoint_final.pth").write_text("other")
    assert weights_hash(folder) != before
    assert len(before) == 64


def packed(path: Path, names: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return path


def contents(model: SubModel) -> dict[str, str]:
    top = f"{model.folder}/{model.model_folder}"
    return {f"{top}/{n}": n for n in ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth")}


def test_a_downloaded_zip_is_installed_and_found(tmp_path: Path) -> None:
    results = tmp_path / "new" / "results"
    path = packed(tmp_path / "weights.zip", contents(MODELS[3]))
    assert install_model_zip(path, results) == (results / MODELS[3].folder / MODELS[3].model_folder,)
    assert find_models(MODELS[3:4], [results], OPEN)[294].is_dir()
    assert [child.name for child in results.iterdir()] == [MODELS[3].folder]
