"""What a zip of a foreigner may hold: plain files below its own root, each once, of a believable size.

Looks at the table of contents only; nothing is unpacked here.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from delineate.errors import ModelError, UnsafeModelError

LARGEST_INFLATION = 50
"""How many times larger than in the zip a file may become; weights hardly shrink at all."""


def check_entries(path: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse a zip that could write outside of its root, or that hides one file behind another.

    Parameters
    ----------
    path
        The zip, for messages.
    entries
        Its table of contents.

    Raises
    ------
    UnsafeModelError
        If a name leads out of the zip, an entry is a link, or a name occurs twice.
    ModelError
        If the zip is encrypted.
    """
    names = [entry.filename for entry in entries]
    for entry in entries:
        parts = PurePosixPath(entry.filename)
        if parts.is_absolute() or ".." in parts.parts or "\\" in entry.filename or ":" in entry.filename:
            raise UnsafeModelError(f"{path} holds a file whose name leads out of it, '{entry.filename}'. Refused.")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise UnsafeModelError(f"{path} holds a link, '{entry.filename}', instead of a file. It is refused.")
        if entry.flag_bits & 0x1:
            raise ModelError(f"{path} is encrypted. Unpack it with its password and give the folder.")
    if len(set(names)) != len(names):
        raise UnsafeModelError(f"{path} holds several files of one name. It is refused.")
