"""Models between Delineate and the real nnU-Net, through its own commands: make, predict, install, export, resume."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

import delineate
from delineate.formats.images import read_labels
from delineate.formats.nnunet.plans_json import plan_to_json
from delineate.formats.torch_checkpoint import read_checkpoint
from delineate.workflows.exchange_models import (
    ExportSettings,
    TrainingRecord,
    export_for_nnunet,
    export_model,
    read_model,
)
from formats.nnunet.trained_models import LABELS, architecture, configuration, declaration, plan
from workflows.nnunet_tools import ORACLE, needs_oracle, predict, run, tool, write_stand_in_for_timm

PEER = Path(__file__).parents[2] / "benchmarks" / "parity_peer.py"
AGREEMENT = 0.9999
"""Least share of equal voxels; nnU-Net keeps sums and logits in half precision."""

pytestmark = [pytest.mark.oracle, needs_oracle]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, and a model that nnU-Net's classes made: two folds, two stages, anisotropic spacing."""
    home = tmp_path_factory.mktemp("nnunet")
    (home / "images").mkdir()
    generator = np.random.default_rng(1)
    for case in ("a", "b"):
        coarse = generator.normal(size=(6, 7, 6))
        array = np.kron(coarse, np.ones((4, 4, 4))) + 0.05 * generator.normal(size=(24, 28, 24))
        image = SimpleITK.GetImageFromArray(array.astype(np.float32))
        image.SetSpacing((1.2, 0.9, 1.5))
        SimpleITK.WriteImage(image, str(home / "images" / f"{case}_0000.nii.gz"))
    of = plan(configuration(patch_size=(16, 24, 16), architecture=architecture(features=(8, 16))))
    step = {
        "do": "make",
        "folder": str(home / "made" / "nnUNetTrainer__nnUNetPlans__3d_fullres"),
        "plans": plan_to_json(of),
        "dataset": declaration(LABELS),
        "configuration": "3d_fullres",
        "folds": [0, 1],
        "seed": 3,
        "steps": 30,
        "images": [[str(file)] for file in sorted((home / "images").iterdir())],
        "mirror_axes": [0, 2],
        "trainer": "nnUNetTrainer",
    }
    (home / "question.json").write_text(json.dumps([step]))
    run(home, str(ORACLE), "-W", "ignore", str(PEER), str(home / "question.json"))
    return home


@pytest.fixture(scope="module")
def made(home: Path) -> Path:
    return home / "made"


@pytest.fixture(scope="module")
def expected(home: Path, made: Path) -> dict[str, np.ndarray]:
    """Our label maps, straight from nnU-Net's folder."""
    model = delineate.load_model(made, device="cpu", precision="float32")
    return {c: model.predict(home / "images" / f"{c}_0000.nii.gz").labels.array for c in ("a", "b")}


def equal_share(folder: Path, expected: dict[str, np.ndarray]) -> float:
    found = {case: read_labels(folder / f"{case}.nii.gz").array for case in expected}
    assert all(len(np.unique(array)) > 1 for array in found.values())
    return float(np.mean([np.mean(found[case] == expected[case]) for case in expected]))


def test_a_model_of_nnunet_predicts_here_what_it_predicts_there(home, made, expected, tmp_path) -> None:
    predict(home / "images", made / "nnUNetTrainer__nnUNetPlans__3d_fullres", tmp_path, "-f", "0", "1")
    assert equal_share(tmp_path, expected) >= AGREEMENT
    model = delineate.load_model(made, device="cpu", precision="float32").rounded_as_nnunet()
    rounded = {case: model.predict(home / "images" / f"{case}_0000.nii.gz").labels.array for case in expected}
    assert equal_share(tmp_path, rounded) >= 0.99999


@pytest.mark.slow
def test_a_written_model_goes_through_zip_install_predict_and_export(home, made, expected, tmp_path) -> None:
    export_model(made, tmp_path / "model.zip", "nnunet-zip", dataset_id=12)
    run(home, tool("nnUNetv2_install_pretrained_model_from_zip"), str(tmp_path / "model.zip"))
    installed = home / "nnUNet_results" / "Dataset012_Toy" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    predict(home / "images", installed, tmp_path / "out", "-f", "0", "1")
    assert equal_share(tmp_path / "out", expected) >= AGREEMENT
    again = tmp_path / "again.zip"
    options = ("-d", "12", "-o", str(again), "-c", "3d_fullres", "-f", "0", "1")
    run(home, tool("nnUNetv2_export_model_to_zip"), *options)
    model = delineate.load_model(again, device="cpu", precision="float32")
    for case, labels in expected.items():
        found = model.predict(home / "images" / f"{case}_0000.nii.gz").labels.array
        np.testing.assert_array_equal(found, labels)


@pytest.mark.slow
def test_nnunet_goes_on_training_a_written_model(home, made, tmp_path) -> None:
    history = tuple(
        {"step": 250 * i, "seconds": 9.0 * i, "loss": 1.0, "dice": {"a": 0.5}, "mean_dice": 0.5, "smoothed_dice": 0.4}
        for i in (1, 2)
    )
    settings = ExportSettings(records={"0": TrainingRecord(history=history)})
    folder = export_for_nnunet(read_model(made, folds=["0"]), tmp_path / "results", settings)
    script = Path(__file__).with_name("resume_oracle_script.py")
    answer = tmp_path / "answer.json"
    run(home, str(ORACLE), "-W", "ignore", str(script), str(folder), "0", str(answer))
    told = json.loads(answer.read_text())
    assert told == {"epoch": 2, "best": 0.4, "rate": pytest.approx(0.01 * (1 - 2 / 1000) ** 0.9), "axes": [0, 2]}
    resumed = read_checkpoint(folder / "fold_0" / "checkpoint_latest.pth")
    assert resumed["current_epoch"] == 3
    assert len(resumed["optimizer_state"]["state"]) == len(resumed["optimizer_state"]["param_groups"][0]["params"])
    assert list(read_model(folder, checkpoint="checkpoint_latest.pth").weights) == ["0"]


@pytest.mark.slow
def test_a_written_model_without_mirroring_runs_under_nnunets_trainer_of_that_name(home, made, tmp_path) -> None:
    package = replace(read_model(made), mirror_axes=())
    folder = export_for_nnunet(package, tmp_path / "results")
    assert folder.name.startswith("nnUNetTrainerNoMirroring__")
    libraries = write_stand_in_for_timm(tmp_path / "libraries")
    predict(home / "images", folder, tmp_path / "out", "-f", "0", "1", libraries=libraries)
    model = delineate.load_model(folder, device="cpu", precision="float32")
    mirrored = delineate.load_model(made, device="cpu", precision="float32")
    assert model.tiling.mirror_axes == ()
    files = {case: home / "images" / f"{case}_0000.nii.gz" for case in ("a", "b")}
    ours = {case: model.predict(file).labels.array for case, file in files.items()}
    # without the mean over mirrored images half precision decides more voxels
    assert equal_share(tmp_path / "out", ours) >= 0.999
    assert equal_share(tmp_path / "out", {c: mirrored.predict(f).labels.array for c, f in files.items()}) < 0.999
    rounded = {case: model.rounded_as_nnunet().predict(file).labels.array for case, file in files.items()}
    assert equal_share(tmp_path / "out", rounded) >= 0.99999
