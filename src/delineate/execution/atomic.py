"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import functools
import glob
import hashlib
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from delineate.errors import ResourceError

ABANDONED_SECONDS = 24 * 3600
"""After so long without a change, what a process of another machine was writing counts as abandoned."""


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
    temporary = target.parent / _temporary_name(target.name)
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
    probe = folder / _temporary_name("probe")
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


def remove_abandoned(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left of writing ``name``, or anything, in ``folder``.

    What a living process is writing stays.

    Whether a process lives can be told on its own machine only. What another machine was writing goes once nothing has
    changed for a day.
    """
    for leftover in folder.glob(f".partial-*-{'*' if name is None else glob.escape(name)}"):
        machine, _, rest = leftover.name.removeprefix(".partial-").partition(".")
        process = rest.partition(".")[0]
        own = machine == _machine() and process.isdecimal()
        if _untouched_for_long(leftover) if not own else not psutil.pid_exists(int(process)):
            _remove(leftover)


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``target`` in which it can be made, and remove the folder when the block ends.

    What killed processes left of the same goes first. The folder of ``target`` is made if it does not exist.

    Raises
    ------
    OSError
        If the folder cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(target.parent, target.name)
    folder = target.parent / _temporary_name(target.name)
    folder.mkdir()
    try:
        yield folder
    finally:
        _remove(folder)


def _temporary_name(name: str) -> str:
    """Return a hidden name that says which process of which machine writes there."""
    return f".partial-{_machine()}.{os.getpid()}.{secrets.token_hex(4)}-{name}"


@functools.cache
def _machine() -> str:
    """Return what processes have in common that see each other's numbers: the machine, and on it the container."""
    try:
        numbers = Path("/proc/self/ns/pid").readlink()
    except OSError:
        numbers = Path()  # not Linux
    return hashlib.sha256(f"{socket.gethostname()} {numbers}".encode()).hexdigest()[:8]


def _untouched_for_long(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > ABANDONED_SECONDS
    except OSError:
        return False  # gone by now


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
