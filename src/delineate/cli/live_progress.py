"""A live progress line on a terminal; a plain line now and then anywhere else."""

from __future__ import annotations

import sys
import time
from typing import TextIO

PLAIN_LINE_EVERY_SECONDS = 15.0


class PlainProgress:
    """Progress as plain lines on stderr, at most one every few seconds: for logs, pipes and batch systems."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._what = ""
        self._total: int | None = None
        self._done = 0
        self._began = self._last = time.monotonic()

    def start(self, what: str, total: int | None) -> None:
        """Begin a stage."""
        self._what, self._total, self._done = what, total, 0
        self._began = self._last = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count steps; write a line if the last one is old enough."""
        self._done += steps
        now = time.monotonic()
        if now - self._last >= PLAIN_LINE_EVERY_SECONDS:
            self._last = now
            self._write(f"{self._what}: {self._position()}{_separated(note)}")

    def finish(self, note: str = "") -> None:
        """End the stage with one line."""
        self._write(f"{self._what}: {self._position()} in {time.monotonic() - self._began:.1f} s{_separated(note)}")

    def _position(self) -> str:
        return str(self._done) if self._total is None else f"{self._done}/{self._total}"

    def _write(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class LiveProgress(PlainProgress):
    """Progress as one line that is rewritten in place; stages end with a line that stays."""

    REFRESH_SECONDS = 0.1

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count steps and rewrite the line."""
        self._done += steps
        now = time.monotonic()
        if now - self._last >= self.REFRESH_SECONDS:
            self._last = now
            self._rewrite(f"{self._what}: {self._bar()} {self._position()}{_separated(note)}")

    def finish(self, note: str = "") -> None:
        """End the stage with a line that stays."""
        self._rewrite("")
        super().finish(note)

    def _bar(self, width: int = 20) -> str:
        if not self._total:
            return ""
        full = min(width, round(width * self._done / self._total))
        return "█" * full + "░" * (width - full)

    def _rewrite(self, line: str) -> None:
        columns = 160
        self._stream.write("\r\x1b[2K" + line[:columns])
        self._stream.flush()


def progress_for(stream: TextIO, *, disabled: bool = False) -> PlainProgress:
    """Return live progress for a terminal, plain lines otherwise or when the live line is disabled."""
    return PlainProgress(stream) if disabled or not stream.isatty() else LiveProgress(stream)


def _separated(note: str) -> str:
    return f" · {note}" if note else ""
