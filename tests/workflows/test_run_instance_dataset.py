"""The whole job for instances on small pictures: recognised, planned, trained, concluded, continued."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from delineate.cli.main import main
from delineate.errors import DatasetError, Interrupted, UsageError
from delineate.execution import Cancellation, Silent
from delineate.formats.instance_package import read_instance_package
from delineate.metrics.decoding_choice import LEAST_WORTH
from delineate.planning import instance_network
from delineate.workflows import conclude_instances as conclude
from delineate.workflows import learn_candidates, run_instance_dataset, run_instances
from delineate.workflows.run_instance_dataset import InstanceSettings
from delineate.workflows.run_instances import plan_instances
from delineate.workflows.start_instances import read_instance_start
from instance_models import random_network, write_model
from instance_pictures import discs, picture_of, write_dataset


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_network, "SMALL", (8, 12))
    monkeypatch.setattr(instance_network, "PATCH", (32, 32))
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


def test_what_objects_look_like_is_learnt_and_used_if_it_helps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learn_candidates, "LEAST_TRUE", 1)
    monkeypatch.setattr(learn_candidates, "LEAST_CANDIDATES", 5)
    data = write_dataset(tmp_path / "dots", types=True)
    assert main(["run", str(data), "-o", str(tmp_path / "run"), "--device", "cpu"]) == 0
    package = read_instance_package(tmp_path / "run" / "model")
    tried = int(package.facts["scored_on"].split()[-1])
    assert tried > 8 + len(LEAST_WORTH) - 1
    page = (tmp_path / "run" / "report.html").read_text()
    assert "– – –" not in page  # one grey and one coloured picture have no intervals
    assert ("was learnt" in page) == (package.decoding.scorer is not None)
    if package.decoding.scorer is not None:
        assert package.decoding.scorer.least in LEAST_WORTH


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
    seen = image.images[image.names[0]]
    assert seen.seen.shape == seen.known.shape == (round(240 * run.zoom),) * 2
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


def test_a_training_starts_from_a_trained_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write_dataset(tmp_path / "first", types=True)
    assert main(["run", str(first), "-o", str(tmp_path / "one"), "--device", "cpu", "--licence", "CC BY 4.0"]) == 0
    second = write_dataset(tmp_path / "second", types=True)
    (second / "types.json").write_text('{"1": "Other", "2": "new"}')
    capsys.readouterr()
    common = ["run", str(second), "-o", str(tmp_path / "two"), "--device", "cpu"]
    assert main([*common, "--from", str(tmp_path / "one")]) == 0
    assert "before this training AP@0.5" in capsys.readouterr().out
    package = read_instance_package(tmp_path / "two/model")
    decisions = " ".join(package.facts["decisions"])
    assert "starts from the model first" in decisions
    assert "foreground, interior, distance, background, Other are taken over" in decisions
    assert "new start at random" in decisions
    origin = package.facts["origin"]
    assert origin["identity"] == read_instance_package(tmp_path / "one/model").identity
    assert "CC BY 4.0" in (tmp_path / "two/model/card.md").read_text()
    assert "- first, through that model" in (tmp_path / "two/model/card.md").read_text()
    assert "before this training the model" in (tmp_path / "two/report.html").read_text()
    stood = json.loads((tmp_path / "two/instances.json").read_text())["recipe"]
    assert stood["learning_rate"] == pytest.approx(5e-4)
    # the same command goes on; without --from it is another run
    assert main([*common, "--from", str(tmp_path / "one/model")]) == 0
    assert main(common) == 2
    assert "from was" in capsys.readouterr().err


def test_first_weights_are_the_models(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "dots", count=4)
    settings = InstanceSettings(budget_seconds=None, device="cpu")
    outcome = run_instance_dataset.run_instance_dataset([data], tmp_path / "one", settings)
    start = read_instance_start(tmp_path / "one")
    run = plan_instances([data], tmp_path / "two", budget_seconds=None, iterations=60, start=start)
    network, transfer = run.fresh_network()
    trained = outcome.conclusion.package.weights
    assert all(np.array_equal(tensor, trained[name]) for name, tensor in network.state_dict().items())
    assert transfer is not None
    assert transfer.is_whole
    assert run_instances.assignment_of(run).identity != run_instances.assignment_of(replace(run, start=None)).identity
    before = conclude._scores_before(run, "cpu", Silent(), Cancellation())
    assert [group.pq for group in before] == [group.pq for group in outcome.conclusion.groups]


def test_a_training_that_starts_from_a_model_has_its_network(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "dots", count=4)
    wide = random_network(0, widths=(9, 14))
    start = read_instance_start(write_model(tmp_path / "wide", widths=(9, 14), weights=wide.state_dict()))
    run = plan_instances([data], tmp_path / "two", budget_seconds=None, iterations=1, start=start)
    network, transfer = run.fresh_network()
    assert run.widths == network.widths == (9, 14)
    assert transfer is not None
    assert transfer.is_whole
    assert any("9, 14 channels (that of the model to start from)" in reason for reason in run.reasons)


@pytest.mark.parametrize("same", [True, False])
def test_a_model_that_knows_the_data_keeps_its_statistics(tmp_path: Path, same: bool) -> None:
    data = write_dataset(tmp_path / "dots", count=4)
    facts = {"data": ["dots", "more"] if same else ["others"]}
    weights = random_network(0, widths=(8, 12)).state_dict()
    start = read_instance_start(write_model(tmp_path / "old", widths=(8, 12), weights=weights, facts=facts))
    run = plan_instances([data], tmp_path / "run", budget_seconds=None, iterations=3, start=start)
    trained = run_instances.train_instances(run).weights
    means = [name for name in trained if name.endswith("running_mean")]
    assert all(torch.equal(trained[name], weights[name]) is same for name in means)
    assert not any(torch.equal(trained[name], weights[name]) for name in trained if name.endswith("0.weight"))
    assert run.recipe.learning_rate == pytest.approx(0.002 * (0.075 if same else 0.25))
    assert any("statistics for normalisation are kept" in reason for reason in run.reasons) is same


def test_models_that_cannot_be_started_from_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_dataset(tmp_path / "dots", count=4)
    common = ["run", str(data), "-o", str(tmp_path / "run"), "--device", "cpu"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other/model.json").write_text('{"format": "another"}')
    for model, words in (
        (tmp_path / "nothing", "expected a model of instances"),
        (tmp_path / "other", "found something else"),
    ):
        assert main([*common, "--from", str(model)]) == 5
        assert words in capsys.readouterr().err
        assert not (tmp_path / "run/model").exists()


@pytest.mark.parametrize(
    "option",
    "--split-by site,--table x.csv,--preset resenc-m,--memory 8GB,--no-mirroring,--repair x,--configuration 2d"
    ",--jobs 77".split(","),
)
def test_options_of_label_maps_are_refused_for_objects(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path / "dots", count=2)
    assert main(["run", str(data), "-o", str(tmp_path / "run"), *option.split()]) == 2
    assert f"{option.split()[0]} cannot be used" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main(["verify", str(data), "--repair", "x"]) == 2


def test_a_fold_holds_out_other_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = write_dataset(tmp_path / "dots"), tmp_path / "run"
    common = ["run", str(data), "--device", "cpu", "-o", str(out)]
    assert main([*common, "--fold", "1"]) == 0
    held = set(read_instance_package(out / "model").facts["held_out"]["dots"])
    assert main([*common[:-1], str(tmp_path / "usual")]) == 0
    assert held
    assert not held & set(read_instance_package(tmp_path / "usual/model").facts["held_out"]["dots"])
    capsys.readouterr()
    for wrong, words in (
        (["--fold", "2"], "fold was 1 and is now 2"),
        (["--fold", "6"], "are 0 to 5; got 6"),
        (["--fold", "all"], "takes one number"),
        (["--fold", "1", "2"], "takes one number"),
        (["--fold", "1", "--from", str(out / "model")], "exclude each other"),
    ):
        assert main([*common, *wrong]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("pixel", ["0", "-0.5", "nan", "inf"])
def test_an_impossible_pixel_size_is_refused_before_the_work(pixel: str, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "dots", count=2)
    assert main(["run", str(data), "-o", str(tmp_path / "run"), "--mpp", pixel]) == 2
    assert not (tmp_path / "run").exists()


def test_commands_for_label_maps_point_to_those_for_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, model = write_dataset(tmp_path / "dots", count=2), write_model(tmp_path / "run/model")
    (tmp_path / "run/instances.json").write_text("{}")
    image = str(data / "images/p0.png")
    for words, told in (
        (["plan", str(data), "-o", str(tmp_path / "p")], "delineate run"),
        (["predict", str(model), "-i", image, "-o", str(tmp_path / "o")], "delineate nuclei"),
        (["predict", str(tmp_path / "run"), "-i", image, "-o", str(tmp_path / "o")], "delineate nuclei"),
        (["report", str(tmp_path / "run")], "repeat its `delineate run`"),
        (["train", str(tmp_path / "run")], "repeat its `delineate run`"),
    ):
        assert main(words) in (2, 3, 5)
        assert told in capsys.readouterr().err
