from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from delineate.errors import PlanError, ResourceError, UsageError
from delineate.training.distributed import Place, _exit_code, launch
from delineate.training.ranks import Ranks
from training.rank_in_process import train

TESTS = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def started(folder: Path, *trainings: dict, size: int = 2) -> list[subprocess.Popen[bytes]]:
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    script, port = str(TESTS / "training" / "rank_in_process.py"), str(free_port())
    words = [[sys.executable, script, str(folder), str(r), str(size), port, json.dumps(trainings)] for r in range(size)]
    return [subprocess.Popen(command, env=environment) for command in words]


def found_by(folder: Path, name: str, ranks) -> list[dict]:
    return [torch.load(folder / f"{name}_rank_{rank}.pt") for rank in ranks]


def together(folder: Path, size: int = 2, **options) -> list[dict]:
    """Train in several processes and return what each of them found."""
    processes = started(folder, {"name": "run", **options}, size=size)
    assert [process.wait(timeout=240) for process in processes] == [0] * size
    return found_by(folder, "run", range(size))


def assert_close_weights(one, other, tolerance=1e-4):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=tolerance, msg=name)


KINDS = {
    "sample_dice": {"batch_dice": False, "batch_size": 3},
    "batch_dice": {"batch_dice": True, "batch_size": 3},
    "regions_sample_dice": {"batch_dice": False, "batch_size": 3, "regions": True},
    "regions_batch_dice": {"batch_dice": True, "batch_size": 4, "regions": True},
}


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What two processes found for every kind of loss, batches of three among them."""
    folder = tmp_path_factory.mktemp("two")
    processes = started(folder, *({"name": name, **options} for name, options in KINDS.items()))
    assert [process.wait(timeout=240) for process in processes] == [0, 0]
    return {name: found_by(folder, name, (0, 1)) for name in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_as_one_does(tmp_path, two_processes, kind):
    alone = train(tmp_path, KINDS[kind], Ranks())
    first, second = two_processes[kind]
    assert len(alone["losses"]) == 6
    assert first["losses"] == second["losses"]
    assert first["losses"] == pytest.approx(alone["losses"], abs=1e-5)
    assert_close_weights(first["weights"], alone["weights"])
    assert_close_weights(first["average"], alone["average"])
    for key in ("weights", "average"):
        assert_close_weights(first[key], second[key], tolerance=0.0)
    assert [r["step"] for r in first["records"]] == [3, 6]
    assert first["records"][0]["dice"] == pytest.approx(alone["records"][0]["dice"], abs=1e-3)


@pytest.mark.slow
def test_three_processes_with_shares_of_two_one_and_one(tmp_path):
    alone = train(tmp_path / "alone", {"batch_size": 4, "batch_dice": False}, Ranks())
    found = together(tmp_path, size=3, batch_size=4, batch_dice=False)
    for rank in found:
        assert rank["losses"] == pytest.approx(alone["losses"], abs=1e-5)


@pytest.mark.slow
def test_a_stop_asked_of_one_rank_stops_all_and_resuming_changes_nothing(tmp_path, two_processes):
    options = KINDS["batch_dice"]
    whole = two_processes["batch_dice"][0]
    stopped = together(tmp_path, cancelling_rank=1, cancel_at=3, **options)
    assert all("Interrupted" in rank["error"] for rank in stopped)
    assert all("after step 3" in rank["error"] for rank in stopped)
    first, second = together(tmp_path, **options)
    assert first["losses"] == second["losses"] == whole["losses"][3:]
    assert_close_weights(first["weights"], whole["weights"], tolerance=0.0)


@pytest.mark.slow
def test_a_time_budget_ends_all_ranks_at_the_same_step(tmp_path):
    first, second = together(tmp_path, batch_size=2, iterations=10_000, budget=2.0, pause=0.01)
    assert first["steps"] == second["steps"] < 10_000
    assert first["losses"] == second["losses"]
    assert_close_weights(first["weights"], second["weights"], tolerance=0.0)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_rank_that_dies_ends_the_other_with_one_clear_error(tmp_path):
    processes = started(tmp_path, {"name": "run", "batch_size": 2, "killed_rank": 1, "killed_step": 2})
    assert [process.wait(timeout=60) for process in processes] == [0, -signal.SIGKILL]
    (found,) = found_by(tmp_path, "run", [0])
    assert found["error"].startswith("LostRankError: Process 1 of 2 lost the others")
    assert "last checkpoint is kept" in found["error"]
    assert (tmp_path / "run" / "checkpoint_latest.pt").exists()


def test_shares_make_up_the_batch():
    class Rank(Ranks):
        def __init__(self, index, size):
            self.index, self.size = index, size

    for size in (1, 2, 3, 5):
        for batch in range(size, 9):
            shares = [list(range(batch))[Rank(r, size).share(batch)] for r in range(size)]
            assert [i for share in shares for i in share] == list(range(batch))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1
            assert sorted(i for r in range(size) for i in Rank(r, size).turns(batch)) == list(range(batch))
    with pytest.raises(PlanError, match="at most 2"):
        Rank(0, 3).share(2)


def test_impossible_places_are_refused():
    with pytest.raises(UsageError, match="torchrun"):
        Place(rank=2, world_size=2, local_rank=0, local_size=1, address="localhost", port=1)


def test_a_killed_process_is_told_and_an_exit_code_is_handed_on():
    assert _exit_code({1: 3}, 2) == 3
    with pytest.raises(ResourceError, match="Process 2 of 2 was ended by signal SIGKILL"):
        _exit_code({0: -signal.SIGTERM, 1: -signal.SIGKILL}, 2)
    assert _exit_code({0: -signal.SIGTERM, 1: 3}, 2) == 3


@pytest.mark.slow
def test_the_launcher_tells_every_process_its_place(tmp_path):
    program = (
        "import os,pathlib,sys; rank = os.environ['RANK']; "
        "pathlib.Path(sys.argv[1], rank).write_text(os.environ['WORLD_SIZE']); sys.exit(int(sys.argv[2]) * int(rank))"
    )
    assert launch([sys.executable, "-c", program, str(tmp_path), "0"], 2) == 0
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"0": "2", "1": "2"}
    assert launch([sys.executable, "-c", program, str(tmp_path), "5"], 2) == 5
