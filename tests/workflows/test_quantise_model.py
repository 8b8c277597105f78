"""int8 from the command line: checked on cases that were not trained on, allowed or refused with the numbers."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import delineate
from delineate.cli.main import main
from delineate.errors import DatasetError, UsageError
from delineate.execution import Cancellation, Silent
from delineate.formats.images import read_labels
from delineate.workflows.quantise_model import quantise_model
from delineate.workflows.run_dataset import RunOutcome

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed"),
    pytest.mark.filterwarnings("ignore"),
]
QUIET = {"progress": Silent(), "cancellation": Cancellation()}


@pytest.fixture(scope="module")
def run(finished: RunOutcome, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run, because the verdict is written into it."""
    copy = tmp_path_factory.mktemp("int8") / "run"
    shutil.copytree(finished.folder.root, copy)
    return copy


def test_a_run_is_checked_out_of_fold_and_may_then_predict(run: Path, phantoms: Path, tmp_path: Path) -> None:
    images = phantoms / "imagesTs"
    words = ["predict", str(run), "-i", str(images), "--backend", "openvino", "--precision", "int8", "--device", "cpu"]
    assert main([*words, "-o", str(tmp_path / "early")]) == UsageError.exit_code
    assert main(["quantise", str(run), "--largest-drop", "0.9"]) == 0
    verdict = json.loads((run / "model" / "quantisation.json").read_text())
    assert (verdict["passed"], verdict["out_of_fold"]) == (True, True)
    assert [one["name"] for one in verdict["structures"]] == ["liver", "spleen"]
    assert main([*words, "-o", str(tmp_path / "masks")]) == 0
    model = delineate.load_model(run, device="cpu")
    for file in (tmp_path / "masks").iterdir():
        exact = model.predict(images / f"{file.name.split('.')[0]}_0000.nii.gz").labels.array
        assert np.mean(read_labels(file).array == exact) > 0.97


def test_what_costs_too_much_is_refused_with_the_numbers(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run / "model" / "quantisation.json"
    found = quantise_model(run, largest_drop=0.9, **QUIET)
    text = json.loads(file.read_text())
    for one in text["structures"]:
        one["integer"] = 0.01
    file.write_text(json.dumps({**text, "largest_drop": 0.005}))
    with pytest.raises(UsageError, match=r"int8 lost 0\.\d{4} Dice of (liver|spleen)"):
        delineate.load_model(run, device="cpu").on_openvino(int8=True)
    assert found.cases == text["cases"] > 0


def test_a_dataset_checks_a_package_without_its_run(run: Path, phantoms: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "model", tmp_path / "model", ignore=shutil.ignore_patterns("quantisation.json"))
    found = quantise_model(tmp_path / "model", phantoms, largest_drop=0.9, **QUIET)
    assert (found.cases, found.out_of_fold) == (6, False)  # eight, of which two calibrate
    assert 0.5 < found.agreement <= 1
    int8 = delineate.load_model(tmp_path / "model", device="cpu").on_openvino(int8=True)
    result = int8.predict(next((phantoms / "imagesTs").iterdir()))
    assert result.provenance.settings["precision"] == "int8"


def test_what_cannot_be_checked_is_told(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "model", tmp_path / "model", ignore=shutil.ignore_patterns("quantisation.json"))
    with pytest.raises(UsageError, match="--check DATASET"):
        quantise_model(tmp_path / "model", **QUIET)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="neither a trained run"):
        quantise_model(tmp_path / "empty", **QUIET)
    with pytest.raises(DatasetError):
        quantise_model(tmp_path / "model", tmp_path / "empty", **QUIET)


def test_int8_is_openvinos(run: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", str(run), "-i", str(phantoms / "imagesTs"), "-o", str(tmp_path / "m"), "--precision", "int8"]
    assert main(words) == UsageError.exit_code
    assert "--backend openvino" in capsys.readouterr().err
    assert main(["quantise", str(run), "--largest-drop", "7"]) == UsageError.exit_code
