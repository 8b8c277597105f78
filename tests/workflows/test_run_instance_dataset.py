"""The whole job for instances on small pictures: recognised, planned, trained, concluded, continued."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from delineate.cli.main import main
from delineate.errors import DatasetError, Interrupted, UsageError
from delineate.execution import Cancellation, Silent
from delineate.formats.instance_package import read_instance_package
from delineate.workflows import conclude_instances, run_instance_dataset, run_instances
from delineate.workflows.run_instance_dataset import InstanceSettings
from delineate.workflows.run_instances import plan_instances
from instance_pictures import discs, picture_of, write_dataset


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (run_instances, conclude_instances):
        monkeypatch.setattr(module, "WIDTHS", (8, 12))
    monkeypatch.setattr(run_instances, "PATCH", (32, 32))
    monkeypatch.setattr(run_instance_dataset, "STANDARD_STEPS", 60)


def test_a_folder_becomes_a_model_and_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_dataset(tmp_path / "dots", types=True)
    out = tmp_path / "run"
    common = ["run", str(data), "-o", str(out), "--device", "cpu"]
    told = ["--mpp", "0.5", "--licence", "CC0", "--source", "dots=drawn by hand"]
    assert main(["verify", str(data)]) == 0
    assert "54 objects, 0 warnings" in capsys.readouterr().out
    assert main([*common, *told]) == 0
    printed = capsys.readouterr().out
    assert "AP@0.5" in printed
    assert "round: PQ" in printed
    package = read_instance_package(out / "model")
    assert (package.pixel_um, package.licence, package.type_names) == (0.5, "CC0", ("round", "other"))
    assert package.facts["steps"] == 60
    scores = json.loads((out / "scores.json").read_text())
    assert {line["case"] for line in scores["pictures"]} == set(package.facts["held_out"]["dots"])
    page = (out / "report.html").read_text()
    assert "data:image/png" in page
    assert "median diameter" in page
    card = (out / "model" / "card.md").read_text()
    assert "CC0" in card
    assert "- dots: drawn by hand" in card
    assert "| ap50 |" in card
    # the same command again finds everything done
    before = (out / "training" / "checkpoint_latest.pt").read_bytes()
    assert main([*common, *told]) == 0
    assert (out / "training" / "checkpoint_latest.pt").read_bytes() == before
    assert main([*common, "--mpp", "0.4"]) == 2
    assert "pixel_um was 0.5" in capsys.readouterr().err
    assert main([*common, "--source", "others=?"]) == 2
    assert main([*common, "--source", "nothing"]) == 2


class _StopsLater(Silent):
    def __init__(self, cancellation: Cancellation, after: int) -> None:
        self.cancellation, self.left = cancellation, after

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.left -= 1
        if not self.left:
            self.cancellation.request()


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "dots", count=4)
    settings = InstanceSettings(budget_seconds=None, device="cpu")
    whole = run_instance_dataset.run_instance_dataset([data], tmp_path / "whole", settings)
    stop = Cancellation()
    with pytest.raises(Interrupted):
        run_instance_dataset.run_instance_dataset(
            [data], tmp_path / "cut", settings, progress=_StopsLater(stop, 20), cancellation=stop
        )
    assert not (tmp_path / "cut" / "model").exists()
    cut = run_instance_dataset.run_instance_dataset([data], tmp_path / "cut", settings)
    one, other = whole.conclusion.package.weights, cut.conclusion.package.weights
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_budget_decides_the_steps(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "dots", count=4)
    settings = InstanceSettings(budget_seconds=15, device="cpu")
    outcome = run_instance_dataset.run_instance_dataset([data], tmp_path / "run", settings)
    stood = json.loads((tmp_path / "run" / "instances.json").read_text())
    assert any("A step takes" in reason for reason in stood["reasons"])
    assert stood["recipe"]["budget_seconds"] < 15
    assert outcome.conclusion.groups


def test_large_objects_are_made_smaller(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "large", count=4, size=240, step=120, radius=50)
    run = plan_instances([data], tmp_path / "run", budget_seconds=None, iterations=1)
    assert run.diameters[0] == pytest.approx(100, rel=0.05)
    assert run.zoom == pytest.approx(0.2, rel=0.1)
    image = run_instances.assignment_of(run).training[0]
    seen = image.open(image.names[0])
    assert seen.instances.shape == seen.picture.shape[:2] == (round(240 * run.zoom),) * 2
    assert "as large" in run.reasons[0]


def test_what_cannot_be_trained_is_told(tmp_path: Path) -> None:
    dots = write_dataset(tmp_path / "dots", count=2)
    settings = InstanceSettings(budget_seconds=None)
    with pytest.raises(DatasetError, match="of their kind"):
        run_instance_dataset.run_instance_dataset([dots, tmp_path], tmp_path / "run", settings)
    (tmp_path / "empty").mkdir()
    assert main(["run", str(tmp_path / "empty"), "-o", str(tmp_path / "x"), "--mpp", "1"]) == 2
    assert main(["run", str(dots), "-o", str(tmp_path / "x"), "--configuration", "2d"]) == 2
    with pytest.raises(DatasetError, match="different folder names"):
        plan_instances([dots, dots], tmp_path / "y", budget_seconds=None, iterations=1)


def test_a_model_is_not_written_over_something_else(tmp_path: Path) -> None:
    dots = write_dataset(tmp_path / "dots", count=4)
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="move it away"):
        run_instance_dataset.run_instance_dataset([dots], tmp_path / "run", InstanceSettings(budget_seconds=None))
    assert (tmp_path / "run" / "model" / "notes.txt").read_text() == "mine"


def test_pictures_of_the_helper_show_their_discs() -> None:
    instances = discs(0)
    for colour in (False, True):
        picture = picture_of(instances, 0, colour=colour).astype(float).reshape(*instances.shape, -1).mean(axis=2)
        assert abs(picture[instances > 0].mean() - picture[instances == 0].mean()) > 50
