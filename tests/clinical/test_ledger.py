from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from delineate.clinical.ledger import FIRST_LINK, RECOVERY, Head, Ledger, verify_ledger
from delineate.errors import InputError, LedgerError


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(path=tmp_path / "ledger.jsonl")
    for number in range(1, 7):
        made.append("edit", {"case": f"c{number}", "dice": 0.9}, actor="reader é")
    return made


def test_rows_are_numbered_chained_and_hashed_as_documented(ledger: Ledger) -> None:
    rows = [json.loads(line) for line in ledger.path.read_text().splitlines()]
    before = FIRST_LINK
    for number, row in enumerate(rows, start=1):
        own = row.pop("hash")
        text = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert own == hashlib.sha256(text.encode()).hexdigest()
        assert (row["sequence"], row["previous"]) == (number, before)
        before = own
    assert [e.payload["case"] for e in ledger.entries()] == [f"c{i}" for i in range(1, 7)]
    assert ledger.head() == Head(sequence=6, hash=before)


def _altered(lines: list[bytes]) -> list[bytes]:
    return [line.replace(b'"dice":0.9', b'"dice":1.0') if i == 2 else line for i, line in enumerate(lines)]


def _respaced(lines: list[bytes]) -> list[bytes]:
    return [line.replace(b'"dice":0.9', b'"dice": 0.9') if i == 2 else line for i, line in enumerate(lines)]


def _rehashed(lines: list[bytes]) -> list[bytes]:
    row = json.loads(lines[2])
    row["payload"]["dice"] = 1.0
    del row["hash"]
    text = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    row["hash"] = hashlib.sha256(text.encode()).hexdigest()
    changed = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return [*lines[:2], changed, *lines[3:]]


TAMPERINGS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], int]] = {
    "altered": (_altered, 3),
    "white space": (_respaced, 3),
    "altered with its own hash made anew": (_rehashed, 4),
    "deleted in the middle": (lambda lines: lines[:2] + lines[3:], 3),
    "deleted at the start": (lambda lines: lines[1:], 1),
    "deleted at the end": (lambda lines: lines[:-2], 5),
    "everything deleted": (lambda lines: [], 1),
    "two exchanged": (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 2),
    "one twice": (lambda lines: [*lines[:3], lines[2], *lines[3:]], 4),
    "no JSON": (lambda lines: [*lines[:4], b"{", *lines[5:]], 5),
    "an empty line": (lambda lines: [*lines[:4], b"", *lines[4:]], 5),
    "another shape": (lambda lines: [*lines[:4], b"[1]", *lines[5:]], 5),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_the_first_tampered_row_is_found(ledger: Ledger, name: str) -> None:
    tamper, first = TAMPERINGS[name]
    lines = ledger.path.read_bytes().splitlines()
    ledger.path.write_bytes(b"".join(line + b"\n" for line in tamper(lines)))
    found = verify_ledger(ledger)
    assert (found.faulty_sequence, len(found.entries)) == (first, first - 1)
    with pytest.raises(LedgerError, match=r"row"):
        ledger.entries()
    size = ledger.path.stat().st_size
    with pytest.raises(LedgerError), ledger.exclusive():
        pass
    if b"".join(lines[-1:]) not in ledger.path.read_bytes().splitlines()[-1:]:
        with pytest.raises(LedgerError):
            ledger.append("edit", {}, actor="x")
    assert ledger.path.stat().st_size == size


def test_a_forged_chain_needs_the_checkpoint_that_was_kept_elsewhere(ledger: Ledger, tmp_path: Path) -> None:
    kept = Head.read(ledger.head().words)
    forged = Ledger(path=tmp_path / "forged.jsonl")
    for number in range(1, 8):
        forged.append("edit", {"case": f"c{number}", "dice": 1.0}, actor="forger")
    assert not verify_ledger(forged).fault
    assert verify_ledger(forged, kept).faulty_sequence == 6
    ledger.append("edit", {}, actor="x")
    assert not verify_ledger(ledger, kept).fault
    with pytest.raises(LedgerError, match="NUMBER:HASH"):
        Head.read("6:abc")


def test_a_row_behind_an_altered_one_does_not_hide_it(ledger: Ledger) -> None:
    """Appending looks at the end only; whoever reads looks at everything."""
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b'"case":"c2"', b'"case":"c9"'))
    ledger.append("edit", {"long": "x" * 200_000}, actor="x")
    ledger.append("edit", {}, actor="x")
    assert verify_ledger(ledger).faulty_sequence == 2
    with pytest.raises(LedgerError, match="row 2"):
        ledger.entries()


def test_a_head_file_that_is_no_checkpoint_is_refused(ledger: Ledger) -> None:
    ledger.head_path.write_text("{}")
    with pytest.raises(LedgerError, match="no checkpoint"):
        ledger.entries()


def test_a_payload_that_json_cannot_hold_leaves_no_row(ledger: Ledger) -> None:
    before = ledger.path.read_bytes()
    for payload in ({"dice": float("nan")}, {"path": Path("x")}):
        with pytest.raises(InputError, match="JSON"):
            ledger.append("edit", payload, actor="x")
    assert ledger.path.read_bytes() == before


def test_a_torn_row_is_set_aside_and_told(ledger: Ledger) -> None:
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole + b'{"actor":"reader","ki')
    assert verify_ledger(ledger).torn_bytes == 21
    assert len(ledger.entries()) == 6
    ledger.append("edit", {"case": "c7"}, actor="reader")
    told, new = ledger.entries()[-2:]
    assert (told.kind, told.payload["bytes"], new.payload["case"]) == (RECOVERY, 21, "c7")
    assert (ledger.path.parent / told.payload["kept_in"]).read_bytes() == b'{"actor":"reader","ki'
    assert ledger.path.read_bytes().startswith(whole)


def test_a_crash_before_the_head_was_written_costs_nothing(ledger: Ledger) -> None:
    head = ledger.head_path.read_bytes()
    ledger.append("edit", {"case": "c7"}, actor="reader")
    ledger.head_path.write_bytes(head)
    assert len(ledger.entries()) == 7
    ledger.append("edit", {"case": "c8"}, actor="reader")
    assert not verify_ledger(ledger).fault


def test_a_clock_that_was_set_back_does_not_turn_the_order(tmp_path: Path) -> None:
    times = iter([datetime(2026, 5, 2, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)])
    ledger = Ledger(path=tmp_path / "l.jsonl", clock=lambda: next(times))
    first, second = (ledger.append("x", {}, actor="a") for _ in range(2))
    assert first.time == second.time == "2026-05-02T00:00:00.000000+00:00"


APPEND_MANY = """
import sys
from pathlib import Path
from delineate.clinical.ledger import Ledger
ledger = Ledger(path=Path(sys.argv[1]))
print("ready", flush=True)
for i in range(int(sys.argv[3])):
    ledger.append("edit", {"number": i, "filling": "x" * 2000}, actor=sys.argv[2])
"""


def _start(path: Path, actor: str, count: int, code: str = APPEND_MANY) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path), actor, str(count)], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_two_processes_append_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    processes = [_start(path, actor, 40) for actor in "ab"]
    assert [process.wait(60) for process in processes] == [0, 0]
    for process in processes:
        process.stdout.close()
    entries = Ledger(path=path).entries()
    assert len(entries) == 80
    for actor in "ab":
        assert [e.payload["number"] for e in entries if e.actor == actor] == list(range(40))


def test_a_killed_process_leaves_a_ledger_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for delay, how in ((0.02, signal.SIGKILL), (0.05, signal.SIGINT), (0.08, signal.SIGKILL)):
        process = _start(path, "a", 5_000)
        assert process.stdout.readline() == "ready\n"
        time.sleep(delay)
        process.send_signal(how)
        process.wait(60)
        process.stdout.close()
        Ledger(path=path).append("edit", {}, actor="after")
        assert not verify_ledger(Ledger(path=path)).fault
    assert sum(e.actor == "after" for e in Ledger(path=path).entries()) == 3


KILLED_IN_THE_WRITE = """
import os, sys
from pathlib import Path
from delineate.clinical.ledger import Ledger
real = os.write
def half(handle, data):
    real(handle, data[: len(data) // 2])
    os._exit(9)
os.write = half
Ledger(path=Path(sys.argv[1])).append("edit", {"case": "lost"}, actor="a")
"""


def test_a_process_that_dies_in_the_middle_of_a_row_leaves_the_rows_before_it(ledger: Ledger) -> None:
    process = _start(ledger.path, "a", 1, KILLED_IN_THE_WRITE)
    assert process.wait(60) == 9
    process.stdout.close()
    assert verify_ledger(ledger).torn_bytes > 0
    ledger.append("edit", {"case": "c7"}, actor="reader")
    assert [e.kind for e in ledger.entries()] == ["edit"] * 6 + [RECOVERY, "edit"]
