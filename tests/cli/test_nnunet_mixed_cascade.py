"""Both programs on one cascade: label maps between the stages, and the comparison of trained configurations."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cli.nnunet_command_oracle import ask
from delineate.cli.main import main
from delineate.formats.images import read_labels
from delineate.formats.nnunet import trainer_names
from delineate.formats.nnunet.workspace import NnunetFolders
from delineate.formats.stage_labels import open_stage_labels
from workflows.nnunet_folders import (
    NAME,
    add_cascade,
    environment_of,
    folders_in,
    short,
    write_raw_dataset,
    write_two_folds,
)

pytestmark = [pytest.mark.oracle, pytest.mark.slow]
FULL, FIRST, SECOND = "3d_fullres", "3d_lowres", "3d_cascade_fullres"
TRAINER = "nnUNetTrainer"
WORDS = ("-tr", TRAINER, "-device", "cpu")
CASES = tuple(f"case_{index:02d}" for index in range(6))


def run(*words: str) -> None:
    assert main(["nnunet", *words]) == 0


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NnunetFolders:
    """A dataset of two folds, planned and prepared for a cascade."""
    found = folders_in(tmp_path)
    assert found.raw is not None
    assert found.preprocessed is not None
    for variable, value in environment_of(found).items():
        monkeypatch.setenv(variable, value)
        Path(value).mkdir()
    monkeypatch.setitem(trainer_names.TRAINERS, TRAINER, (short(2),))
    write_raw_dataset(found.raw)
    write_two_folds(found.raw)
    run("plan_and_preprocess", "-d", "7", "--no_pp", "-npfp", "1")
    add_cascade(found.preprocessed)
    run("preprocess", "-d", "7", "-c", FULL, FIRST, "-np", "1")
    return found


def model_of(folders: NnunetFolders, configuration: str) -> Path:
    assert folders.results is not None
    return folders.results / NAME / f"{TRAINER}__nnUNetPlans__{configuration}"


def stage_of(folders: NnunetFolders) -> Path:
    return model_of(folders, FIRST) / "predicted_next_stage" / SECOND


def test_nnunet_trains_a_cascade_on_the_label_maps_written_here(folders: NnunetFolders, tmp_path: Path) -> None:
    for fold in ("0", "1"):
        run("train", "7", FIRST, fold, *WORDS)
    request = {"kind": "load", "dataset": NAME, "configuration": SECOND, "fold": 1}
    loaded = ask(request, tmp_path / "ask", environment_of(folders))
    assert set(loaded["looks"]) == set(CASES)
    for case_id, look in loaded["looks"].items():
        assert look["stage_fits"]
        assert look["stage"] == [int(v) for v in np.unique(open_stage_labels(stage_of(folders), case_id)[...])]
    assert len({value for look in loaded["looks"].values() for value in look["stage"]}) > 1
    assert loaded["batch"][1] == 1 + 2


def test_a_cascade_is_trained_here_on_the_label_maps_of_nnunet(folders: NnunetFolders, tmp_path: Path) -> None:
    request = {"kind": "validated_models", "dataset": NAME, "configuration": FIRST, "folds": [0, 1]}
    ask(request, tmp_path / "ask", environment_of(folders))
    theirs = {case_id: open_stage_labels(stage_of(folders), case_id)[...] for case_id in CASES}
    run("train", "7", SECOND, "0", *WORDS)
    assert (model_of(folders, SECOND) / "fold_0" / "checkpoint_final.pth").is_file()
    shutil.rmtree(stage_of(folders))
    for fold in ("0", "1"):
        run("train", "7", FIRST, fold, *WORDS, "--val")
    equal = []
    for case_id, expected in theirs.items():
        ours = open_stage_labels(stage_of(folders), case_id)
        assert (ours.shape, ours.dtype) == (expected.shape, expected.dtype)
        assert len(np.unique(expected)) > 1
        equal.append(np.mean(ours[...] == expected))
    # nnU-Net keeps sums and logits in half precision
    assert np.mean(equal) >= 0.99, equal


def test_the_best_configuration_is_nnunets(folders: NnunetFolders, tmp_path: Path) -> None:
    configurations = (FULL, FIRST, SECOND)
    for configuration in (FIRST, FULL, SECOND):
        for fold in ("0", "1"):
            run("train", "7", configuration, fold, *WORDS, "--npz")
    assert folders.results is not None
    shutil.copytree(folders.results, tmp_path / "theirs")
    run("find_best_configuration", "7", "-c", *configurations, "-f", "0", "1", "-np", "1")
    request = {
        "kind": "find_best",
        "dataset": NAME,
        "configurations": configurations,
        "trainer": TRAINER,
        "folds": [0, 1],
    }
    environment = {**environment_of(folders), "nnUNet_results": str(tmp_path / "theirs")}
    ask(request, tmp_path / "ask", environment)
    roots = [folders.results / NAME, tmp_path / "theirs" / NAME]
    ours, theirs = (json.loads((root / "inference_information.json").read_text()) for root in roots)
    assert ours["all_results"].keys() == theirs["all_results"].keys()
    assert len(theirs["all_results"]) == 6
    for name, dice in theirs["all_results"].items():
        assert ours["all_results"][name] == pytest.approx(dice, abs=1e-9), name
    best = [found["best_model_or_ensemble"] for found in (ours, theirs)]
    for key in ("result_on_crossval_pre_pp", "result_on_crossval_post_pp"):
        assert best[0][key] == pytest.approx(best[1][key], abs=1e-9)
    for key in ("folds", "considered_models", "ensembling_allowed"):
        assert ours[key] == theirs[key]
    assert best[0]["selected_model_or_models"] == best[1]["selected_model_or_models"]
    told = (roots[0] / "inference_instructions.txt").read_text()
    assert f"-o OUTPUT_FOLDER_PREV_STAGE -f 0 1 -tr {TRAINER} -c {FIRST} -p nnUNetPlans\n" in told
    assert f"-c {SECOND} -p nnUNetPlans -prev_stage_predictions OUTPUT_FOLDER_PREV_STAGE" in told
    files = sorted(path.relative_to(roots[1]) for path in roots[1].rglob("*.nii.gz"))
    assert len(files) > 6 * 6
    for file in files:
        one, other = (read_labels(root / file).array for root in roots)
        np.testing.assert_array_equal(one, other, err_msg=str(file))
