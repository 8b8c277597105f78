from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from delineate.case.labels import LabelScheme, Structure
from delineate.errors import (
    DatasetError,
    Interrupted,
    ModelError,
    PlanError,
    ResourceError,
    TrainingError,
    UsageError,
)
from delineate.execution import Cancellation
from delineate.training import Extension, Runtime, TrainingCases, fit, loop
from delineate.training.checkpoint import BEST_FILE, LATEST_FILE, PREVIOUS_FILE, read_payload
from training.toys import ToyNetwork, toy_assignment, toy_case, toy_cases, toy_network

TESTS = Path(__file__).parents[1]
QUIET = Runtime(tensorboard=False, checkpoint_every_seconds=0.0)


@pytest.fixture(autouse=True)
def _one_thread():
    """Toy tensors are too small for two threads, which on a busy machine wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(
    folder, *, network=None, cases=None, runtime=QUIET, extension=None, progress=None, cancellation=None, **recipe
):
    return fit(
        network or toy_network(),
        cases or toy_cases(),
        toy_assignment(**recipe),
        folder,
        runtime=runtime,
        extension=extension,
        progress=progress,
        cancellation=cancellation,
    )


def assert_equal_weights(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


class CancelAfter(Cancellation):
    """Asks for a stop when it is looked at for the n-th time."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    @property
    def requested(self) -> bool:
        self.looks -= 1
        return self.looks < 0


class FakeClock:
    """Every look takes a while."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


class Lines:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.total, self.done, self.notes = None, 0, []

    def start(self, what, total):
        self.total = total

    def advance(self, steps=1, note=""):
        self.done += steps
        self.notes.append(note)

    def finish(self, note=""):
        self.notes.append(note)


# --- a plain run -----------------------------------------------------------------------------------------------------


def test_a_run_learns_and_writes_its_record(tmp_path):
    lines = Lines()
    fitted = train(
        tmp_path, progress=lines, iterations=40, iterations_per_epoch=10, learning_rate=2e-2, optimizer="adamw"
    )
    assert fitted.steps == 40
    assert [record["step"] for record in fitted.records] == [10, 20, 30, 40]
    assert fitted.records[-1]["loss"] < fitted.records[0]["loss"]
    assert set(fitted.records[0]["dice"]) == {"anterior", "posterior"}
    assert fitted.records[-1]["mean_dice"] > fitted.records[0]["mean_dice"]
    assert {"seconds", "learning_rate", "steps_per_second", "smoothed_dice"} <= fitted.records[0].keys()
    assert (lines.total, lines.done) == (40, 40)
    assert lines.notes[25].startswith("step 26/40 loss ")
    assert "anterior 0." in lines.notes[25]
    assert lines.notes[25].endswith(" s left")
    assert fitted.notices == ()
    assert fitted.smoothed_dice == fitted.records[-1]["smoothed_dice"]


def test_the_smoothed_dice_is_nnunets(tmp_path):
    records = train(tmp_path).records
    expected = records[0]["mean_dice"]
    for record in records[1:]:
        expected = 0.9 * expected + 0.1 * record["mean_dice"]
    assert records[-1]["smoothed_dice"] == pytest.approx(expected)


def test_the_same_seed_gives_the_same_weights_and_another_one_others(tmp_path):
    first = train(tmp_path / "a")
    assert_equal_weights(first.weights, train(tmp_path / "b").weights)
    assert not torch.equal(first.weights["fine.0.weight"], train(tmp_path / "c", seed=8).weights["fine.0.weight"])


def test_prefetching_and_caching_change_nothing(tmp_path):
    first = train(tmp_path / "a")
    other = train(tmp_path / "b", runtime=replace(QUIET, prefetch=2, cache_bytes=0))
    assert_equal_weights(first.weights, other.weights)


def test_torchs_own_random_state_is_left_as_it_was(tmp_path):
    before = torch.get_rng_state()
    train(tmp_path, iterations=2)
    assert torch.equal(before, torch.get_rng_state())


def test_the_average_is_what_is_kept(tmp_path):
    fitted = train(tmp_path)
    payload = read_payload(tmp_path / LATEST_FILE)
    assert_equal_weights(fitted.weights, payload["average"])
    assert not torch.equal(payload["average"]["fine.0.weight"], payload["network"]["fine.0.weight"])
    plain = train(tmp_path / "plain", ema_decay=None)
    assert_equal_weights(plain.weights, read_payload(tmp_path / "plain" / LATEST_FILE)["network"])


@pytest.mark.parametrize(
    "recipe",
    [
        {"precision": "bfloat16"},
        {"channels_last": True},
        {"deep_supervision": False},
        {"augmentation": "nnunet"},
        {"augmentation": "none", "case_order": "shuffled"},
        {"schedule": "one_cycle", "gradient_clip": 0.01},
    ],
)
def test_every_way_to_train_works(tmp_path, recipe):
    assert train(tmp_path, iterations=3, **recipe).steps == 3


def test_regions_are_scored_by_name(tmp_path):
    scheme = LabelScheme(
        structures=(Structure(name="whole", values=(1, 2)), Structure(name="core", values=(2,))), region_order=(1, 2)
    )
    fitted = train(tmp_path, network=toy_network(heads=2), scheme=scheme)
    assert set(fitted.records[-1]["dice"]) == {"whole", "core"}


def test_labels_are_scored_by_name_whatever_their_order(tmp_path, monkeypatch):
    scheme = LabelScheme(structures=(Structure(name="two", values=(2,)), Structure(name="one", values=(1,))))
    cases = toy_cases(classes=(1,))
    fitted = train(
        tmp_path,
        scheme=scheme,
        cases=cases,
        iterations=60,
        iterations_per_epoch=60,
        learning_rate=0.02,
        optimizer="adamw",
    )
    assert fitted.records[-1]["dice"]["one"] > 0.3
    assert not fitted.records[-1]["dice"]["two"]


def test_an_ignore_label_trains(tmp_path):
    scheme = replace(LabelScheme.simple("anterior"), ignore=2)
    fitted = train(tmp_path, network=toy_network(heads=2), scheme=scheme)
    assert set(fitted.records[-1]["dice"]) == {"anterior"}


def test_the_best_weights_are_kept_on_request(tmp_path):
    train(tmp_path / "a")
    assert not (tmp_path / "a" / BEST_FILE).exists()
    fitted = train(tmp_path / "b", runtime=replace(QUIET, keep_best=True))
    best = read_payload(tmp_path / "b" / BEST_FILE)
    assert best["smoothed_dice"] == max(record["smoothed_dice"] for record in fitted.records)


# --- stopping and going on -------------------------------------------------------------------------------------------


def test_a_stop_saves_and_the_next_run_ends_with_the_same_weights(tmp_path):
    whole = train(tmp_path / "whole")
    with pytest.raises(Interrupted, match=r"after step 7; its state is saved .* Run the same command again"):
        train(tmp_path / "parts", cancellation=CancelAfter(7), runtime=replace(QUIET, checkpoint_every_seconds=1e9))
    parts = train(tmp_path / "parts", network=toy_network(seed=99))
    assert_equal_weights(whole.weights, parts.weights)
    keys = ("step", "loss", "dice", "smoothed_dice", "learning_rate")
    assert [[r[k] for k in keys] for r in parts.records] == [[r[k] for k in keys] for r in whole.records]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("prefetch", [1])
def test_a_killed_run_ends_with_the_same_weights(tmp_path, prefetch):
    whole = start(tmp_path / "whole", 0.0, prefetch)
    killed = start(tmp_path / "killed", 0.02, prefetch)
    step = wait_for_step(tmp_path / "killed", 6)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert 6 <= step < 16
    assert not (tmp_path / "killed" / "weights.pt").exists()
    again = start(tmp_path / "killed", 0.0, prefetch)
    assert (whole.wait(), again.wait()) == (0, 0)
    expected, found = (torch.load(tmp_path / name / "weights.pt") for name in ("whole", "killed"))
    assert_equal_weights(expected, found)
    assert steps_of(tmp_path / "killed") == steps_of(tmp_path / "whole") == [5, 10, 15, 16]
    assert not list((tmp_path / "killed").glob(".partial-*"))


def start(folder, pause, prefetch):
    command = [sys.executable, str(TESTS / "training" / "run_in_process.py"), str(folder), str(pause), str(prefetch)]
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])
    # all threads, as a user's run has, but without their busy waiting
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths, "OMP_WAIT_POLICY": "PASSIVE"})


def wait_for_step(folder, step):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            found = read_payload(folder / LATEST_FILE)["step"]
        except ModelError:
            found = 0
        if found >= step:
            return found
        time.sleep(0.02)
    raise TimeoutError(f"No step {step} in {folder}.")


def steps_of(folder):
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = train(tmp_path)
    stamp = (tmp_path / LATEST_FILE).stat().st_mtime_ns
    again = train(tmp_path, network=toy_network(seed=99))
    assert_equal_weights(first.weights, again.weights)
    assert (tmp_path / LATEST_FILE).stat().st_mtime_ns == stamp
    assert again.records == first.records


def test_a_damaged_checkpoint_costs_one_interval_and_not_the_result(tmp_path, caplog):
    whole = train(tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", cancellation=CancelAfter(8))
    path = tmp_path / "parts" / LATEST_FILE
    path.write_bytes(path.read_bytes()[:1000])
    with caplog.at_level(logging.WARNING):
        parts = train(tmp_path / "parts")
    assert "is damaged" in caplog.text
    assert_equal_weights(whole.weights, parts.weights)
    assert [r["step"] for r in parts.records] == [r["step"] for r in whole.records]


def test_another_recipe_in_the_folder_is_a_clear_error(tmp_path):
    train(tmp_path)
    with pytest.raises(ModelError, match=r"recipe.learning_rate was 0.01 and is now 0.1\. .*another output folder"):
        train(tmp_path, learning_rate=0.1)
    with pytest.raises(ModelError, match=r"recipe.iterations was 12 and is now 24.*--extend"):
        train(tmp_path, iterations=24)
    with pytest.raises(ModelError, match=r"cases\.training"):
        train(tmp_path, cases=toy_cases(training=3))


def test_reasons_may_differ(tmp_path):
    train(tmp_path, reasons=("because",))
    assert train(tmp_path, reasons=("for another reason",)).steps == 12


def test_another_network_in_the_folder_is_a_clear_error(tmp_path):
    train(tmp_path)
    with pytest.raises(ModelError, match="does not fit the network"):
        train(tmp_path, network=toy_network(heads=5))


# --- extending -------------------------------------------------------------------------------------------------------


def test_an_extension_goes_on_and_survives_a_stop(tmp_path):
    train(tmp_path / "a")
    train(tmp_path / "b")
    longer = train(tmp_path / "a", extension=Extension(iterations=10))
    assert longer.steps == 22
    with pytest.raises(Interrupted, match="step 16"):
        train(tmp_path / "b", extension=Extension(iterations=10), cancellation=CancelAfter(4))
    again = train(tmp_path / "b", extension=Extension(iterations=10))
    assert again.steps == 22
    assert_equal_weights(longer.weights, again.weights)
    assert steps_of(tmp_path / "b") == [5, 10, 12, 15, 20, 22]
    assert train(tmp_path / "b").steps == 22


def test_only_a_finished_run_can_be_extended(tmp_path):
    with pytest.raises(Interrupted):
        train(tmp_path, cancellation=CancelAfter(4))
    with pytest.raises(UsageError, match="is at step 4"):
        train(tmp_path, extension=Extension(iterations=10))


def test_an_extension_by_time_ends_with_the_time(tmp_path):
    train(tmp_path)
    clock = FakeClock(0.05)
    fitted = train(tmp_path, extension=Extension(seconds=20.0), runtime=replace(QUIET, clock=clock))
    assert fitted.steps > 15
    assert clock.now == pytest.approx(20.0, abs=2.0)


# --- budget ----------------------------------------------------------------------------------------------------------


def test_a_budget_ends_the_run_in_time_with_the_rate_annealed(tmp_path):
    clock, lines = FakeClock(0.05), Lines()
    fitted = train(
        tmp_path,
        runtime=replace(QUIET, clock=clock),
        progress=lines,
        iterations=100_000,
        budget_seconds=60.0,
        schedule="cosine",
    )
    assert fitted.steps < 1000
    assert clock.now <= 61  # it may end one step late
    assert clock.now > 55
    assert fitted.records[-1]["learning_rate"] < 0.01 * 0.01
    assert 15 <= len(fitted.records) <= 22
    assert lines.total == lines.done == 1000
    assert "left" in lines.notes[-3]


@pytest.mark.parametrize("forecast", [1, 30, 100_000])
def test_a_wrong_forecast_of_steps_does_not_change_the_length(tmp_path, forecast):
    clock = FakeClock(0.05)
    fitted = train(tmp_path, runtime=replace(QUIET, clock=clock), iterations=forecast, budget_seconds=60.0)
    assert 55 < clock.now <= 61
    assert fitted.steps > 60
    assert 15 <= len(fitted.records) <= 22


def test_the_time_of_earlier_sessions_counts(tmp_path):
    budget = {"iterations": 100_000, "budget_seconds": 60.0}
    with pytest.raises(Interrupted):
        train(tmp_path, runtime=replace(QUIET, clock=FakeClock(0.05)), cancellation=CancelAfter(40), **budget)
    spent = read_payload(tmp_path / LATEST_FILE)["counters"]["seconds"]
    clock = FakeClock(0.05)
    fitted = train(tmp_path, runtime=replace(QUIET, clock=clock), **budget)
    assert 10 < spent < 55
    assert clock.now + spent == pytest.approx(60, abs=2)
    assert fitted.seconds == pytest.approx(60, abs=2)


# --- checkpoints -----------------------------------------------------------------------------------------------------


def count_saves(monkeypatch):
    saves = []
    save = loop.save_checkpoint

    def counted(folder, payload):
        saves.append(payload["step"])
        save(folder, payload)

    monkeypatch.setattr(loop, "save_checkpoint", counted)
    return saves


def test_checkpoints_come_by_time(tmp_path, monkeypatch):
    saves = count_saves(monkeypatch)
    train(tmp_path / "a", runtime=replace(QUIET, checkpoint_every_seconds=1e9))
    assert saves == [12]
    saves.clear()
    train(tmp_path / "b", runtime=replace(QUIET, clock=FakeClock(1.0), checkpoint_every_seconds=50.0))
    assert 2 <= len(saves) <= 6


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
def test_a_disk_that_fills_up_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    opened, writes = Path.open, []

    def filling(self, mode="r", *args, **kwargs):
        if mode != "wb":
            return opened(self, mode, *args, **kwargs)
        writes.append(self)
        return open("/dev/full", mode) if len(writes) > 5 else opened(self, mode, *args, **kwargs)  # noqa: PTH123

    whole = train(tmp_path / "whole")
    monkeypatch.setattr(Path, "open", filling)
    with pytest.raises(ResourceError, match="disk is full"):
        train(tmp_path / "parts")
    monkeypatch.undo()
    assert read_payload(tmp_path / "parts" / LATEST_FILE)["step"] == 5
    assert read_payload(tmp_path / "parts" / PREVIOUS_FILE)["step"] == 4
    assert_equal_weights(whole.weights, train(tmp_path / "parts").weights)


# --- bad input -------------------------------------------------------------------------------------------------------


class Poisoned(ToyNetwork):
    """Answers with NaN, or with gradients that are NaN, in one forward pass."""

    def __init__(self, at: range, *, gradient_only: bool) -> None:
        super().__init__()
        self.at, self.gradient_only, self.calls = at, gradient_only, 0

    def forward(self, x):
        out = super().forward(x)
        if not self.training:
            return out
        self.calls += 1
        if self.calls - 1 in self.at:
            if self.gradient_only:
                out[0].register_hook(lambda grad: grad * float("nan"))
            else:
                out[0] = out[0] * float("nan")
        return out


def test_a_loss_that_is_no_number_names_step_and_cases(tmp_path):
    with pytest.raises(TrainingError, match=r"loss became nan at step 6 on cases toy_\d, toy_\d\. The last checkpoint"):
        train(tmp_path, network=Poisoned(range(6, 7), gradient_only=False))
    payload = read_payload(tmp_path / LATEST_FILE)
    assert payload["step"] == 6
    assert all(torch.isfinite(tensor).all() for tensor in payload["network"].values())


def test_one_step_without_finite_gradients_is_left_out_and_told(tmp_path):
    fitted = train(tmp_path, network=Poisoned(range(3, 4), gradient_only=True))
    assert fitted.steps == 12
    assert fitted.records[-1]["skipped_steps"] == 1
    assert "1 of 12 steps were left out" in fitted.notices[0]
    assert all(torch.isfinite(tensor).all() for tensor in fitted.weights.values())


def test_many_steps_without_finite_gradients_end_the_run(tmp_path):
    with pytest.raises(TrainingError, match="gradients are not finite at step 11"):
        train(tmp_path, network=Poisoned(range(2, 99), gradient_only=True), iterations=50)


def test_nan_in_a_case_is_told_with_the_case(tmp_path):
    cases = toy_cases(training=1)
    cases.open("toy_0").array[:] = np.nan
    with pytest.raises(TrainingError, match="on cases toy_0, toy_0"):
        train(tmp_path, cases=cases)


def test_a_class_without_training_case_is_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        fitted = train(tmp_path, cases=toy_cases(classes=(1,)))
    assert fitted.notices == ("No training case of this fold shows posterior; the network cannot learn it.",)
    assert "posterior" in caplog.text


def test_a_region_without_training_case_is_told(tmp_path):
    scheme = LabelScheme(
        structures=(Structure(name="whole", values=(1, 2)), Structure(name="core", values=(2,))), region_order=(1, 2)
    )
    case = toy_case(0, classes=(1,))
    case.locations[2] = np.zeros((0, 3), dtype=np.int32)  # key 2 is the second region
    cases = TrainingCases(training=("a",), validation=(), open=lambda _: case)
    fitted = train(tmp_path, network=toy_network(heads=2), scheme=scheme, cases=cases, iterations=1)
    assert fitted.notices == ("No training case of this fold shows core; the network cannot learn it.",)


def test_a_fold_without_validation_cases_trains(tmp_path):
    fitted = train(tmp_path, cases=toy_cases(validation=0))
    assert fitted.smoothed_dice is None
    assert [(record["step"], record["dice"]) for record in fitted.records] == [(5, {}), (10, {}), (12, {})]


def test_a_fold_without_training_cases_is_a_clear_error(tmp_path):
    with pytest.raises(DatasetError, match="no training case"):
        train(tmp_path, cases=toy_cases(training=0))


def test_prepared_cases_with_other_channels_are_a_clear_error(tmp_path):
    with pytest.raises(PlanError, match=r"has 1 channels; prepared case toy_0 has 2"):
        train(tmp_path, cases=toy_cases(channels=2))


def test_a_one_voxel_case_trains(tmp_path):
    case = toy_case(0, shape=(1, 1, 1))
    cases = TrainingCases(training=("dot",), validation=("dot",), open=lambda _: case)
    assert train(tmp_path, cases=cases).steps == 12


def test_running_out_of_memory_says_what_to_do(tmp_path):
    network = toy_network()
    network.register_forward_hook(lambda *_: torch.empty(1 << 55))
    with pytest.raises(ResourceError, match=r"patches of 8x8x8 in batches of 2: plan again with less memory"):
        train(tmp_path, network=network)
