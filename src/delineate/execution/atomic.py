"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from delineate.errors import ResourceError


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; rename it to ``target`` when the block ends without an error.

    The temporary name keeps the target's suffixes, because image writers choose the format by them. The block may make
    a file or a folder of that name.

    Raises
    ------
    ResourceError
        If the folder cannot be made or written, or the disk is full; the target is left as it was.
    """
    temporary = target.parent / f".partial-{secrets.token_hex(8)}-{target.name}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise _explained(error, target) from error
    finally:
        _remove(temporary)


@contextmanager
def staged_files(folder: Path) -> Iterator[Path]:
    """Yield an empty folder inside ``folder``; move its files into ``folder`` when the block ends without an error.

    Files that belong together appear together, in the same sub-folders; those of the same name are replaced. Nothing of
    them is left when the block ends with an error.

    Raises
    ------
    ResourceError
        If the folder cannot be made or written, or the disk is full.
    """
    stage = folder / f".partial-{secrets.token_hex(8)}-files"
    is_new = not folder.exists()
    try:
        stage.mkdir(parents=True)
        yield stage
        for file in sorted(path for path in stage.rglob("*") if path.is_file()):
            target = folder / file.relative_to(stage)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    except OSError as error:
        raise _explained(error, folder) from error
    finally:
        _remove(stage)
        if is_new:
            with suppress(OSError):
                folder.rmdir()  # only if nothing came to lie in it


def require_writable(folder: Path) -> None:
    """Make a folder and write into it for a moment, so that long work does not end at a folder that takes nothing.

    Raises
    ------
    ResourceError
        If the folder cannot be made or written.
    """
    probe = folder / f".partial-{secrets.token_hex(8)}-probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
    except OSError as error:
        raise _explained(error, folder) from error
    finally:
        _remove(probe)


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove what processes that were killed in :func:`atomic_path` left of writing ``name`` (a glob) in ``folder``.

    Only for a folder in which nobody writes that name now.
    """
    for leftover in folder.glob(f".partial-*-{name}"):
        _remove(leftover)


def _remove(path: Path) -> None:
    """Remove what was not renamed: a file, or a folder of files."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def write_bytes(target: Path, data: bytes) -> None:
    """Write a small file atomically and flush it to the disk.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    with atomic_path(target) as temporary, temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def write_text(target: Path, text: str) -> None:
    """Write a small UTF-8 text file atomically.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    write_bytes(target, text.encode("utf-8"))


def _explained(error: OSError, target: Path) -> ResourceError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(
            f"The disk is full: could not write {target}. Free some space and run the same command again."
        )
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return ResourceError(
            f"No permission to write {target}. Choose another output folder or change its permissions."
        )
    reason = error.strerror or str(error)
    return ResourceError(f"Could not write {target} ({reason}). Choose another output folder.")
