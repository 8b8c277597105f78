"""Progress and cancellation, as values that are passed in."""

from __future__ import annotations

import threading
from typing import Protocol, TypedDict

from delineate.errors import Interrupted


class Progress(Protocol):
    """Where long work tells how far it is. Doors give a live line; tests and libraries give :class:`Silent`."""

    def start(self, what: str, total: int | None) -> None:
        """Begin a stage of ``total`` steps (None: unknown)."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Say that ``steps`` more steps are done; ``note`` is a short text for the live line."""

    def finish(self, note: str = "") -> None:
        """End the stage."""


class Silent:
    """Progress that nobody watches."""

    def start(self, what: str, total: int | None) -> None:
        """Ignore the stage."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Ignore the steps."""

    def finish(self, note: str = "") -> None:
        """Ignore the end."""


class Cancellation:
    """A flag that a door raises (Ctrl-C) and long work looks at between its steps.

    Parameters
    ----------
    whole
        Of the work that this one is a part of: a request to stop it stops the part, and not the other way round.
    """

    def __init__(self, whole: Cancellation | None = None) -> None:
        self._event, self._whole = threading.Event(), whole

    def request(self) -> None:
        """Ask the work to stop at the next safe point."""
        self._event.set()

    @property
    def requested(self) -> bool:
        """Whether somebody asked the work to stop."""
        return self._event.is_set() or (self._whole is not None and self._whole.requested)

    def check(self, resume_hint: str = "Run the same command again to go on.") -> None:
        """Stop here if asked to.

        Raises
        ------
        Interrupted
            If a stop was requested.
        """
        if self.requested:
            raise Interrupted(f"Stopped on request. {resume_hint}")


class Watched(TypedDict):
    """Progress and cancellation together, to be handed on as ``**watched``."""

    progress: Progress
    cancellation: Cancellation
