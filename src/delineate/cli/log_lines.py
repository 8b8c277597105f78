"""What the program logs, as lines for the terminal: of many messages of one kind only the first are shown."""

from __future__ import annotations

import logging
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

SHOWN_PER_KIND = 3
"""A repair of a thousand files is told three times, and then once with the number."""


class FewOfEachKind(logging.Filter):
    """Lets the first messages of each kind through and counts the others; a kind is a text before its values."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a message is shown."""
        kind = str(record.msg)
        self.counts[kind] += 1
        self.examples.setdefault(kind, record.getMessage())
        return self.counts[kind] <= SHOWN_PER_KIND

    def summary(self) -> list[str]:
        """Return one line for every kind of which messages were left out."""
        return [
            f"{count - SHOWN_PER_KIND} more like '{self.examples[kind]}' (--verbose shows all)"
            for kind, count in self.counts.items()
            if count > SHOWN_PER_KIND
        ]


@contextmanager
def log_to_terminal(*, verbose: bool) -> Iterator[None]:
    """Show what the program logs on stderr: warnings, few of each kind; or everything."""
    handler, few = logging.StreamHandler(sys.stderr), FewOfEachKind()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    if not verbose:
        handler.setLevel(logging.WARNING)  # libraries set levels of their own for their loggers
        handler.addFilter(few)
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.DEBUG if verbose else logging.WARNING)
    root.addHandler(handler)
    try:
        with warnings.catch_warnings():
            if not verbose:
                warnings.filterwarnings("ignore", module="pydicom")  # it logs what it warns of
            yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
        for line in few.summary():
            print(f"WARNING {line}", file=sys.stderr)
