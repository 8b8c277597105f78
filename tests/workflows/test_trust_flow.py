"""From calibration to `predict --assess` on small models, and the study of shifts."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cascade_run import plan_tiny, use_two_folds

import delineate
from delineate.cli.main import main
from delineate.errors import UsageError
from delineate.formats.datasets import open_dataset
from delineate.formats.datasets.phantom import write_phantom_dataset
from delineate.formats.evaluation_json import read_results
from delineate.formats.images import write_image
from delineate.formats.model_package import read_package, write_package
from delineate.formats.recipe_json import read_recipe, write_recipe
from delineate.phantoms import SCANNERS
from delineate.workflows.resume_run import report_run, train_run
from delineate.workflows.run_folder import RunFolder

FLIPPED = "torso_flipped"


def write(folder: Path, cases: int, seed: int) -> Path:
    write_phantom_dataset(
        folder, cases=cases, held_out=0, seed=seed, scale=2.0, scanners=SCANNERS[:2], structures=("liver", "spleen")
    )
    return folder


def train(data: Path, root: Path, steps: int) -> Path:
    """Train two folds of a tiny network; return the folder of the training."""
    plan_tiny(data, root, "3d_fullres", steps=steps)
    use_two_folds(root)
    path = RunFolder(root=root, configuration="3d_fullres").recipe
    configuration, recipe = read_recipe(path)
    quick = replace(recipe, optimizer="adamw", learning_rate=5e-3, gradient_clip=12.0, mirror_axes=(0, 1, 2))
    write_recipe(path, configuration, replace(quick, iterations_per_epoch=max(2, steps // 2)))
    train_run(root, folds=("0", "1"), configuration="3d_fullres", device="cpu")
    return root / "3d_fullres"


@pytest.fixture(scope="module")
def torsos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("torsos") / "torsos", 24, 40)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("few") / "torsos", 11, 40)


@pytest.fixture(scope="module")
def bare(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that hardly learned anything and was not calibrated."""
    return train(few, tmp_path_factory.mktemp("bare") / "run", 4) / "model"


@pytest.fixture(scope="module")
def calibrated(bare: Path, few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("calibrated") / "model"
    assert main(["calibrate", str(bare), str(few), "-o", str(out), "--device", "cpu"]) == 0
    return out


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three new torsos, and one of them reversed left-right under an unchanged header."""
    dataset = open_dataset(write(tmp_path_factory.mktemp("new") / "torsos", 3, 900))
    folder = tmp_path_factory.mktemp("images")
    loaded = [dataset.load(case) for case in dataset.training[:3]]
    for case in loaded:
        write_image(folder / f"{case.case_id}_0000.nii.gz", case.image)
    flipped = replace(loaded[0].image, array=loaded[0].image.array[..., ::-1].copy())
    write_image(folder / f"{FLIPPED}_0000.nii.gz", flipped)
    return folder


def test_assessing_and_temperature_change_no_label(calibrated: Path, images: Path, tmp_path: Path) -> None:
    model = delineate.load_model(calibrated, device="cpu")
    assert model.temperature
    image = next(images.glob("*.nii.gz"))
    plain = model.predict(image)
    watched = model.predict(image, assess=True, probabilities=True)
    np.testing.assert_array_equal(plain.labels.array, watched.labels.array)
    assert plain.assessment is None
    assert watched.assessment is not None
    assert watched.probabilities is not None
    raw = model.without_temperature().predict(image, probabilities=True).probabilities
    assert raw is not None
    np.testing.assert_array_equal(raw.argmax(0), watched.probabilities.argmax(0))
    logits = np.log(raw) / model.temperature[0]
    expected = np.exp(logits) / np.exp(logits).sum(0)
    np.testing.assert_allclose(watched.probabilities, expected, atol=1e-5)


def test_what_is_assessed_stays_and_what_is_not_is_done_again(calibrated: Path, images: Path, tmp_path: Path) -> None:
    words = ["predict", str(calibrated), "-i", str(images), "-o", str(tmp_path / "out"), "--device", "cpu"]
    assert main(words) == 0
    assert not (tmp_path / "out" / "quality.csv").exists()
    assert main([*words, "--assess"]) == 0
    file = tmp_path / "out" / "assessment" / f"{FLIPPED}.json"
    before = file.stat().st_mtime_ns
    assert main([*words, "--assess"]) == 0
    assert file.stat().st_mtime_ns == before
    assert (tmp_path / "out" / "quality.csv").read_text().count("\n") == 5


def test_a_model_without_reference_says_so(bare: Path, images: Path) -> None:
    model = delineate.load_model(bare, device="cpu")
    image = next(images.glob("*.nii.gz"))
    result = model.predict(image, assess=True)
    assert result.assessment is not None
    assert result.assessment.verdict == "not assessed"
    assert math.isnan(result.assessment.quality)
    with pytest.raises(UsageError, match="rounding"):
        model.rounded_as_nnunet().predict(image, assess=True)


def test_calibration_needs_a_place_and_cases(bare: Path, phantoms: Path, tmp_path: Path) -> None:
    package = tmp_path / "model.zip"
    write_package(package, read_package(bare))
    assert main(["calibrate", str(package), str(phantoms)]) == 2
    assert main(["calibrate", str(bare)]) == 2
    # six cases are too few
    assert main(["calibrate", str(bare), str(phantoms), "-o", str(tmp_path / "m"), "--device", "cpu"]) == 3
    assert not (tmp_path / "m").exists()


@pytest.fixture(scope="module")
def learned(torsos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a run whose two folds learned something, with its report."""
    root = tmp_path_factory.mktemp("learned") / "run"
    train(torsos, root, 200)
    report_run(root, configuration="3d_fullres", device="cpu")
    return root


@pytest.mark.slow
def test_a_flipped_image_is_told_from_ordinary_ones(
    learned: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert (
        main(
            [
                "predict",
                str(learned / "3d_fullres" / "model"),
                "-i",
                str(images),
                "-o",
                str(out),
                "--assess",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    assert "to review with care" in capsys.readouterr().out
    with (out / "quality.csv").open() as table:
        rows = list(csv.DictReader(table))
    by_id = {row["case_id"]: row for row in rows}
    assert by_id[FLIPPED]["verdict"] == "review with care"
    assert "liver lies" in by_id[FLIPPED]["reasons"]
    assert sum("liver lies" in row["reasons"] for row in rows) == 1
    original = min(case_id for case_id in by_id if case_id != FLIPPED)
    assert float(by_id[FLIPPED]["outlier"]) > float(by_id[original]["outlier"])
    assert float(by_id[FLIPPED]["position"]) > 2 * float(by_id[original]["position"])
    content = json.loads((out / "assessment" / f"{FLIPPED}.json").read_text())
    assert content["verdict"] == "review with care"
    assert 0 <= content["expected_dice"] <= 1


@pytest.mark.slow
def test_a_run_learns_from_its_folds_and_is_studied(
    learned: Path, torsos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trust = read_package(learned / "3d_fullres" / "model").trust
    assert trust is not None
    assert trust.origin == "out of fold"
    assert set(trust.features) == {"0", "1"}
    made = learned / "3d_fullres" / "fold_0" / "validation"
    before = {p: p.stat().st_mtime_ns for p in made.rglob("*.nii.gz")}
    root = [str(learned), "--configuration", "3d_fullres", "--device", "cpu"]
    assert main(["calibrate", *root]) == 0
    assert {p: p.stat().st_mtime_ns for p in made.rglob("*.nii.gz")} == before
    study = [*root, "--cases", "8", "-o", str(tmp_path / "study"), "--shifted", f"again={torsos / 'imagesTr'}"]
    assert main(["trust", *study]) == 0
    assert "AURC" in capsys.readouterr().out
    content = read_results(tmp_path / "study" / "results.json")
    assert {d["shift"] for d in content["trust"]["shifts"]} >= {"shifted", "flipped left-right", "again"}
    assert not content["notices"]
    assert "Does it know when it is wrong?" in (tmp_path / "study" / "report.html").read_text()
    assert main(["trust", *study]) == 0
    assert read_results(tmp_path / "study" / "results.json")["trust"] == content["trust"]
