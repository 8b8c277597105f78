"""Zips of trained models: what goes in, what is installed, and what is refused with nothing left behind."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from delineate.errors import ModelError, ResourceError, UnsafeModelError, UsageError
from delineate.formats.nnunet import model_zip
from delineate.formats.nnunet.model_zip import install_model_zip, is_model_zip, unpacked_models, write_model_zip
from formats.nnunet.trained_models import make_trained_model

MODEL = Path("Dataset007_Toy", "nnUNetTrainer_MyOwn__nnUNetPlans__3d_fullres")


@pytest.fixture
def exported(tmp_path) -> Path:
    folder = make_trained_model(tmp_path / "theirs", folds=("0", "1"))
    (folder / "fold_0" / "validation").mkdir()
    (folder / "fold_0" / "validation" / "summary.json").write_text("{}")
    (folder / "fold_0" / "validation" / "case.nii.gz").write_bytes(b"not wanted")
    write_model_zip(tmp_path / "model.zip", [folder])
    return tmp_path / "model.zip"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_paths_are_relative_to_the_results_folder(exported) -> None:
    with zipfile.ZipFile(exported) as archive:
        names = set(archive.namelist())
    files = ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth", "fold_1/checkpoint_final.pth")
    assert names == {f"{MODEL}/{name}" for name in (*files, "fold_0/validation/summary.json")}


def test_an_installed_model_is_the_exported_one(tmp_path, exported) -> None:
    assert install_model_zip(exported, tmp_path / "results") == (tmp_path / "results" / MODEL,)
    expected = contents(tmp_path / "theirs")
    del expected[f"{MODEL}/fold_0/validation/case.nii.gz"]
    assert contents(tmp_path / "results") == expected


def test_a_standing_model_is_replaced_only_when_asked(tmp_path, exported) -> None:
    results = tmp_path / "results"
    (results / MODEL).mkdir(parents=True)
    (results / MODEL / "mine.txt").write_text("keep me")
    with pytest.raises(UsageError, match="already has Dataset007_Toy"):
        install_model_zip(exported, results)
    assert contents(results) == {f"{MODEL}/mine.txt": b"keep me"}
    install_model_zip(exported, results, overwrite=True)
    assert f"{MODEL}/mine.txt" not in contents(results)
    assert [entry.name for entry in results.iterdir()] == ["Dataset007_Toy"]


def test_what_lies_beside_the_models_comes_along(tmp_path, exported) -> None:
    with zipfile.ZipFile(exported, "a") as archive:
        archive.writestr("Dataset007_Toy/inference_information.json", "{}")
    install_model_zip(exported, tmp_path / "results")
    assert (tmp_path / "results" / "Dataset007_Toy" / "inference_information.json").read_text() == "{}"


def test_only_what_is_needed_is_unpacked_to_read(exported) -> None:
    with unpacked_models(exported, checkpoint="checkpoint_final.pth") as folder:
        assert not any("summary" in name for name in contents(folder))
        assert len(contents(folder)) == 4
    assert not folder.exists()


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "a/../../escaped", "C:escaped", "a\\..\\..\\escaped"])
def test_names_that_lead_outside(tmp_path, exported, name) -> None:
    with zipfile.ZipFile(exported, "a") as archive:
        archive.writestr(name, "")
    with pytest.raises(UnsafeModelError, match="leads out of it"):
        install_model_zip(exported, tmp_path / "deep" / "results")
    assert contents(tmp_path / "deep") == {}
    assert not list(tmp_path.rglob("*escaped*"))


def test_links(tmp_path, exported) -> None:
    link = zipfile.ZipInfo(f"{MODEL}/fold_2")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(exported, "a") as archive:
        archive.writestr(link, "/etc")
    with pytest.raises(UnsafeModelError, match="a link"):
        install_model_zip(exported, tmp_path / "results")
    assert contents(tmp_path / "results") == {}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicates(tmp_path, exported) -> None:
    with zipfile.ZipFile(exported, "a") as archive:
        archive.writestr(f"{MODEL}/plans.json", "{}")
    with pytest.raises(UnsafeModelError, match="several files of one name"):
        install_model_zip(exported, tmp_path / "results")


def test_inflation(tmp_path, exported, monkeypatch) -> None:
    monkeypatch.setattr(model_zip, "SMALL_FILE", 1000)
    with zipfile.ZipFile(exported, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{MODEL}/fold_0/bomb", bytes(10**6))
    with pytest.raises(ModelError, match="would become 1000000 bytes"):
        install_model_zip(exported, tmp_path / "results")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 0.999])
def test_truncated(tmp_path, exported, share) -> None:
    data = exported.read_bytes()
    exported.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelError, match="no readable zip"):
        install_model_zip(exported, tmp_path / "results")
    assert not is_model_zip(exported)


def test_a_flipped_bit(tmp_path, exported) -> None:
    with zipfile.ZipFile(exported) as archive:
        start = archive.getinfo(f"{MODEL}/fold_1/checkpoint_final.pth").header_offset
    data = bytearray(exported.read_bytes())
    data[start + 400] ^= 0xFF
    exported.write_bytes(data)
    with pytest.raises(ModelError, match="no readable zip"):
        install_model_zip(exported, tmp_path / "results")
    assert contents(tmp_path / "results") == {}


def test_missing_and_empty(tmp_path) -> None:
    with pytest.raises(ModelError, match="There is no file"):
        install_model_zip(tmp_path / "none.zip", tmp_path / "results")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ModelError, match="found no trained model"):
        install_model_zip(tmp_path / "other.zip", tmp_path / "results")
    assert not is_model_zip(tmp_path / "other.zip")
    assert not is_model_zip(tmp_path)


def test_incomplete_models_are_not_exported(tmp_path) -> None:
    folder = make_trained_model(tmp_path / "theirs", folds=("0", "1"))
    (folder / "plans.json").unlink()
    (folder / "fold_1" / "checkpoint_final.pth").unlink()
    with pytest.raises(ModelError, match=r"plans\.json is missing; .*fold_1/checkpoint_final\.pth is missing"):
        write_model_zip(tmp_path / "model.zip", [folder])
    assert not (tmp_path / "model.zip").exists()


def test_a_results_folder_that_cannot_be_made(tmp_path, exported) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="Could not write"):
        install_model_zip(exported, tmp_path / "file" / "results")
