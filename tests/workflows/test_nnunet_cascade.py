"""nnU-Net's training command on a cascade: the first stage's folds write what the second stage's training reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from delineate.cli.main import main
from delineate.formats.images import read_labels
from delineate.formats.model_package import ModelPackage
from delineate.formats.nnunet import trainer_names
from delineate.formats.nnunet.plans_json import read_plan
from delineate.formats.nnunet.workspace import NnunetDataset
from delineate.formats.prepared_store import StoredArray
from delineate.formats.stage_labels import open_stage_labels
from delineate.workflows.exchange_models import read_model
from delineate.workflows.nnunet_workspace import store_of
from workflows.nnunet_folders import (
    NAME,
    add_cascade,
    environment_of,
    folders_in,
    short,
    write_case,
    write_raw_dataset,
    write_two_folds,
)

FULL, FIRST, SECOND = "3d_fullres", "3d_lowres", "3d_cascade_fullres"
TRAINER = "nnUNetTrainer_1epoch"
WORDS = ("-tr", TRAINER, "-device", "cpu")
CASES = tuple(f"case_{index:02d}" for index in range(6))


def run(*words: str) -> None:
    assert main(["nnunet", *words]) == 0


@pytest.fixture(scope="module")
def patched():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(trainer_names.TRAINERS, TRAINER, (short(2),))
        yield patch


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, patched: pytest.MonkeyPatch) -> NnunetDataset:
    """Both folds of the first stage, and fold 0 of the second."""
    folders = folders_in(tmp_path_factory.mktemp("nnunet"))
    for variable, value in environment_of(folders).items():
        patched.setenv(variable, value)
    assert folders.raw is not None
    assert folders.preprocessed is not None
    raw = write_raw_dataset(folders.raw)
    write_case(raw, "new_0", 20, 1, part="Ts")
    write_two_folds(folders.raw)
    run("plan_and_preprocess", "-d", "7", "--no_pp", "-npfp", "1")
    add_cascade(folders.preprocessed)
    run("preprocess", "-d", "7", "-c", FULL, FIRST, "-np", "1")
    for configuration, fold in ((FIRST, "0"), (FIRST, "1"), (SECOND, "0")):
        run("train", "7", configuration, fold, *WORDS)
    return NnunetDataset(name=NAME, folders=folders)


@pytest.fixture
def place(trained: NnunetDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NnunetDataset:
    """The same in folders of this test's own."""
    shutil.copytree(trained.raw.parents[1], tmp_path / "nnunet")
    folders = folders_in(tmp_path / "nnunet")
    for variable, value in environment_of(folders).items():
        monkeypatch.setenv(variable, value)
    return NnunetDataset(name=NAME, folders=folders)


def model_of(place: NnunetDataset, configuration: str) -> Path:
    return place.model(TRAINER, "nnUNetPlans", configuration)


def stage_of(place: NnunetDataset) -> Path:
    return model_of(place, FIRST) / "predicted_next_stage" / SECOND


def test_every_fold_writes_the_cases_that_it_did_not_see(trained: NnunetDataset) -> None:
    assert {path.name for path in stage_of(trained).iterdir()} == {f"{case_id}.b2nd" for case_id in CASES}
    plan = read_plan(trained.plan("nnUNetPlans"))
    store = store_of(trained, plan, plan.configuration(FULL))
    found = set()
    for case_id in CASES:
        stage = open_stage_labels(stage_of(trained), case_id)
        assert stage.dtype == np.uint8
        assert stage.shape == store.open(case_id).array.shape[1:]
        found |= set(np.unique(stage[...]))
        fold = CASES.index(case_id) % 2
        validated = read_labels(model_of(trained, FIRST) / f"fold_{fold}" / "validation" / f"{case_id}.nii.gz").array
        assert np.mean(stage[...] > 0) == pytest.approx(np.mean(validated[2:, :, 1:] > 0), abs=0.05)
    assert found <= {0, 1, 2}
    assert len(found) > 1


def test_the_second_stage_is_trained_validated_and_written_as_any_model(trained: NnunetDataset) -> None:
    folder = model_of(trained, SECOND)
    validated = {path.name for path in (folder / "fold_0" / "validation").glob("*.nii.gz")}
    assert validated == {f"{case_id}.nii.gz" for case_id in CASES[::2]}
    package = read_model(folder)
    assert package.input_channels == 1 + 2
    assert isinstance(package.previous, ModelPackage)
    assert list(package.previous.weights) == ["0"]


def test_the_trained_cascade_predicts_from_label_maps_and_alone(trained: NnunetDataset, tmp_path: Path) -> None:
    images = str(trained.raw / "imagesTs")
    words = ["-i", images, "-d", "7", "-tr", TRAINER, "-f", "0", "-device", "cpu", "--disable_tta"]
    run("predict", *words, "-c", FIRST, "-o", str(tmp_path / "first"))
    given = ("-prev_stage_predictions", str(tmp_path / "first"))
    run("predict", *words, "-c", SECOND, "-o", str(tmp_path / "given"), *given)
    run("predict", *words, "-c", SECOND, "-o", str(tmp_path / "alone"))
    given_array, alone = (read_labels(tmp_path / name / "new_0.nii.gz").array for name in ("given", "alone"))
    np.testing.assert_array_equal(given_array, alone)


def test_missing_label_maps_are_told_with_the_commands(place: NnunetDataset, capsys: pytest.CaptureFixture) -> None:
    (stage_of(place) / "case_02.b2nd").unlink()
    (stage_of(place) / "case_03.b2nd").unlink()
    (model_of(place, FIRST) / "fold_1" / "checkpoint_final.pth").unlink()
    assert main(["nnunet", "train", "7", SECOND, "0", *WORDS]) == 2
    told = capsys.readouterr().err
    assert "2 of 6 are missing" in told
    assert "case_02, case_03" in told
    command = f"nnUNetv2_train {NAME} {FIRST} {{}} -tr {TRAINER} -p nnUNetPlans"
    assert command.format(0) + " --val\n" in told
    assert command.format(1) + "\n" in told


def test_damaged_and_outdated_label_maps_are_told(place: NnunetDataset, capsys: pytest.CaptureFixture) -> None:
    (stage_of(place) / "case_00.b2nd").write_bytes(b"no array")
    other = place.prepared("nnUNetPlans_3d_lowres") / "case_02_seg.b2nd"
    assert StoredArray(other, first_channel=True).ndim == 3
    shutil.copyfile(other, stage_of(place) / "case_02.b2nd")
    assert main(["nnunet", "train", "7", SECOND, "0", *WORDS, "--val"]) == 2
    told = capsys.readouterr().err
    assert "2 of 3 are missing, damaged or of another size (case_00, case_02)" in told


def test_validating_needs_the_label_maps_of_its_cases_only(place: NnunetDataset) -> None:
    (stage_of(place) / "case_01.b2nd").unlink()
    run("train", "7", SECOND, "0", *WORDS, "--val")


def test_validating_the_first_stage_writes_its_label_maps_again(place: NnunetDataset) -> None:
    kept = {case_id: open_stage_labels(stage_of(place), case_id)[...] for case_id in CASES}
    shutil.rmtree(stage_of(place))
    run("train", "7", FIRST, "1", *WORDS, "--val")
    assert {path.name for path in stage_of(place).iterdir()} == {f"{case_id}.b2nd" for case_id in CASES[1::2]}
    for case_id in CASES[1::2]:
        np.testing.assert_array_equal(open_stage_labels(stage_of(place), case_id)[...], kept[case_id])


def test_without_prepared_cases_of_the_second_stage_the_first_is_trained_all_the_same(
    place: NnunetDataset, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(place.prepared("nnUNetPlans_3d_fullres"))
    shutil.rmtree(stage_of(place))
    run("train", "7", FIRST, "0", *WORDS)
    assert not stage_of(place).exists()
    assert f"nnUNetv2_preprocess -d {NAME} -plans_name nnUNetPlans -c {SECOND}" in caplog.text


def test_a_cascade_cannot_start_from_another_model(place: NnunetDataset, capsys: pytest.CaptureFixture) -> None:
    start = str(model_of(place, FIRST) / "fold_0" / "checkpoint_final.pth")
    assert main(["nnunet", "train", "7", SECOND, "0", *WORDS, "-pretrained_weights", start]) == 2
    assert "without -pretrained_weights" in capsys.readouterr().err
