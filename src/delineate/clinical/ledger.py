"""An append-only ledger: who did what and when, one JSON row a line, chained by SHA-256.

A row names the hash of the row before it, so that a row that is altered, deleted, inserted or moved breaks the chain;
the head file beside the ledger names the last row, so that rows missing at the end are found as well. Whoever can
write both files can forge the whole chain; against that, keep the head (:meth:`Ledger.head`) somewhere else and give
it to :func:`verify_ledger`. The module knows nothing of what the rows mean.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from delineate.clinical.file_lock import exclusive_lock
from delineate.errors import InputError, LedgerError
from delineate.execution import write_text

FIRST_LINK = "0" * 64
"""What the first row names as the hash before it."""
RECOVERY = "ledger-recovered"
"""Kind of the row that tells that a torn last row was set aside."""
RECORDER = "delineate"
"""Actor of rows that the program writes on its own account."""
_TAIL_BYTES = 1 << 16
KEYS = ("sequence", "time", "actor", "kind", "payload", "previous", "hash")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One row."""

    sequence: int
    """From 1, without gaps."""
    time: str
    """When it was written, UTC, ISO 8601 with microseconds; never earlier than the row before."""
    actor: str
    """Who did it: a person's or a program's name."""
    kind: str
    """What was done, in words of the ledger's user: ``enrolled``, ``edit``, ``approved``."""
    payload: Mapping[str, Any]
    """What JSON can hold; no NaN."""
    previous: str
    """Hash of the row before."""
    hash: str
    """SHA-256 of this row without its hash, as canonical JSON in UTF-8."""

    @property
    def head(self) -> Head:
        """The row as a checkpoint."""
        return Head(sequence=self.sequence, hash=self.hash)


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """A checkpoint: the number and hash of a row; 0 and zeros for an empty ledger."""

    sequence: int
    hash: str

    @property
    def words(self) -> str:
        """As text to be noted elsewhere: ``12:9f2c...``."""
        return f"{self.sequence}:{self.hash}"

    @staticmethod
    def read(words: str) -> Head:
        """Return the checkpoint of its text.

        Raises
        ------
        LedgerError
            If the text is none.
        """
        number, _, digest = words.partition(":")
        if not number.isdigit() or len(digest) != len(FIRST_LINK):
            raise LedgerError(f"A checkpoint is NUMBER:HASH with 64 hexadecimal digits; got '{words}'.")
        return Head(sequence=int(number), hash=digest)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What a look at every row found."""

    entries: tuple[Entry, ...]
    """The rows before the first fault."""
    fault: str
    """The first fault in words, or empty."""
    faulty_sequence: int | None
    """Number that the first faulty row should have."""
    torn_bytes: int
    """Length of a last row that was cut off by a crash; 0 if there is none. The next append sets it aside."""


@dataclass(kw_only=True, slots=True)
class Writer:
    """The ledger while nobody else may write."""

    entries: Sequence[Entry]
    """All rows, those that were appended through this writer included."""
    _append: Callable[[str, str, Mapping[str, Any]], Entry]

    def append(self, kind: str, payload: Mapping[str, Any], *, actor: str) -> Entry:
        """Append a row; it is on the disk when this returns.

        Raises
        ------
        InputError
            If JSON cannot hold the payload.
        ResourceError
            If the head cannot be written.
        """
        entry = self._append(kind, actor, payload)
        self.entries = [*self.entries, entry]
        return entry


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ledger:
    """A ledger in a file; several processes may append to it."""

    path: Path
    """A ``.jsonl`` file; beside it lie ``.head`` and ``.lock`` files of the same name."""
    clock: Callable[[], datetime] = field(default=_now)

    @property
    def head_path(self) -> Path:
        """Where the number and hash of the last row stand."""
        return self.path.with_name(self.path.name + ".head")

    def entries(self) -> tuple[Entry, ...]:
        """Return all rows of a whole chain; a last row that is just being written is left out.

        Raises
        ------
        LedgerError
            If the ledger was altered; names the first faulty row.
        """
        with exclusive_lock(self._lock_path()):
            return self._sound().entries

    def head(self) -> Head:
        """Return the checkpoint to be noted elsewhere.

        Raises
        ------
        LedgerError
            If the ledger was altered.
        """
        entries = self.entries()
        return entries[-1].head if entries else Head(sequence=0, hash=FIRST_LINK)

    def append(self, kind: str, payload: Mapping[str, Any], *, actor: str) -> Entry:
        """Append one row; it is on the disk when this returns.

        Only the last row is checked, against the head, so that the time does not grow with the ledger; if the two do
        not fit each other everything is.

        Raises
        ------
        LedgerError
            If the end of the ledger was altered.
        InputError
            If JSON cannot hold the payload.
        ResourceError
            If the disk is full or the folder cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(self._lock_path()):
            last = _last_row(self)
            if last is not None:
                return _State(ledger=self, last=last).append(kind, actor, payload)
        with self.exclusive() as writer:
            return writer.append(kind, payload, actor=actor)

    @contextmanager
    def exclusive(self) -> Iterator[Writer]:
        """Keep others from writing while rows are read, a decision is made and its row appended.

        A last row that a crash cut off is moved to a file of its own first, and a row of kind ``ledger-recovered``
        tells so.

        Raises
        ------
        LedgerError
            If the ledger was altered.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(self._lock_path()):
            found = self._sound()
            state = _State(ledger=self, last=found.entries[-1] if found.entries else None)
            writer = Writer(entries=list(found.entries), _append=state.append)
            if found.torn_bytes:
                aside = _set_torn_row_aside(self.path, found.torn_bytes)
                writer.append(RECOVERY, {"bytes": found.torn_bytes, "kept_in": aside.name}, actor=RECORDER)
            yield writer

    def _lock_path(self) -> Path:
        return self.path.with_name(self.path.name + ".lock")

    def _sound(self) -> Verification:
        found = _verified(self)
        if found.fault:
            raise LedgerError(
                f"{self.path}: {found.fault} Nothing after row {len(found.entries)} can be trusted; restore the "
                "file from a copy and compare the two."
            )
        return found


def verify_ledger(ledger: Ledger, checkpoint: Head | None = None) -> Verification:
    """Look at every row; find the first that was altered, deleted, inserted or moved.

    Parameters
    ----------
    ledger
        The ledger; it is only read.
    checkpoint
        A head that was noted elsewhere; its row must be there unchanged, or the whole chain was replaced or cut.
    """
    with exclusive_lock(ledger._lock_path()):
        found = _verified(ledger)
    if found.fault or checkpoint is None or checkpoint.sequence == 0:
        return found
    return _against(found, checkpoint, "the checkpoint that was given")


@dataclass(kw_only=True, slots=True)
class _State:
    """The end of the chain while the lock is held."""

    ledger: Ledger
    last: Entry | None

    def append(self, kind: str, actor: str, payload: Mapping[str, Any]) -> Entry:
        now = self.ledger.clock().astimezone(UTC).isoformat(timespec="microseconds")
        row: dict[str, Any] = {
            "sequence": 1 if self.last is None else self.last.sequence + 1,
            # a clock that was set back must not make the order doubtful
            "time": now if self.last is None else max(now, self.last.time),
            "actor": actor,
            "kind": kind,
            "payload": payload,
            "previous": FIRST_LINK if self.last is None else self.last.hash,
        }
        row["hash"] = _digest(row, kind)
        _append_bytes(self.ledger.path, (_canonical(row) + "\n").encode())
        self.last = _entry(json.loads(_canonical(row)))
        write_text(self.ledger.head_path, json.dumps({"sequence": self.last.sequence, "hash": self.last.hash}))
        return self.last


def _canonical(row: Mapping[str, Any]) -> str:
    return json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _digest(row: Mapping[str, Any], kind: str) -> str:
    try:
        text = _canonical({key: row[key] for key in KEYS[:-1]})
        return hashlib.sha256(text.encode()).hexdigest()
    except (TypeError, ValueError) as error:
        raise InputError(f"A ledger row of kind '{kind}' must be JSON without NaN; {error}.") from error


def _entry(row: Mapping[str, Any]) -> Entry:
    return Entry(**{key: row[key] for key in KEYS})


def _append_bytes(path: Path, data: bytes) -> None:
    """Write at the end, flushed to the disk; a crash leaves at most one torn row at the end."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        while data:
            data = data[os.write(handle, data) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _set_torn_row_aside(path: Path, length: int) -> Path:
    content = path.read_bytes()
    torn = content[-length:]
    aside = path.with_name(f"{path.name}.torn-{hashlib.sha256(torn).hexdigest()[:16]}")
    aside.write_bytes(torn)
    with path.open("r+b") as stream:
        stream.truncate(len(content) - length)
        os.fsync(stream.fileno())
    return aside


def _verified(ledger: Ledger) -> Verification:
    try:
        content = ledger.path.read_bytes() if ledger.path.exists() else b""
    except OSError as error:
        raise LedgerError(f"{ledger.path}: cannot be read ({error.strerror}).") from error
    *lines, torn = content.split(b"\n")
    entries: list[Entry] = []
    for number, line in enumerate(lines, start=1):
        fault = _fault_of(line, number, entries[-1] if entries else None)
        if isinstance(fault, str):
            return Verification(entries=tuple(entries), fault=fault, faulty_sequence=number, torn_bytes=len(torn))
        entries.append(fault)
    found = Verification(entries=tuple(entries), fault="", faulty_sequence=None, torn_bytes=len(torn))
    noted = _noted_head(ledger)
    return found if noted is None else _against(found, noted, f"{ledger.head_path.name}")


def _fault_of(line: bytes, number: int, before: Entry | None) -> Entry | str:
    """Return the row, or what is wrong with it."""
    row = _own_fault(line, number)
    if isinstance(row, Entry) and row.previous != (FIRST_LINK if before is None else before.hash):
        return f"row {number} does not follow row {number - 1}: one of them was replaced."
    return row


def _own_fault(line: bytes, number: int) -> Entry | str:
    """Return the row, or what is wrong with it alone."""
    try:
        row = json.loads(line)
        plain = _canonical(row).encode()
    except (ValueError, RecursionError):
        return f"row {number} was altered: it is no JSON."
    if not isinstance(row, dict) or set(row) != set(KEYS) or plain != line:
        return f"row {number} was altered: it is not written as a row of this ledger."
    if row["hash"] != _digest(row, str(row["kind"])):
        return f"row {number} was altered: its content does not fit its hash."
    if row["sequence"] != number:
        return f"row {number} is missing or was moved: in its place stands row {row['sequence']}."
    return _entry(row)


def _last_row(ledger: Ledger) -> Entry | None:
    """Return the last row if it is whole and the one that the head names; None: look at everything."""
    noted = _noted_head(ledger)
    if noted is None or not ledger.path.exists():
        return None
    line = _last_line(ledger.path)
    row = None if line is None else _own_fault(line, noted.sequence)
    return row if isinstance(row, Entry) and row.head == noted else None


def _last_line(path: Path) -> bytes | None:
    """Return the last line without its end; None if it is torn."""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        length, content = 0, b""
        while content.count(b"\n") < 2 and length < size:
            length = min(size, max(_TAIL_BYTES, 2 * length))
            stream.seek(size - length)
            content = stream.read(length)
    return content[:-1].rpartition(b"\n")[2] if content.endswith(b"\n") else None


def _noted_head(ledger: Ledger) -> Head | None:
    if not ledger.head_path.exists():
        return None
    try:
        noted = json.loads(ledger.head_path.read_text(encoding="utf-8"))
        return Head(sequence=int(noted["sequence"]), hash=str(noted["hash"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"{ledger.head_path}: was altered; it is no checkpoint.") from error


def _against(found: Verification, noted: Head, source: str) -> Verification:
    """Compare a whole chain with a checkpoint; the file may hold more rows (a crash before the head was written)."""
    if noted.sequence > len(found.entries):
        number = len(found.entries) + 1
        fault = f"rows {number} to {noted.sequence} were deleted at the end: {source} names row {noted.sequence}."
    elif noted.sequence and found.entries[noted.sequence - 1].hash != noted.hash:
        number = noted.sequence
        fault = f"row {number} or one before it was replaced: it is not the row that {source} names."
    else:
        return found
    return Verification(
        entries=found.entries[: number - 1], fault=fault, faulty_sequence=number, torn_bytes=found.torn_bytes
    )
