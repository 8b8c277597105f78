import errno
import os
import threading

import pytest

from delineate.errors import DatasetError, InputError, Interrupted, ResourceError, SomeCasesFailed, UsageError
from delineate.execution import Cancellation, atomic_path, map_items, write_bytes, write_text
from delineate.execution.atomic import staged_files


class Recorder:
    def __init__(self):
        self.events = []

    def start(self, what, total):
        self.events.append((what, total))

    def advance(self, steps=1, note=""):
        self.events.append(steps)

    def finish(self, note=""):
        self.events.append("end")


def halved(number):
    if number % 2:
        raise InputError(f"{number} is odd")
    return number // 2


def broken(number):
    raise ZeroDivisionError(number)


@pytest.mark.parametrize("backend", ["serial", "threads", "processes"])
def test_outcomes_keep_the_order_and_every_failure(backend):
    outcomes = map_items(halved, [0, 1, 2, 3, 4], what="halves", workers=2, backend=backend)
    assert [o.item for o in outcomes] == [0, 1, 2, 3, 4]
    assert [o.value for o in outcomes] == [0, None, 1, None, 2]
    assert [str(o.error) for o in outcomes if o.error] == ["1 is odd", "3 is odd"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_fault_of_the_program_ends_the_work(workers):
    with pytest.raises(ZeroDivisionError):
        map_items(broken, [1, 2], what="x", workers=workers, backend="threads")


def test_progress_is_told():
    recorder = Recorder()
    map_items(halved, [0, 2], what="halves", progress=recorder)
    assert recorder.events == [("halves", 2), 1, 1, "end"]


def test_nothing_to_do_gives_no_outcomes():
    assert map_items(halved, [], what="x", workers=3, backend="threads") == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_requested_stop_is_heeded_between_items(workers):
    cancellation = Cancellation()
    seen = []
    lock = threading.Lock()

    def work(item):
        with lock:
            seen.append(item)
        cancellation.request()

    with pytest.raises(Interrupted, match="again"):
        map_items(work, list(range(50)), what="x", workers=workers, backend="threads", cancellation=cancellation)
    assert 1 <= len(seen) <= 6
    assert cancellation.requested


def test_a_part_stops_with_the_whole_and_not_the_other_way_round():
    whole = Cancellation()
    part, other = Cancellation(whole), Cancellation(whole)
    part.request()
    assert part.requested
    assert not whole.requested
    assert not other.requested
    whole.request()
    with pytest.raises(Interrupted):
        other.check()


def test_a_file_appears_whole(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "ä")
    write_bytes(tmp_path / "new" / "a.txt", b"b")
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"b"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write_half():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(("number", "text"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "permission")])
def test_a_full_disk_and_a_locked_folder_are_explained(tmp_path, number, text):
    with pytest.raises(ResourceError, match=text), atomic_path(tmp_path / "a"):
        raise OSError(number, os.strerror(number))


def test_other_system_errors_are_told_too(tmp_path):
    with pytest.raises(ResourceError, match="loop"), atomic_path(tmp_path / "a"):
        raise OSError(errno.ELOOP, "too many links in a loop")
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(ResourceError, match="another output folder"), atomic_path(blocked / "below"):
        pass


def test_errors_carry_their_faults_and_exit_codes():
    error = DatasetError("two faults", ["one", "two"])
    assert error.diagnostics() == "two faults\n  - one\n  - two"
    assert (error.exit_code, UsageError("x").exit_code) == (3, 2)
    assert SomeCasesFailed("x", ["a"]).diagnostics() == "x\n  - a"
    assert UsageError("x").diagnostics() == "x"


def test_staged_files_appear_together(tmp_path):
    with staged_files(tmp_path / "out") as stage:
        (stage / "masks").mkdir()
        (stage / "masks" / "a").write_text("new")
        (stage / "b").write_text("new")
        assert [path.name for path in (tmp_path / "out").iterdir()] == [stage.name]
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["a", "b", "masks"]
    (tmp_path / "out" / "masks" / "kept").write_text("old")
    with staged_files(tmp_path / "out") as stage:
        (stage / "b").write_text("newer")
    assert (tmp_path / "out" / "b").read_text() == "newer"
    assert (tmp_path / "out" / "masks" / "kept").exists()


def write_half(folder):
    with staged_files(folder) as stage:
        (stage / "mine").write_text("half")
        raise KeyboardInterrupt


def test_staged_files_leave_nothing_behind(tmp_path):
    for folder, there in (("fresh", []), ("old", ["mine"])):
        if there:
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "mine").write_text("old")
        with pytest.raises(KeyboardInterrupt):
            write_half(tmp_path / folder)
        assert (tmp_path / folder).exists() == bool(there)
    assert (tmp_path / "old" / "mine").read_text() == "old"
    assert [path.name for path in tmp_path.rglob("*")] == ["old", "mine"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(ResourceError, match="Could not write"), staged_files(tmp_path / "file" / "out"):
        pass
