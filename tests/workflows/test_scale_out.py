"""Cases and folds on the processes of a cluster, one of which is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from cascade_run import plan_tiny, use_two_folds

from delineate.cli.main import main
from delineate.errors import Interrupted, SomeCasesFailed
from delineate.execution import Cancellation, Cluster, Silent, open_cluster
from delineate.formats.datasets import Dataset
from delineate.formats.images import read_labels
from delineate.formats.model_package import read_package
from delineate.formats.recipe_json import read_recipe, write_recipe
from delineate.workflows.resume_run import open_run, train_run
from delineate.workflows.run_dataset import RunSettings, plan_run
from delineate.workflows.run_folder import RunFolder
from delineate.workflows.segment_folder import find_images, segment_files
from delineate.workflows.segment_on_cluster import ModelSource, segment_folder_on_cluster
from delineate.workflows.train_on_cluster import train_on_cluster

dask = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    """Worker processes import what this one imports, whether it is installed or not."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("distributed", reason="Dask's distributed is not installed")
    with open_cluster("local:2") as opened:
        yield opened


@pytest.fixture(scope="module")
def planned(phantoms: Path, tmp_path_factory) -> Path:
    """A planned run whose training takes a second."""
    root = tmp_path_factory.mktemp("scale") / "run"
    plan_run(phantoms, root, RunSettings(budget_seconds=None))
    folder = RunFolder(root=root)
    configuration, recipe = read_recipe(folder.recipe)
    patch, axes = (16, 16, 16), configuration.architecture
    small = replace(
        axes,
        features=(4, 8),
        kernel_sizes=axes.kernel_sizes[:2],
        strides=((1, 1, 1), (2, 2, 2)),
        encoder_blocks=axes.encoder_blocks[:2],
        decoder_convs=axes.decoder_convs[:1],
    )
    configuration = replace(configuration, patch_size=patch, architecture=small)
    recipe = replace(
        recipe,
        iterations=8,
        iterations_per_epoch=4,
        validation_batches=2,
        batch_size=3,
        patch_size=patch,
        ema_decay=0.9,
    )
    write_recipe(folder.recipe, configuration, replace(recipe, precision="float32", mirror_axes=()))
    return root


@pytest.fixture(scope="module")
def model(planned: Path, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("serial") / "run"
    shutil.copytree(planned, root)
    train_run(root, folds=("0",))
    return root / "model"


@pytest.fixture
def images(dataset: Dataset, tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for case in (*dataset.training, *dataset.testing)[:5]:
        for image in case.images:
            shutil.copy(image, folder / image.name)
    return folder


def labels_in(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: read_labels(path).array for path in sorted(folder.glob("*.nii.gz"))}


def serial_labels(source: ModelSource, images: Path, out: Path) -> dict[str, np.ndarray]:
    segment_files(source.load(), find_images(images, 1), out)
    return labels_in(out)


def assert_equal_labels(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


class KilledOnce(threading.Thread):
    """Kills the worker that writes first, while it writes: its temporary file is there, the final one is not."""

    def __init__(self, folder: Path, cluster: Cluster, pattern: str) -> None:
        super().__init__(daemon=True)
        self.folder, self.pattern, self.killed = folder, pattern, 0
        self.pids = list(cluster._client.run(os.getpid).values())

    def run(self) -> None:
        deadline = time.monotonic() + 280  # busy cores may take long to get there
        while time.monotonic() < deadline and not self.killed:
            if any(self.folder.glob(self.pattern)):
                self.killed = self.pids[0]
                os.kill(self.killed, signal.SIGKILL)
            time.sleep(0.002)


@dask
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_every_case_comes_out_once_though_a_worker_is_killed(cluster, model, images, tmp_path):
    source, out = ModelSource(path=model, device="cpu"), tmp_path / "out"
    expected = serial_labels(source, images, tmp_path / "serial")
    out.mkdir()
    killer = KilledOnce(out, cluster, "*.nii.gz")
    killer.start()
    written = segment_folder_on_cluster(source, images, out, cluster)
    killer.join(timeout=1)
    assert killer.killed
    assert killer.killed not in cluster._client.run(os.getpid).values()
    assert [path.name for path in written] == list(expected)
    assert_equal_labels(labels_in(out), expected)
    assert sorted(path.name for path in out.iterdir()) == sorted(expected)


@dask
@pytest.mark.slow
def test_a_bad_case_is_told_and_the_others_go_on_and_nothing_is_done_twice(cluster, model, images, tmp_path):
    source, out = ModelSource(path=model, device="cpu"), tmp_path / "out"
    bad = sorted(images.iterdir())[1]
    bad.write_bytes(bad.read_bytes()[:200])
    for _ in range(2):
        with pytest.raises(SomeCasesFailed) as told:
            segment_folder_on_cluster(source, images, out, cluster)
        assert len(told.value.failures) == 1
        assert bad.name.removesuffix("_0000.nii.gz") in told.value.failures[0]
        stamps = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
        assert len(stamps) == 4
    with pytest.raises(SomeCasesFailed):
        segment_folder_on_cluster(source, images, out, cluster)
    assert stamps == {path.name: path.stat().st_mtime_ns for path in out.iterdir()}


@dask
@pytest.mark.slow
def test_a_stop_leaves_the_finished_cases(cluster, model, images, tmp_path):
    source, out, cancellation = ModelSource(path=model, device="cpu"), tmp_path / "out", Cancellation()

    class StopAfterOne(Silent):
        def advance(self, steps=1, note=""):
            cancellation.request()

    with open_cluster("local:2") as own, pytest.raises(Interrupted, match="again"):
        segment_folder_on_cluster(source, images, out, own, progress=StopAfterOne(), cancellation=cancellation)
    left = labels_in(out)
    assert 1 <= len(left) < 5
    expected = serial_labels(source, images, tmp_path / "serial")
    assert_equal_labels(left, {name: expected[name] for name in left})
    segment_folder_on_cluster(source, images, out, cluster)
    assert_equal_labels(labels_in(out), expected)


@dask
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_folds_on_a_cluster_equal_folds_in_a_row_though_a_worker_is_killed(cluster, planned, tmp_path):
    serial, spread = tmp_path / "serial" / "run", tmp_path / "spread" / "run"
    for root in (serial, spread):
        shutil.copytree(planned, root)
    killer = KilledOnce(spread, cluster, "fold_*/checkpoint_latest.pt")
    killer.start()
    watched = {"progress": Silent(), "cancellation": Cancellation()}
    found = train_on_cluster([spread], ("0", "1"), cluster, device="cpu", **watched)[spread.resolve()]
    killer.join(timeout=1)
    assert killer.killed
    expected = train_run(serial, folds=("0", "1"), device="cpu")
    for fold in ("0", "1"):
        for name, weights in expected.folds[fold].weights.items():
            # the workers have fewer threads, which add in another order
            torch.testing.assert_close(found.folds[fold].weights[name], weights, rtol=0, atol=1e-4, msg=name)
    assert set(found.package.weights) == {"0", "1"}
    assert open_run(spread).store.case_ids() == open_run(serial).store.case_ids()


@dask
@pytest.mark.slow
def test_folds_of_several_configurations_side_by_side_and_a_second_stage_after_its_first(
    cluster, phantoms, tmp_path, capsys
):
    serial, spread = tmp_path / "serial", tmp_path / "spread"
    plan_tiny(phantoms, spread, "2d", "3d_lowres", "3d_cascade_fullres")
    use_two_folds(spread)
    shutil.copytree(spread, serial)
    names = ("3d_cascade_fullres", "2d", "3d_lowres")  # the second stage is named first
    watched = {"progress": Silent(), "cancellation": Cancellation()}
    trained = train_on_cluster([spread], ("every",), cluster, configurations=names, device="cpu", **watched)
    assert set(trained) == {spread / name for name in names}
    assert all(set(model.folds) == {"0", "1"} for model in trained.values())
    assert trained[spread / "3d_cascade_fullres"].package.previous is not None
    words = ["train", str(serial), "--configuration", "2d", "3d_lowres", "--fold", "every", "--device", "cpu"]
    assert main(words) == 0
    told = capsys.readouterr().out
    for name in ("2d", "3d_lowres"):
        assert f"model   {serial / name / 'model'}" in told
        expected = read_package(serial / name / "model").weights
        for fold, weights in read_package(spread / name / "model").weights.items():
            for parameter, tensor in weights.items():
                # the workers have fewer threads, which add in another order
                torch.testing.assert_close(tensor, expected[fold][parameter], rtol=0, atol=1e-4)


@dask
@pytest.mark.slow
def test_the_command_line_works_on_a_cluster(planned, model, images, tmp_path, capsys):
    pytest.importorskip("distributed", reason="Dask's distributed is not installed")
    root = tmp_path / "run"
    shutil.copytree(planned, root)
    assert main(["preprocess", str(root), "--cluster", "local:2"]) == 0
    assert "6 cases prepared" in capsys.readouterr().out
    command = ["predict", str(model), "-i", str(images), "-o", str(tmp_path / "out"), "--cluster", "local:2"]
    assert main([*command, "--device", "cpu"]) == 0
    assert "5 label maps" in capsys.readouterr().out
    assert main(["train", str(root), "--cluster", "elsewhere"]) == 2
    assert main(["train", str(root), "--cluster", "local", "--devices", "2"]) == 2


def delineate(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "delineate.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


@pytest.mark.slow
def test_two_devices_train_the_model_that_one_does(planned, tmp_path):
    serial, spread = tmp_path / "serial" / "run", tmp_path / "spread" / "run"
    for root in (serial, spread):
        shutil.copytree(planned, root)
    done = delineate("train", str(spread), "--fold", "0", "--devices", "2", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("fold 0: 8 steps") == 1
    expected, found = train_run(serial, folds=("0",), device="cpu"), train_run(spread, folds=("0",), device="cpu")
    for name, weights in expected.folds["0"].weights.items():
        torch.testing.assert_close(found.folds["0"].weights[name], weights, rtol=0, atol=1e-4, msg=name)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
@pytest.mark.parametrize("fate", ["stopped", "killed"])
def test_ctrl_c_saves_and_a_killed_process_is_told_once(planned, tmp_path, fate):
    root = tmp_path / "run"
    shutil.copytree(planned, root)
    configuration, recipe = read_recipe(RunFolder(root=root).recipe)
    write_recipe(RunFolder(root=root).recipe, configuration, replace(recipe, iterations=100_000))
    words = ["train", str(root), "--fold", "0", "--devices", "2", "--device", "cpu"]
    command = [sys.executable, "-m", "delineate.cli.main", *words]
    launcher = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    metrics = root / "fold_0" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
    if fate == "stopped":
        launcher.send_signal(signal.SIGINT)
    else:
        ranks = [p for p in psutil.Process(launcher.pid).children() if "train" in p.cmdline()]
        ranks[1].kill()
    _, told = launcher.communicate(timeout=120)
    assert (root / "fold_0" / "checkpoint_latest.pt").exists() is (fate == "stopped"), told
    assert launcher.returncode == (130 if fate == "stopped" else 6), told
    assert told.count("Training stopped on request" if fate == "stopped" else "was ended by signal SIGKILL") >= 1
    assert "Traceback" not in told


@pytest.mark.slow
def test_more_devices_than_samples_are_refused_once(planned, tmp_path):
    spread = tmp_path / "run"
    shutil.copytree(planned, spread)
    too_many = delineate("train", str(spread), "--fold", "1", "--devices", "4", "--device", "cpu")
    assert too_many.returncode == 3
    assert too_many.stderr.count("A batch of 3 cannot be divided among 4 processes") == 1
