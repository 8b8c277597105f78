"""nnU-Net's commands: their words, their errors, and the whole way mixed with the real nnU-Net."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.nnunet_command_oracle import ask
from delineate.cli.main import main
from delineate.cli.nnunet import NNUNET_COMMANDS
from delineate.formats.images import read_labels
from delineate.formats.nnunet import trainer_names
from delineate.formats.nnunet.workspace import NnunetFolders
from workflows.nnunet_folders import NAME, environment_of, folders_in, short, write_case, write_raw_dataset

REPOSITORY = Path(__file__).parents[2]
ALIASES = REPOSITORY / "aliases" / "pyproject.toml"
PREFIX = "nnUNetv2_"
FULL = "3d_fullres"

LEFT_OUT = {
    "convert_old_nnUNet_dataset": "data of nnU-Net v1 are read as they are",
    "download_pretrained_model_by_url": "nothing is downloaded",
    "plot_overlay_pngs": "the report shows the cases",
}
"""Commands of nnU-Net that are not to be had -> why."""
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
    assert names == set(theirs) - set(LEFT_OUT)
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
        (["train", "7", FULL, "0", "-num_gpus", "2"], "-num_gpus 2 is not to be had"),
        (["train", "7", FULL, "0", "--val_best"], "--val_best is not to be had"),
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
    assert parser_of("train").parse_args(["7", FULL, "0", "-num_gpus", "1"]).num_gpus == 1


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


def test_plan_train_predict_evaluate_exchange(
    folders: NnunetFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(trainer_names.TRAINERS, "nnUNetTrainer_1epoch", (short(2),))
    assert folders.raw is not None
    assert folders.results is not None
    raw = write_raw_dataset(folders.raw)
    for index in range(2):
        write_case(raw, f"new_{index}", 20 + index, 1, part="Ts")
    run("plan_and_preprocess", "-d", "7", "-c", FULL, "--verify_dataset_integrity", "-npfp", "1", "-np", "1")
    for fold in ("0", "1"):
        run("train", "7", FULL, fold, "-tr", "nnUNetTrainer_1epoch", "-device", "cpu", "--npz")
    model = folders.results / NAME / f"nnUNetTrainer_1epoch__nnUNetPlans__{FULL}"
    assert {path.name for path in model.iterdir()} == {
        "dataset.json", "plans.json", "dataset_fingerprint.json", "fold_0", "fold_1",
    }  # fmt: skip
    summary = json.loads((model / "fold_1" / "validation" / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == 1
    assert next(iter((model / "fold_1" / "validation").glob("*.npz"))).exists()
    run("train", "7", FULL, "1", "-tr", "nnUNetTrainer_1epoch", "-device", "cpu", "--val")
    repeated = json.loads((model / "fold_1" / "validation" / "summary.json").read_text())
    assert repeated["foreground_mean"] == summary["foreground_mean"]

    words = ["-d", "7", "-c", FULL, "-tr", "nnUNetTrainer_1epoch", "-f", "0", "1", "-device", "cpu", "--disable_tta"]
    out = tmp_path / "out"
    run("predict", "-i", str(raw / "imagesTs"), "-o", str(out), *words, "--save_probabilities", "-num_parts", "2")
    assert sorted(path.name for path in out.iterdir()) == [
        "dataset.json", "new_0.nii.gz", "new_0.npz", "new_0.pkl", "plans.json", "predict_from_raw_data_args.json",
    ]  # fmt: skip
    first = (out / "new_0.nii.gz").stat().st_mtime_ns
    run("predict", "-i", str(raw / "imagesTs"), "-o", str(out), *words, "--continue_prediction")
    assert (out / "new_0.nii.gz").stat().st_mtime_ns == first
    assert (out / "new_1.nii.gz").exists()
    again = tmp_path / "again"
    run("predict_from_modelfolder", "-i", str(raw / "imagesTs"), "-o", str(again), "-m", str(model), *words[6:])
    labels = read_labels(out / "new_0.nii.gz").array
    np.testing.assert_array_equal(labels, read_labels(again / "new_0.nii.gz").array)
    with np.load(out / "new_0.npz") as stored:
        probabilities = stored["probabilities"]
    assert probabilities.shape == (3, *labels.shape)
    np.testing.assert_array_equal(probabilities.argmax(0), labels)

    compared = [str(raw / "labelsTs"), str(out)]
    run("evaluate_folder", *compared, "-djfile", str(out / "dataset.json"), "-pfile", str(out / "plans.json"))
    whole = json.loads((out / "summary.json").read_text())
    run("evaluate_simple", *compared, "-l", "2", "-o", str(tmp_path / "simple.json"))
    assert json.loads((tmp_path / "simple.json").read_text())["mean"]["2"] == whole["mean"]["2"]

    exchanged = tmp_path / "model.zip"
    with_folds = ["-d", "7", "-o", str(exchanged), "-c", FULL, "-tr", "nnUNetTrainer_1epoch", "-f", "0", "1"]
    run("export_model_to_zip", *with_folds)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "elsewhere"))
    run("install_pretrained_model_from_zip", str(exchanged))
    run("predict", "-i", str(raw / "imagesTs"), "-o", str(tmp_path / "third"), *words)
    np.testing.assert_array_equal(labels, read_labels(tmp_path / "third" / "new_0.nii.gz").array)
    assert capsys.readouterr().err.count("Traceback") == 0
