from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from delineate.errors import InputError, Interrupted, ResourceError, UsageError
from delineate.execution import Cancellation, map_items, open_cluster, write_text
from delineate.execution.cluster import slurm_cluster

pytest.importorskip("distributed", reason="Dask's distributed is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def cluster():
    with open_cluster("local:2") as opened:
        yield opened


def written(folder: Path, number: int) -> int:
    """Write a result, once; odd numbers below 4 cannot be done."""
    target = folder / f"{number}.txt"
    if number in (1, 3):
        raise InputError(f"{number} is odd")
    if not target.exists():
        write_text(target, str(os.getpid()))
        with (folder / "log").open("a") as log:
            log.write(f"{number}\n")
    return number * 10


def slow_first(folder: Path, number: int) -> int:
    """Take long over the first number, once; say who does it."""
    begun = folder / f"begun_{number}"
    again = begun.exists()
    begun.write_text(str(os.getpid()))
    if number == 0 and not again:
        time.sleep(60)
    return written(folder, number + 10)


def deadly(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def broken(number: int) -> float:
    return 1 / number


def patient(cancellation: Cancellation, folder: Path, number: int) -> int:
    """Work until asked to stop."""
    (folder / f"begun_{number}").touch()
    while not cancellation.requested:
        time.sleep(0.05)
    (folder / f"saved_{number}").touch()
    raise Interrupted("saved")


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and (text := path.read_text()):
            return text
        time.sleep(0.05)
    raise TimeoutError(str(path))


def test_outcomes_keep_the_order_and_every_failure(cluster, tmp_path):
    outcomes = map_items(partial(written, tmp_path), range(6), what="numbers", backend=cluster)
    assert [o.item for o in outcomes] == [0, 1, 2, 3, 4, 5]
    assert [o.value for o in outcomes] == [0, None, 20, None, 40, 50]
    assert [str(o.error) for o in outcomes if o.error] == ["1 is odd", "3 is odd"]
    assert os.getpid() not in {int((tmp_path / f"{n}.txt").read_text()) for n in (0, 2, 4, 5)}
    assert cluster.workers == 2


def test_a_fault_of_the_program_ends_the_work(cluster):
    with pytest.raises(ZeroDivisionError):
        map_items(broken, [1, 0], what="x", backend=cluster)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_the_item_of_a_killed_worker_is_done_by_another(cluster, tmp_path):
    found = []
    work = partial(map_items, partial(slow_first, tmp_path), range(6), what="numbers", backend=cluster)
    thread = threading.Thread(target=lambda: found.extend(work()))
    thread.start()
    victim = int(wait_for(tmp_path / "begun_0"))
    os.kill(victim, signal.SIGKILL)
    thread.join(timeout=60)
    assert [o.value for o in found] == [100, 110, 120, 130, 140, 150]
    assert int((tmp_path / "begun_0").read_text()) != victim
    assert sorted((tmp_path / "log").read_text().split()) == ["10", "11", "12", "13", "14", "15"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_an_item_that_kills_every_worker_is_given_up(cluster):
    outcomes = map_items(deadly, range(4), what="x", backend=cluster)
    assert [o.value for o in outcomes] == [0, 1, None, 3]
    assert isinstance(outcomes[2].error, ResourceError)
    assert "workers ended" in str(outcomes[2].error)


def test_a_requested_stop_reaches_the_workers(tmp_path):
    cancellation = Cancellation()
    with open_cluster("local:2") as own:
        work = partial(patient, own.cancellation, tmp_path)
        threading.Timer(0.0, lambda: (wait_until_begun(tmp_path, 2), cancellation.request())).start()
        with pytest.raises(Interrupted, match="again"):
            map_items(work, range(8), what="x", backend=own, cancellation=cancellation)
        assert len(list(tmp_path.glob("saved_*"))) == 2
    assert len(list(tmp_path.glob("begun_*"))) == 2


def wait_until_begun(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(list(folder.glob("begun_*"))) < count and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.mark.parametrize("words", ["somewhere", "local:none", "local:0", "slurm:missing.yaml"])
def test_specifications_that_are_not_understood(words):
    if words.startswith("slurm"):
        pytest.importorskip("dask_jobqueue")
    with pytest.raises(UsageError, match=words.partition(":")[2] or words), open_cluster(words):
        pass


@pytest.mark.slow
def test_a_scheduler_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr("delineate.execution.cluster.CONNECT_SECONDS", 0.5)
    with pytest.raises(ResourceError, match="does not answer"), open_cluster("tcp://127.0.0.1:9"):
        pass


def test_a_missing_dask_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(ResourceError, match=r"delineate\[cluster\]"), open_cluster("local"):
        pass


def test_slurm_jobs_are_described_as_asked(tmp_path, monkeypatch):
    jobqueue = pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    asked = []
    monkeypatch.setattr(jobqueue.SLURMCluster, "scale", lambda self, jobs: asked.append(jobs))
    options = tmp_path / "options.yaml"
    options.write_text(
        "jobs: 3\nqueue: gpu\ncores: 8\nprocesses: 1\nmemory: 32GB\nwalltime: '12:00:00'\n"
        "job_extra_directives: ['--gres=gpu:1']\n"
    )
    with slurm_cluster(str(options)) as described:
        script = described.job_script()
    assert asked[0] == 3
    for line in ("#SBATCH -p gpu", "#SBATCH --cpus-per-task=8", "#SBATCH -t 12:00:00", "#SBATCH --gres=gpu:1"):
        assert line in script
    assert "#SBATCH --mem=30G" in script
    assert "distributed.cli.dask_worker" in script or "dask worker" in script


def test_slurm_options_that_are_no_mapping_or_too_few(tmp_path):
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    options = tmp_path / "options.yaml"
    options.write_text("- gpu\n")
    with pytest.raises(UsageError, match="found list"), slurm_cluster(str(options)):
        pass
    with pytest.raises(UsageError, match="cores"), slurm_cluster(""):
        pass


def handler_of_interrupts(number: int) -> str:
    return str(signal.getsignal(signal.SIGINT))


def test_workers_leave_the_interrupts_of_a_terminal_to_the_caller(cluster) -> None:
    outcomes = map_items(handler_of_interrupts, range(4), what="x", backend=cluster)
    assert {outcome.value for outcome in outcomes} == {str(signal.SIG_IGN)}
