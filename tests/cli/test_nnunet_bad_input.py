"""Bad input by the command line: every fault ends with one sentence that names file and remedy, never a traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delineate.cli.main import main
from delineate.formats.images import read_labels, write_labels
from delineate.formats.nnunet.workspace import NnunetFolders
from workflows.nnunet_folders import NAME, environment_of, folders_in, write_raw_dataset

FULL = "3d_fullres"
Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset, planned and prepared."""
    root = tmp_path_factory.mktemp("planned")
    with pytest.MonkeyPatch.context() as patch:
        folders = use(root, patch)
        assert folders.raw is not None
        write_raw_dataset(folders.raw, cases=5)
        assert main(["nnunet", "plan_and_preprocess", "-d", "7", "-c", FULL, "-np", "1", "-npfp", "1"]) == 0
    return root


def use(root: Path, patch: pytest.MonkeyPatch) -> NnunetFolders:
    folders = folders_in(root)
    for variable, value in environment_of(folders).items():
        patch.setenv(variable, value)
    return folders


@pytest.fixture
def root(planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(planned, tmp_path / "w")
    use(tmp_path / "w", monkeypatch)
    return tmp_path / "w"


def edited(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def configured(**values: object) -> Spoil:
    def spoil(root: Path) -> None:
        plans = root / "preprocessed" / NAME / "nnUNetPlans.json"
        edited(plans, lambda content: content["configurations"][FULL].update(values))

    return spoil


def other_shape(root: Path) -> None:
    mask = root / "raw" / NAME / "labelsTr" / "case_00.nii.gz"
    labels = read_labels(mask)
    write_labels(mask, labels.__class__(array=labels.array[1:], grid=labels.grid.regular((19, 26, 24), (1.5, 1, 1))))


def in_raw(change: Callable[[Path], object]) -> Spoil:
    return lambda root: change(root / "raw" / NAME)


def nothing(root: Path) -> None:
    pass


MEASURE = ["extract_fingerprint", "-d", "7", "--clean", "-np", "1"]
PLAN = ["plan_experiment", "-d", "7"]
PREPARE = ["preprocess", "-d", "7", "-c", FULL, "-np", "1"]
TRAIN = ["train", "7", FULL, "0", "-device", "cpu"]


@pytest.mark.parametrize(
    ("words", "spoil", "code", "told"),
    [
        (MEASURE, other_shape, 3, "nnU-Net's commands have none"),
        (MEASURE, in_raw(lambda raw: (raw / "dataset.json").unlink()), 3, "expected dataset.json"),
        (
            MEASURE,
            in_raw(lambda raw: edited(raw / "dataset.json", lambda d: d["channel_names"].update({"1": "T2"}))),
            3,
            "expected the channels MRI, T2; found 1 channel(s) in case_00_0000.nii.gz",
        ),
        ([*PLAN, "-gpu_memory_target", "nan"], nothing, 2, "positive number of GB"),
        ([*PLAN, "-gpu_memory_target", "0"], nothing, 2, "positive number of GB"),
        ([*PLAN, "-overwrite_plans_name", "../../evil"], nothing, 2, "'../../evil' is a path"),
        ([*TRAIN, "-p", "../x"], nothing, 2, "is a path"),
        (["train", "Dataset007_/../x", FULL, "0"], nothing, 2, "is a path"),
        (PREPARE, configured(spacing=[0, 1, 1]), 3, "spacing[0]': expected a number above 0, found 0"),
        (TRAIN, configured(batch_size=0), 3, "batch_size': expected a number above 0"),
        (TRAIN, configured(patch_size=[0, 16, 16]), 3, "patch_size[0]': expected a number above 0"),
        (TRAIN, configured(patch_size=[17, 19, 15]), 3, "multiple of the network's downsampling"),
        (TRAIN, lambda root: (root / "results").write_text("x"), 6, "Could not write"),
        (
            [*TRAIN, "-pretrained_weights", "W/alone.pth"],
            lambda root: (root / "alone.pth").write_bytes(b"x"),
            5,
            "alone.pth is read with the plans.json",
        ),
        (
            ["predict_from_modelfolder", "-i", "W/none", "-o", "W/o", "-m", "W/none", "-device", "cpu"],
            nothing,
            5,
            "no model at",
        ),
    ],
)
def test_a_fault_is_told(
    root: Path, words: list[str], spoil: Spoil, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(root)
    found = main(["nnunet", *(word.replace("W/", f"{root}/") for word in words)])
    error = capsys.readouterr().err
    assert (found, told in error) == (code, True), error
    assert not list(root.parent.rglob("evil*"))


def test_cases_too_large_for_the_memory_are_told(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(spacing=[1.3, 1, 1])(root)

    def too_much(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("delineate.workflows.prepare_dataset.prepare", too_much)
    assert main(["nnunet", *PREPARE]) == 3
    assert "Memory does not suffice for (20, 26, 24) voxels" in capsys.readouterr().err


def test_probabilities_that_are_no_numbers_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    probabilities = np.full((2, 3, 4, 5), np.nan, np.float32)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "x.npz", probabilities=probabilities)
        (tmp_path / folder / "dataset.json").write_text(
            json.dumps({"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1}, "numTraining": 1,
                        "file_ending": ".nii.gz"})
        )  # fmt: skip
    code = main(["nnunet", "ensemble", "-i", str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(tmp_path / "o")])
    assert code == 4
    assert "NaN" in capsys.readouterr().err or not list((tmp_path / "o").glob("*.nii.gz"))


def test_a_missing_folder_of_images_is_told(root: Path) -> None:
    from delineate.errors import InputError
    from delineate.workflows.nnunet_prediction import find_cases

    with pytest.raises(InputError, match="there is none of that name"):
        find_cases(root / "nowhere", ".nii.gz", 1)
