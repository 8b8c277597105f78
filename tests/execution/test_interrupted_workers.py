"""Ctrl-C reaches every process of a terminal; the workers leave it to the one that the user started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from delineate.errors import ResourceError
from delineate.execution import map_items

WORK = """
import signal, sys, time
from delineate.errors import Interrupted
from delineate.execution import Cancellation, map_items

def wait(seconds):
    time.sleep(seconds)
    return seconds

if __name__ == "__main__":
    cancellation = Cancellation()
    signal.signal(signal.SIGINT, lambda *_: cancellation.request())
    print("ready", flush=True)
    try:
        map_items(wait, [0.3] * 200, what="wait", workers=2, cancellation=cancellation)
    except Interrupted:
        sys.exit(130)
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize("after_seconds", [0.15, 2.0])  # while workers start, and while they work
def test_an_interrupt_of_the_whole_group_stops_in_order(after_seconds: float, tmp_path: Path) -> None:
    script = tmp_path / "work.py"
    script.write_text(WORK)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(after_seconds)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, "")


def end_abruptly(_item: int) -> None:
    os._exit(9)


def test_a_lost_process_is_one_clear_error() -> None:
    with pytest.raises(ResourceError, match="fewer jobs"):
        map_items(end_abruptly, [1, 2, 3], what="x", workers=2)
