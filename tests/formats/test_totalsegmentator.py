from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from delineate.errors import ModelError, UnsafeModelError, UsageError
from delineate.formats.totalsegmentator import find_models, install_weights, weights_hash
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
    assert install_weights(path, results) == (results / MODELS[3].folder,)
    assert find_models(MODELS[3:4], [results], OPEN)[294].is_dir()
    assert [child.name for child in results.iterdir()] == [MODELS[3].folder]


def test_what_is_installed_is_not_overwritten(tmp_path: Path) -> None:
    path = packed(tmp_path / "weights.zip", contents(MODELS[3]))
    install_weights(path, tmp_path / "results")
    with pytest.raises(UsageError, match="is there already"):
        install_weights(path, tmp_path / "results")


@pytest.mark.parametrize("name", ["../outside.txt", "/absolute.txt", "Dataset294_x/../../outside.txt", "a\\b", "C:/x"])
def test_paths_out_of_the_folder_are_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    path = packed(tmp_path / "weights.zip", {**contents(MODELS[3]), name: "harm"})
    with pytest.raises(UnsafeModelError, match="leads out of it"):
        install_weights(path, tmp_path / "results")
    assert [*(tmp_path / "results").iterdir()] == []
    assert not (tmp_path / "outside.txt").exists()


def test_links_are_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "weights.zip", contents(MODELS[3]))
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo(f"{MODELS[3].folder}/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc")
    with pytest.raises(UnsafeModelError, match="a link"):
        install_weights(path, tmp_path / "results")


def test_implausibly_compressed_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents(MODELS[3]).items():
            archive.writestr(name, content)
        archive.writestr(f"{MODELS[3].folder}/zeros", bytes(65 * 2**20))
    with pytest.raises(ModelError, match="cannot be right"):
        install_weights(path, tmp_path / "results")


def test_other_files_are_no_weights(tmp_path: Path) -> None:
    other = packed(tmp_path / "other.zip", {"readme.txt": "hello"})
    with pytest.raises(ModelError, match=r"no zip of weights.*readme\.txt"):
        install_weights(other, tmp_path / "results")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ModelError, match="no readable zip"):
        install_weights(tmp_path / "text.zip", tmp_path / "results")
    with pytest.raises(ModelError, match="There is no file"):
        install_weights(tmp_path / "absent.zip", tmp_path / "results")
    whole = packed(tmp_path / "whole.zip", contents(MODELS[3]))
    (tmp_path / "cut.zip").write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(ModelError, match="no readable zip"):
        install_weights(tmp_path / "cut.zip", tmp_path / "results")
