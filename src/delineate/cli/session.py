"""A command of the command line, and one call of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from delineate.execution import Cancellation, Progress, Watched


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One call of a command."""

    options: argparse.Namespace
    progress: Progress
    cancellation: Cancellation
    command: str

    @property
    def watched(self) -> Watched:
        """Progress and cancellation, as every workflow takes them."""
        return Watched(progress=self.progress, cancellation=self.cancellation)


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A command and its options."""

    name: str
    help: str
    declare: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Session], int]
