"""Models in and out on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from delineate.cli.main import main
from delineate.formats.images import read_labels
from formats.nnunet.trained_models import make_trained_model


@pytest.fixture
def image(tmp_path) -> Path:
    array = np.random.default_rng(0).normal(size=(17, 18, 30)).astype(np.float32)
    (tmp_path / "images").mkdir()
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(tmp_path / "images" / "a_0000.nii.gz"))
    return tmp_path / "images"


def predict(model: Path, image: Path, out: Path, *options: str) -> np.ndarray:
    words = ["predict", str(model), "-i", str(image), "-o", str(out), "--device", "cpu", "--precision", "float32"]
    assert main([*words, *options]) == 0
    return read_labels(out / "a.nii.gz").array


def test_predict_export_import(tmp_path, image, capsys) -> None:
    folder = make_trained_model(tmp_path / "theirs", folds=("0", "1"))
    expected = predict(folder, image, tmp_path / "first")
    assert main(["export", str(folder), "-o", str(tmp_path / "m.zip"), "--to", "nnunet-zip", "--dataset-id", "5"]) == 0
    assert main(["import", str(tmp_path / "m.zip"), "-o", str(tmp_path / "package"), "--fold", "0", "1"]) == 0
    assert "folds   0, 1" in capsys.readouterr().out
    np.testing.assert_array_equal(predict(tmp_path / "m.zip", image, tmp_path / "second"), expected)
    np.testing.assert_array_equal(predict(tmp_path / "package", image, tmp_path / "third"), expected)


def test_step_checkpoint_and_configuration(tmp_path, image) -> None:
    folder = make_trained_model(tmp_path / "theirs")
    (folder / "fold_0" / "checkpoint_final.pth").rename(folder / "fold_0" / "checkpoint_best.pth")
    options = ("--configuration", "3d_fullres", "--checkpoint", "checkpoint_best.pth", "--no-mirroring")
    half = predict(tmp_path / "theirs", image, tmp_path / "half", *options)
    whole = predict(tmp_path / "theirs", image, tmp_path / "whole", *options, "--step", "1")
    assert not np.array_equal(half, whole)
    rounded = predict(tmp_path / "theirs", image, tmp_path / "rounded", *options, "--nnunet-rounding")
    assert 0 < np.mean(rounded != half) < 0.01  # random weights: near-ties everywhere


def test_faults_are_told(tmp_path, capsys) -> None:
    folder = make_trained_model(tmp_path)
    (folder / "plans.json").unlink()
    (folder / "dataset.json").unlink()
    assert main(["import", str(folder), "-o", str(tmp_path / "package")]) == 5
    told = capsys.readouterr().err
    assert "plans.json does not exist" in told
    assert "dataset.json does not exist" in told
    assert not (tmp_path / "package").exists()
    assert main(["predict", str(folder), "-i", "x", "-o", "y", "--checkpoint", "a/b"]) == 2


@pytest.mark.parametrize("command", ["export", "import"])
def test_help(command, capsys) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert "nnU-Net" in capsys.readouterr().out
