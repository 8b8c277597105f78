from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from anatomy_models import Shape, write_variant
from PIL import Image as Pillow

from delineate.case import Image
from delineate.cli.main import main
from delineate.formats.datasets.phantom import write_phantom_dataset
from delineate.formats.images import read_image, read_labels, write_image
from delineate.geometry.grid import Grid
from delineate.phantoms import SCANNERS
from delineate.planning.anatomy import task_named

SMALL = Shape(patch=32, features=(4, 8))
DATA = os.environ.get("DELINEATE_DATA")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    write_variant(root, task_named("total").variant("fastest"), SMALL)
    write_variant(root, task_named("body").variant("fast"), SMALL)
    write_variant(root, task_named("tissue_types").variant("normal"), SMALL)
    return root


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom torso as a CT scanner sees it."""
    folder = tmp_path_factory.mktemp("phantom") / "torso"
    dataset = write_phantom_dataset(folder, cases=1, held_out=0, scale=2.0, scanners=SCANNERS[:1])
    return dataset.training[0].images[0]


def test_everything_is_written(results: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["anatomy", str(scan), "-o", str(out), "--fastest", "--weights", str(results)]) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "findings.json",
        "preview.png",
        "provenance.json",
        "segmentation.nii.gz",
        "statistics.csv",
        "statistics.json",
        "structures.csv",
    ]
    labels, image = read_labels(out / "segmentation.nii.gz"), read_image(scan)
    assert labels.grid.matches(image.grid)
    assert b"vertebrae_T7" in nibabel.load(out / "segmentation.nii.gz").header.extensions[0].get_content()
    statistics = json.loads((out / "statistics.json").read_text())
    assert list(statistics) == list(task_named("total").classes)
    total_mm3 = sum(one["volume_mm3"] for one in statistics.values())
    assert total_mm3 == pytest.approx((labels.array != 0).sum() * image.grid.voxel_volume_mm3, rel=1e-6)
    with (out / "statistics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 117
    with (out / "structures.csv").open() as stream:
        table = {row["structure"]: row for row in csv.DictReader(stream)}
    assert table["liver"]["value"] == "5"
    assert table["kidney_left"]["type_code"] == "SCT 64033007"
    assert table["kidney_left"]["tg263"] == "Kidney_L"
    with Pillow.open(out / "preview.png") as picture:
        assert picture.size[0] > 100
    provenance = json.loads((out / "provenance.json").read_text())
    assert [model["dataset_id"] for model in provenance["models"]] == [298]
    assert len(provenance["models"][0]["sha256"]) == 64
    assert provenance["settings"]["step"] == 0.8
    assert scan.name not in json.dumps(provenance)
    assert str(tmp_path) not in json.dumps(provenance)
    findings = json.loads((out / "findings.json").read_text())
    printed = capsys.readouterr().out
    assert "Apache-2.0" in printed
    assert printed.count("check ") == min(len(findings), 20) + (len(findings) > 20)


def test_one_file_per_structure(results: Path, scan: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = ["anatomy", str(scan), "--fastest", "--weights", str(results), "--no-preview"]
    assert main([*arguments, "-o", str(whole)]) == 0
    assert main([*arguments, "-o", str(parts), "--separate"]) == 0
    assert not (parts / "segmentation.nii.gz").exists()
    assert not (parts / "preview.png").exists()
    labels = read_labels(whole / "segmentation.nii.gz").array
    names = task_named("total").classes
    assert {p.name for p in (parts / "segmentations").iterdir()} == {f"{name}.nii.gz" for name in names}
    again = np.zeros_like(labels)
    for value, name in enumerate(names, start=1):
        again[read_labels(parts / "segmentations" / f"{name}.nii.gz").array == 1] = value
    np.testing.assert_array_equal(again, labels)


def test_body_gives_its_skin(results: Path, scan: Path, tmp_path: Path) -> None:
    arguments = ["anatomy", str(scan), "--task", "body", "--fast", "--separate", "--weights", str(results)]
    assert main([*arguments, "-o", str(tmp_path / "out")]) == 0
    masks = {p.name.split(".")[0]: read_labels(p).array for p in (tmp_path / "out" / "segmentations").iterdir()}
    assert set(masks) == {"body_trunc", "body_extremities", "body", "skin"}
    np.testing.assert_array_equal(masks["body"], masks["body_trunc"] | masks["body_extremities"])


def test_only_the_chosen_structures_are_told_of(results: Path, scan: Path, tmp_path: Path) -> None:
    arguments = ["anatomy", str(scan), "--fastest", "--roi", "liver", "spleen", "--weights", str(results)]
    assert main([*arguments, "-o", str(tmp_path / "out")]) == 0
    assert list(json.loads((tmp_path / "out" / "statistics.json").read_text())) == ["spleen", "liver"]


def test_missing_weights_are_told_with_every_place(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "variable"))
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    assert main(["anatomy", str(scan), "-o", str(tmp_path / "out")]) == 5
    told = capsys.readouterr().err
    for place in ("variable", "home/nnunet/results", "user/.totalsegmentator/nnunet/results"):
        assert str(tmp_path / place) in told
    assert "5 of 5 models" in told
    assert not (tmp_path / "out").exists()


def test_weights_are_found_by_the_variable(
    results: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(results))
    assert main(["anatomy", str(scan), "-o", str(tmp_path / "out"), "--fastest", "--no-preview"]) == 0


def test_a_licence_must_be_confirmed(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = tmp_path / "scan.nii.gz"
    grid = Grid.regular((9, 10, 11), (4.0, 4.0, 4.0))
    write_image(scan, Image(array=np.arange(990, dtype=np.int16).reshape(1, *grid.shape), grid=grid))
    arguments = ["anatomy", str(scan), "--task", "tissue_types", "-o", str(tmp_path / "out"), "--weights", str(results)]
    assert main(arguments) == 2
    assert "--i-have-a-licence" in capsys.readouterr().err
    assert main([*arguments, "--i-have-a-licence"]) == 0
    assert "licence number" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fast", "--fastest"], "not both"),
        (["--task", "nothing"], "no anatomy task 'nothing'"),
        (["--roi", "livre"], "no structure 'livre'"),
        (["--task", "breasts", "--fast"], "no fast variant"),
    ],
)
def test_wrong_words_are_told(scan: Path, tmp_path: Path, capsys, words: list[str], message: str) -> None:
    assert main(["anatomy", str(scan), "-o", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err
    assert main(["anatomy", str(scan)]) == 2


def test_tasks_and_structures_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["anatomy", "--list-tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("total ") and "117 structures" in line for line in lines)
    assert any(line.startswith("tissue_types ") and "licence: key" in line for line in lines)
    assert main(["anatomy", "--list-classes", "total"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 117
    assert lines[4].split() == ["5", "liver", "Liver", "10200004"]


def test_a_zip_is_installed_where_weights_are_looked_for(
    results: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model,) = task_named("total").variant("fastest").models
    packed = shutil.make_archive(str(tmp_path / "weights"), "zip", results, model.folder)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH", raising=False)
    monkeypatch.delenv("TOTALSEG_HOME_DIR", raising=False)
    assert main(["anatomy", "--install", packed]) == 0
    assert (tmp_path / "user" / ".totalsegmentator" / "nnunet" / "results" / model.folder).is_dir()
    assert main(["anatomy", str(scan), "-o", str(tmp_path / "out"), "--fastest", "--no-preview"]) == 0


@pytest.mark.data
@pytest.mark.skipif(not DATA, reason="DELINEATE_DATA is not set")
@pytest.mark.parametrize("name", ["example_ct_sm.nii.gz", "example_ct_dicom"])
def test_real_scans_go_through(results: Path, tmp_path: Path, name: str) -> None:
    scan = Path(str(DATA)) / "totalseg_reference" / name
    arguments = ["anatomy", str(scan), "-o", str(tmp_path / "out"), "--fastest", "--weights", str(results)]
    assert main(arguments) == 0
    labels = read_labels(tmp_path / "out" / "segmentation.nii.gz")
    assert labels.grid.matches(read_image(scan).grid)


def test_the_scan_is_not_written_over(results: Path, scan: Path, tmp_path: Path) -> None:
    own = tmp_path / "segmentation.nii.gz"
    shutil.copy(scan, own)
    before = own.read_bytes()
    assert main(["anatomy", str(own), "-o", str(tmp_path), "--fastest", "--weights", str(results)]) == 2
    assert own.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [own.name]


def test_an_output_folder_that_takes_nothing_is_told_first(results: Path, scan: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    out = str(tmp_path / "file")
    assert main(["anatomy", str(scan), "-o", out, "--fastest", "--weights", str(results)]) == 6


def test_another_model_under_the_id_is_told(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], results: Path
) -> None:
    weights = tmp_path / "weights"
    variant = task_named("total").variant("fastest")
    shutil.copytree(results / variant.models[0].folder, weights / variant.models[0].folder)
    dataset, plans = (next(weights.rglob(name)) for name in ("dataset.json", "plans.json"))
    content = json.loads(dataset.read_text())
    content["labels"] = {"background": 0, **{f"thing_{i}": i for i in range(1, len(content["labels"]))}}
    dataset.write_text(json.dumps(content))
    plans.write_text(plans.read_text().replace("[6.0, 6.0, 6.0]", "[1.5, 1.5, 1.5]"))
    out = str(tmp_path / "out")
    assert main(["anatomy", str(scan), "-o", out, "--fastest", "--weights", str(weights)]) == 0
    told = capsys.readouterr().err
    assert "1 is thing_1, not spleen" in told
    assert "was trained at (1.5, 1.5, 1.5) mm and is used at (6.0, 6.0, 6.0) mm" in told
