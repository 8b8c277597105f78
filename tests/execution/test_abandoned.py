"""What a killed process was writing goes the next time; what a living one writes stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from delineate.execution import atomic_path, remove_abandoned, staging_folder

WRITER = """
import sys, time
from pathlib import Path
from delineate.execution import {manager}
with {manager}(Path(sys.argv[1])) as temporary:
    {write}
    print("half", flush=True)
    time.sleep(600)
"""
FILE = WRITER.format(manager="atomic_path", write="temporary.write_text('half')")
FOLDER = WRITER.format(manager="staging_folder", write="(temporary / 'a').write_text('half')")


@contextmanager
def half_way(code: str, target: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that has written half."""
    with subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "half\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("code", [FILE, FOLDER])
@pytest.mark.parametrize("name", ["model.zip", None])
def test_of_a_killed_process_nothing_stays(tmp_path: Path, code: str, name: str | None) -> None:
    with half_way(code, tmp_path / "model.zip") as process:
        (left,) = tmp_path.iterdir()
        assert left.name.startswith(".partial-")
        remove_abandoned(tmp_path, name)
        assert list(tmp_path.iterdir()) == [left]  # it lives
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert list(tmp_path.iterdir()) == [left]
    remove_abandoned(tmp_path, "other.zip")
    assert list(tmp_path.iterdir()) == [left]
    remove_abandoned(tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_staging_begins_by_clearing_up(tmp_path: Path) -> None:
    with half_way(FOLDER, tmp_path / "install") as process:
        process.send_signal(signal.SIGKILL)
    with staging_folder(tmp_path / "install") as folder:
        assert list(tmp_path.iterdir()) == [folder]
        assert not list(folder.iterdir())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [".partial-0123abcd.1.0123abcd-a[1].zip", ".partial-0123456789abcdef-a[1].zip"])
def test_what_another_machine_writes_goes_after_a_day_without_change(tmp_path: Path, name: str) -> None:
    theirs = tmp_path / name
    theirs.write_text("half")
    remove_abandoned(tmp_path, "a[1].zip")
    assert theirs.exists()
    os.utime(theirs, times=(0.0, time.time() - 25 * 3600))
    remove_abandoned(tmp_path, "a1.zip")
    assert theirs.exists()
    remove_abandoned(tmp_path, "a[1].zip")
    assert not theirs.exists()


def test_what_this_process_writes_stays(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("all of it")
        remove_abandoned(tmp_path)
    assert (tmp_path / "a").read_text() == "all of it"
