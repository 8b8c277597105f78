"""nnU-Net's commands: their words, their errors, and the whole way mixed with the real nnU-Net."""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from cli.nnunet_command_oracle import ask
from delineate.cli.main import main
from delineate.cli.nnunet import NNUNET_COMMANDS
from delineate.formats.images import read_labels, write_labels
from delineate.formats.nnunet import trainer_names
from delineate.formats.nnunet.workspace import NnunetFolders
from workflows.nnunet_folders import NAME, environment_of, folders_in, short, write_case, write_raw_dataset

REPOSITORY = Path(__file__).parents[2]
ALIASES = REPOSITORY / "aliases" / "pyproject.toml"
PREFIX = "nnUNetv2_"
FULL = "3d_fullres"

DIFFERENCES = {
    ("*", "-d"): {"required"},  # nnU-Net fails without
    ("export_model_to_zip", "--not_strict"): set(),
    ("evaluate_folder", "-pfile"): {"required"},  # not needed
}
"""Deliberate differences: command and option -> what differs."""


def parser_of(name: str) -> argparse.ArgumentParser:
    command = next(command for command in NNUNET_COMMANDS if command.name == name)
    parser = argparse.ArgumentParser()
    command.declare(parser)
    return parser


def options_of(parser: argparse.ArgumentParser) -> dict[str, dict[str, Any]]:
    return {
        (sorted(action.option_strings) or [action.dest])[0]: {
            "options": sorted(action.option_strings) or [action.dest],
            "default": _plain(action.default),
            "nargs": action.nargs,
            "required": action.required,
        }
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction)
    }


def _plain(default: Any) -> Any:
    if default == argparse.SUPPRESS:  # a flag whose value may come from the program's own option
        return False
    return list(default) if isinstance(default, tuple) else default


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NnunetFolders:
    found = folders_in(tmp_path)
    for variable, value in environment_of(found).items():
        monkeypatch.setenv(variable, value)
    return found


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.oracle
def test_every_option_is_nnunets_own(tmp_path: Path) -> None:
    theirs = ask({"kind": "parsers"}, tmp_path)
    names = {command.name for command in NNUNET_COMMANDS}
    assert names == set(theirs)
    for name in sorted(names):
        ours = options_of(parser_of(name))
        expected = {entry["options"][0]: entry for entry in theirs[name]}
        assert set(ours) == set(expected), name
        for option, entry in expected.items():
            allowed = DIFFERENCES.get((name, option), set()) | DIFFERENCES.get(("*", option), set())
            different = {key for key in ours[option] if ours[option][key] != entry[key]}
            assert different <= allowed, (name, option, ours[option], entry)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["nnunet", "--help"])
    assert left.value.code == 0
    told = capsys.readouterr().out
    assert all(command.name in told for command in NNUNET_COMMANDS)


@pytest.mark.parametrize("name", [command.name for command in NNUNET_COMMANDS])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["nnunet", name, "--help"])
    assert left.value.code == 0
    assert f"delineate nnunet {name}" in capsys.readouterr().out


def test_options_may_be_shortened_as_in_nnunet() -> None:
    found = parser_of("predict").parse_args(
        ["-i", "a", "-o", "b", "-d", "4", "-c", "2d", "--c", "--save", "-f", "0", "1"]
    )
    assert found.continue_prediction
    assert found.save_probabilities
    assert found.f == ["0", "1"]


def test_an_option_without_effect_is_told(folders: NnunetFolders, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["nnunet", "predict", "-i", "x", "-o", "y", "-d", NAME, "-c", FULL, "-npp", "8", "-device", "cpu"]
    assert main([*words, "--not_on_device"]) == 5
    told = capsys.readouterr().err
    assert "-npp has no effect here: cases are worked on by threads" in told
    assert "--not_on_device has no effect here" in told
    assert "-nps" not in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["plan_and_preprocess", "-d", "7", "-preprocessor_name", "Mine"], "-preprocessor_name Mine"),
        (["extract_fingerprint", "-d", "7", "-fpe", "Mine"], "-fpe Mine"),
        (["export_model_to_zip", "-d", "7", "-o", "x.zip", "--exp_cv_preds"], "--exp_cv_preds is not to be had"),
    ],
)
def test_what_would_change_the_result_is_refused(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["nnunet", *words])
    assert left.value.code == 2
    assert told in capsys.readouterr().err


def test_the_default_of_a_refused_option_is_taken() -> None:
    words = ["-d", "7", "-preprocessor_name", "DefaultPreprocessor"]
    assert parser_of("plan_experiment").parse_args(words).preprocessor_name == "DefaultPreprocessor"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["plan_and_preprocess", "-d", "7"], 2, "nnUNet_raw"),
        (["predict", "-i", "x", "-o", "y", "-d", NAME, "-c", "2d"], 2, "nnUNet_results"),
        (["install_pretrained_model_from_zip", "x.zip"], 2, "nnUNet_results"),
        (["convert_MSD_dataset", "-i", "Task07_Blobs"], 2, "nnUNet_raw"),
    ],
)
def test_a_missing_variable_is_named(
    words: list[str],
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(variable, raising=False)
    assert main(["nnunet", *words]) == code
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["train", "8", FULL, "0"], 2, "no dataset with the number 8"),
        (["train", NAME, FULL, "0", "--c", "--val"], 2, "--c"),
        (["plan_experiment", "-d", "7", "-overwrite_target_spacing", "a", "1", "1"], 2, "-overwrite_target_spacing"),
        (["preprocess", "-d", "7", "-np", "1", "2"], 2, "-np"),
        (["predict", "-i", "x", "-o", "y", "-d", NAME, "-c", FULL, "-num_parts", "2", "-part_id", "2"], 2, "-part_id"),
        (["predict_from_modelfolder", "-i", "x", "-o", "y", "-m", "z", "-step_size", "2"], 2, "-step_size"),
    ],
)
def test_wrong_words_are_told(
    words: list[str], code: int, told: str, folders: NnunetFolders, capsys: pytest.CaptureFixture[str]
) -> None:
    assert folders.raw is not None
    (folders.raw / NAME).mkdir(parents=True)
    assert main(["nnunet", *words]) == code
    assert told in capsys.readouterr().err


# --- the bare names --------------------------------------------------------------------------------------------------


def test_the_aliases_name_every_command_and_resolve() -> None:
    scripts = tomllib.loads(ALIASES.read_text())["project"]["scripts"]
    assert set(scripts) == {PREFIX + command.name for command in NNUNET_COMMANDS}
    for name, target in scripts.items():
        module, function = target.split(":")
        found = getattr(importlib.import_module(module), function)
        assert found.args == (name.removeprefix(PREFIX),)


def test_a_bare_name_takes_its_words_from_the_command_line() -> None:
    code = "import sys; from delineate.cli.nnunet import train; sys.exit(train())"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "delineate nnunet train" in done.stdout


# --- the whole way ---------------------------------------------------------------------------------------------------


def run(*words: str) -> None:
    assert main(["nnunet", *words]) == 0


TRAINER = ("-tr", "nnUNetTrainer_1epoch")
CPU = ("-device", "cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NnunetFolders]:
    """Two folds of a model, trained by the commands."""
    folders = folders_in(tmp_path_factory.mktemp("nnunet"))
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in environment_of(folders).items():
            patch.setenv(variable, value)
        patch.setitem(trainer_names.TRAINERS, "nnUNetTrainer_1epoch", (short(2),))
        assert folders.raw is not None
        raw = write_raw_dataset(folders.raw)
        for index in range(2):
            write_case(raw, f"new_{index}", 20 + index, 1, part="Ts")
        run("plan_and_preprocess", "-d", "7", "-c", FULL, "--verify_dataset_integrity", "-npfp", "1", "-np", "1")
        for fold in ("0", "1"):
            run("train", "7", FULL, fold, *TRAINER, *CPU, "--npz")
        yield folders


def model_of(folders: NnunetFolders) -> Path:
    assert folders.results is not None
    return folders.results / NAME / f"nnUNetTrainer_1epoch__nnUNetPlans__{FULL}"


def images_of(folders: NnunetFolders) -> Path:
    assert folders.raw is not None
    return folders.raw / NAME / "imagesTs"


def predict(folders: NnunetFolders, out: Path, *words: str) -> None:
    model = ["-d", "7", "-c", FULL, *TRAINER, "-f", "0", "1", *CPU, "--disable_tta"]
    run("predict", "-i", str(images_of(folders)), "-o", str(out), *model, *words)


def test_a_trained_model_lies_where_nnunet_looks(trained: NnunetFolders) -> None:
    model = model_of(trained)
    assert {path.name for path in model.iterdir() if "crossval" not in path.name} == {
        "dataset.json", "plans.json", "dataset_fingerprint.json", "fold_0", "fold_1",
    }  # fmt: skip
    for fold in ("fold_0", "fold_1"):
        found = {path.name for path in (model / fold).iterdir()}
        assert {"checkpoint_final.pth", "debug.json", "progress.png", "validation"} <= found
        validated = list((model / fold / "validation").glob("*.nii.gz"))
        assert all(path.with_name(path.name.replace(".nii.gz", ".npz")).exists() for path in validated)
        summary = json.loads((model / fold / "validation" / "summary.json").read_text())
        assert len(summary["metric_per_case"]) == len(validated) > 0


def test_the_best_checkpoint_is_kept_validated_and_predicts(trained: NnunetFolders, tmp_path: Path) -> None:
    fold = model_of(trained) / "fold_0"
    shutil.copytree(fold, tmp_path / "fold_0")
    run("train", "7", FULL, "0", *TRAINER, *CPU, "--val", "--val_best")
    assert len(list((fold / "validation").glob("*.nii.gz"))) > 0
    shutil.rmtree(fold)
    shutil.move(tmp_path / "fold_0", fold)
    predict(trained, tmp_path / "best", "-chk", "checkpoint_best.pth")
    predict(trained, tmp_path / "final")
    one, other = (read_labels(tmp_path / side / "new_0.nii.gz").array for side in ("best", "final"))
    np.testing.assert_array_equal(one, other)  # with one validation, the last is the best


def test_the_best_checkpoint_may_be_what_training_validates(
    trained: NnunetFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(trainer_names.TRAINERS, "nnUNetTrainer_20epochs", (short(2),))
    run("train", "7", FULL, "0", "-tr", "nnUNetTrainer_20epochs", *CPU, "--val_best")
    fold = model_of(trained).with_name(f"nnUNetTrainer_20epochs__nnUNetPlans__{FULL}") / "fold_0"
    assert (fold / "checkpoint_best.pth").is_file()
    assert (fold / "validation" / "summary.json").is_file()


def test_a_missing_best_checkpoint_is_told(trained: NnunetFolders, capsys: pytest.CaptureFixture[str]) -> None:
    best = model_of(trained) / "fold_1" / "checkpoint_best.pth"
    content = best.read_bytes()
    best.unlink()
    try:
        assert main(["nnunet", "train", "7", FULL, "1", *TRAINER, *CPU, "--val", "--val_best"]) == 5
    finally:
        best.write_bytes(content)
    assert "checkpoint_best.pth" in capsys.readouterr().err


@pytest.mark.parametrize("raw", [True, False])
def test_every_case_gets_a_picture_of_its_fullest_plane(trained: NnunetFolders, tmp_path: Path, raw: bool) -> None:
    run("plot_overlay_pngs", "-d", "7", "-o", str(tmp_path), "-np", "1", *(["--use_raw"] if raw else []))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"case_{i:02d}.png" for i in range(6)]
    pixels = np.asarray(Pillow.open(tmp_path / "case_00.png"), dtype=int)
    assert pixels.ndim == 3
    coloured = np.ptp(pixels, axis=2) > 60
    assert trained.raw is not None
    labels = read_labels(trained.raw / NAME / "labelsTr" / "case_00.nii.gz").array
    if raw:
        np.testing.assert_array_equal(coloured, labels[9] > 0)  # both balls: one is centred there, one beside
    assert 20 < coloured.sum() <= 1.1 * (labels > 0).any(0).sum()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["-channel_idx", "3"], 4, "has the channels 0 to 0"),
        (["-channel_idx", "-1"], 2, "not negative"),
        (["-c", "3d_huge"], 3, "3d_huge"),
        (["-p", "NoPlans"], 3, "NoPlans"),
    ],
)
def test_pictures_that_cannot_be_made_are_told(
    trained: NnunetFolders, tmp_path: Path, words: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["nnunet", "plot_overlay_pngs", "-d", "7", "-o", str(tmp_path / "out"), *words]) == code
    assert told in capsys.readouterr().err


def test_nothing_is_downloaded(folders: NnunetFolders, capsys: pytest.CaptureFixture[str]) -> None:
    url = "https://example.org/model.zip"
    assert main(["nnunet", "download_pretrained_model_by_url", url]) == 2
    told = capsys.readouterr().err
    assert url in told
    assert "install_pretrained_model_from_zip" in told


def test_a_dataset_of_the_first_version_becomes_one_of_the_second(
    folders: NnunetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "Task007_Blobs"
    shutil.move(write_raw_dataset(tmp_path / "other", cases=2), old)
    declaration = {
        "name": "Blobs", "tensorImageSize": "4D", "modality": {"0": "MRI"}, "numTraining": 2, "numTest": 0,
        "labels": {"0": "background", "1": "large", "2": "small"},
        "training": [{"image": f"./imagesTr/case_{i:02d}.nii.gz", "label": f"./labelsTr/case_{i:02d}.nii.gz"}
                     for i in range(2)],
        "test": [],
    }  # fmt: skip
    (old / "dataset.json").write_text(json.dumps(declaration))
    words = ["nnunet", "convert_old_nnUNet_dataset", str(old)]
    assert main([*words, "Blobs"]) == 2
    assert "DatasetXXX_Name" in capsys.readouterr().err
    run(*words[1:], NAME)
    assert folders.raw is not None
    new = folders.raw / NAME
    assert json.loads((new / "dataset.json").read_text()) == {
        "name": "Blobs", "channel_names": {"0": "MRI"}, "labels": {"background": 0, "large": 1, "small": 2},
        "numTraining": 2, "file_ending": ".nii.gz",
    }  # fmt: skip
    for part in ("imagesTr", "labelsTr"):
        assert {f.name: f.read_bytes() for f in (old / part).iterdir()} == {
            f.name: f.read_bytes() for f in (new / part).iterdir()
        }
    assert main([*words, "Dataset007_Again"]) == 2
    assert "taken by Dataset007_Blobs" in capsys.readouterr().err
    shutil.rmtree(old / "labelsTr")
    assert main([*words, "Dataset008_Other"]) == 3
    assert not (folders.raw / "Dataset008_Other").exists()
    run("extract_fingerprint", "-d", "7", "-np", "1")


@pytest.mark.parametrize("words", [["-num_gpus", "0"], ["--val_best", "--disable_checkpointing"]])
def test_impossible_trainings_are_told(trained: NnunetFolders, words: list[str]) -> None:
    assert main(["nnunet", "train", "7", FULL, "0", *TRAINER, *CPU, *words]) == 2


@pytest.mark.slow
def test_two_processes_train_one_fold(trained: NnunetFolders, tmp_path: Path) -> None:
    """As two GPUs would; the plan is cut to a network that trains an epoch in seconds."""
    assert trained.preprocessed is not None
    plans = json.loads((trained.preprocessed / NAME / "nnUNetPlans.json").read_text())
    tiny = plans["configurations"][FULL]
    tiny["patch_size"], tiny["batch_size"] = [8, 8, 8], 2
    network = tiny["architecture"]["arch_kwargs"]
    network["features_per_stage"], network["n_stages"] = [4, 4], 2
    for key in ("kernel_sizes", "strides", "n_conv_per_stage"):
        network[key] = network[key][:2]
    network["n_conv_per_stage_decoder"] = [1]
    plans["plans_name"] = "Tiny"
    (trained.preprocessed / NAME / "Tiny.json").write_text(json.dumps(plans))
    words = ["train", "7", FULL, "0", "-tr", "nnUNetTrainer_1epoch", "-p", "Tiny", *CPU, "-num_gpus", "2"]
    command = [sys.executable, "-m", "delineate.cli.main", "nnunet", "--plain-progress", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("mean foreground Dice") == 1
    fold = model_of(trained).with_name(f"nnUNetTrainer_1epoch__Tiny__{FULL}") / "fold_0"
    assert {"checkpoint_final.pth", "checkpoint_best.pth", "validation"} <= {path.name for path in fold.iterdir()}


def test_validating_again_gives_the_same_scores(trained: NnunetFolders) -> None:
    summary = model_of(trained) / "fold_1" / "validation" / "summary.json"
    before = summary.read_text()
    run("train", "7", FULL, "1", *TRAINER, *CPU, "--val", "--npz")
    assert json.loads(summary.read_text())["foreground_mean"] == json.loads(before)["foreground_mean"]


def test_a_finished_training_is_not_repeated_when_continued(trained: NnunetFolders) -> None:
    state = model_of(trained) / "fold_0" / "delineate" / "checkpoint_latest.pt"
    before = state.stat().st_mtime_ns
    run("train", "7", FULL, "0", *TRAINER, *CPU, "--c", "--npz")
    assert state.stat().st_mtime_ns == before


def test_predictions_come_with_their_declarations_and_in_parts(trained: NnunetFolders, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(trained, out, "--save_probabilities", "-num_parts", "2")
    assert sorted(path.name for path in out.iterdir()) == [
        "dataset.json", "new_0.nii.gz", "new_0.npz", "new_0.pkl", "plans.json", "predict_from_raw_data_args.json",
    ]  # fmt: skip
    labels = read_labels(out / "new_0.nii.gz").array
    with np.load(out / "new_0.npz") as stored:
        probabilities = stored["probabilities"]
    assert probabilities.shape == (3, *labels.shape)
    np.testing.assert_array_equal(probabilities.argmax(0), labels)
    first = (out / "new_0.nii.gz").stat().st_mtime_ns
    predict(trained, out, "--continue_prediction")
    assert (out / "new_0.nii.gz").stat().st_mtime_ns == first
    assert (out / "new_1.nii.gz").exists()


def test_predictions_are_scored_and_averaged(trained: NnunetFolders, tmp_path: Path) -> None:
    out, mean = tmp_path / "out", tmp_path / "mean"
    predict(trained, out, "--save_probabilities")
    compared = [str(images_of(trained).with_name("labelsTs")), str(out)]
    run("evaluate_folder", *compared, "-djfile", str(out / "dataset.json"), "-pfile", str(out / "plans.json"))
    whole = json.loads((out / "summary.json").read_text())
    run("evaluate_simple", *compared, "-l", "2", "-o", str(tmp_path / "simple.json"))
    assert json.loads((tmp_path / "simple.json").read_text())["mean"]["2"] == whole["mean"]["2"]
    run("ensemble", "-i", str(out), str(out), "-o", str(mean), "--save_npz")
    assert {"new_0.npz", "new_0.pkl", "dataset.json", "plans.json"} <= {path.name for path in mean.iterdir()}
    np.testing.assert_array_equal(read_labels(mean / "new_1.nii.gz").array, read_labels(out / "new_1.nii.gz").array)


def test_the_folds_are_merged(trained: NnunetFolders) -> None:
    run("accumulate_crossval_results", "7", "-c", FULL, *TRAINER, "-f", "0", "1")
    merged = model_of(trained) / "crossval_results_folds_0_1"
    validated = {
        path.name for fold in (0, 1) for path in (model_of(trained) / f"fold_{fold}" / "validation").glob("*.nii.gz")
    }
    assert {path.name for path in merged.glob("*.nii.gz")} == validated
    assert len(json.loads((merged / "summary.json").read_text())["metric_per_case"]) == len(validated)


def test_the_best_configuration_is_found_among_two(
    trained: NnunetFolders, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(trainer_names.TRAINERS, "nnUNetTrainer_10epochs", (short(1),))
    for fold in ("0", "1"):
        run("train", "7", FULL, fold, "-tr", "nnUNetTrainer_10epochs", *CPU, "--npz")
    run("find_best_configuration", "7", "-tr", TRAINER[1], "nnUNetTrainer_10epochs", "-f", "0", "1", "-np", "1")
    assert trained.results is not None
    found = json.loads((trained.results / NAME / "inference_information.json").read_text())
    assert len(found["all_results"]) == 3
    best = max(found["all_results"].values())
    assert found["best_model_or_ensemble"]["result_on_crossval_pre_pp"] == pytest.approx(best)
    assert found["best_model_or_ensemble"]["result_on_crossval_post_pp"] >= best
    assert Path(found["best_model_or_ensemble"]["postprocessing_file"]).is_file()
    assert "nnUNetv2_predict -d Dataset007_Blobs" in capsys.readouterr().out
    pairs = list((trained.results / NAME / "ensembles").iterdir())
    assert len(list(pairs[0].glob("*.nii.gz"))) == len(list(model_of(trained).glob("fold_*/validation/*.nii.gz")))


def test_missing_folds_are_told(trained: NnunetFolders, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nnunet", "accumulate_crossval_results", "7", "-c", FULL, *TRAINER]) == 3
    assert "fold_4 has no validation predictions" in capsys.readouterr().err


def test_a_zip_brings_the_model_elsewhere(
    trained: NnunetFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["nnunet", "export_model_to_zip", "-d", "7", "-o", str(tmp_path / "model.zip"), *TRAINER]
    assert main([*words, "-c", FULL]) == 5
    assert "fold_4" in capsys.readouterr().err
    assert main([*words, "--not_strict"]) == 0
    predict(trained, tmp_path / "here")
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "elsewhere"))
    run("install_pretrained_model_from_zip", str(tmp_path / "model.zip"))
    predict(trained, tmp_path / "there")
    for name in ("new_0.nii.gz", "new_1.nii.gz"):
        here, there = (read_labels(tmp_path / side / name).array for side in ("here", "there"))
        np.testing.assert_array_equal(here, there)


def test_training_starts_from_a_checkpoint_of_another_dataset(
    trained: NnunetFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(trainer_names.TRAINERS, "nnUNetTrainer_5epochs", (short(1),))
    assert trained.raw is not None
    write_raw_dataset(trained.raw, name="Dataset008_Other")
    run("extract_fingerprint", "-d", "8", "-np", "1")
    run("plan_experiment", "-d", "8")
    run("move_plans_between_datasets", "-s", "7", "-t", "8", "-sp", "nnUNetPlans", "-tp", "Moved")
    run("preprocess", "-d", "8", "-plans_name", "Moved", "-c", FULL, "-np", "1")
    start = str(model_of(trained) / "fold_0" / "checkpoint_final.pth")
    words = ["-tr", "nnUNetTrainer_5epochs", "-p", "Moved", "-pretrained_weights", start]
    run("train", "8", FULL, "all", *words, *CPU, "--disable_checkpointing")
    assert trained.results is not None
    folder = trained.results / "Dataset008_Other" / f"nnUNetTrainer_5epochs__Moved__{FULL}" / "fold_all"
    assert {path.name for path in folder.iterdir()} == {"validation"}


def test_postprocessing_is_chosen_where_it_helps_and_applied(trained: NnunetFolders, tmp_path: Path) -> None:
    references, predictions = images_of(trained).with_name("labelsTr"), tmp_path / "predictions"
    for file in references.iterdir():
        spoilt = read_labels(file)
        array = spoilt.array.copy()
        array[3, 3, 3:6] = 1
        write_labels(predictions / file.name, replace(spoilt, array=array))
    declaration = str(references.with_name("dataset.json"))
    shutil.copyfile(declaration, predictions / "dataset.json")
    run("determine_postprocessing", "-i", str(predictions), "-ref", str(references), "-np", "1")
    record = predictions / "postprocessing.pkl"
    run("apply_postprocessing", "-i", str(predictions), "-o", str(tmp_path / "out"), "-pp_pkl_file", str(record))
    for file in references.iterdir():
        expected = read_labels(file).array
        for folder in (predictions / "postprocessed", tmp_path / "out"):
            np.testing.assert_array_equal(read_labels(folder / file.name).array, expected)
