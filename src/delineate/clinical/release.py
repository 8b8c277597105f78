"""The way out: files of an approved result appear together with the ledger's record of them, or not at all."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from delineate.clinical.ledger import Entry, Ledger
from delineate.clinical.results import ApprovedResult
from delineate.clinical.review import record_release, require_releasable, state_of
from delineate.errors import UsageError
from delineate.execution.atomic import require_writable

Writer = Callable[[Path, ApprovedResult], object]
"""Writes one object of an approved result to a path."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """What left."""

    files: Mapping[str, str]
    """SHA-256 by file name."""
    entry: Entry
    """The ledger's row."""


def release(
    approved: ApprovedResult, ledger: Ledger, folder: Path, writers: Mapping[str, Writer], *, actor: str
) -> Release:
    """Write objects of an approved result and record each with its hash.

    The files are written out of sight first; the ledger is told; then they get their names. What the ledger does not
    know has therefore never been visible, and a crash in between leaves a record without files, never the reverse.

    Parameters
    ----------
    approved
        What a person approved.
    ledger
        The ledger of that review.
    folder
        Where the files go.
    writers
        By file name, in the order in which they have to be written.
    actor
        Who releases, for the ledger.

    Raises
    ------
    ReviewError
        If the content changed after the approval, or the ledger does not hold the approval as its last word.
    LedgerError
        If the ledger was altered.
    ResourceError
        If the files cannot be written.
    """
    if not writers:
        raise UsageError("Nothing to release: name at least one object to write.")
    require_releasable(approved, state_of(ledger, approved.draft.source.series_uid))
    require_writable(folder)
    with tempfile.TemporaryDirectory(prefix=".partial-release-", dir=folder) as hidden:
        for name, write in writers.items():
            write(Path(hidden) / name, approved)
        files = {name: sha256_of(Path(hidden) / name) for name in writers}
        entry = record_release(ledger, approved, files, actor=actor)
        for name in writers:
            (Path(hidden) / name).replace(folder / name)
    return Release(files=files, entry=entry)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
