"""Where a model package lies: a folder, or a zip that is read in memory; one question for both, what a file holds."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from delineate.errors import ModelError
from delineate.formats.zip_entries import LARGEST_INFLATION, check_entries

DOCUMENT = "model.json"
PREVIOUS = "previous"
"""Sub-folder of a cascade that holds the package of the stage before."""


class PackageSource(Protocol):
    """The files of one package."""

    def names(self) -> list[str]:
        """Return the names of files and sub-folders."""

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's content; ModelError if it is missing or has more bytes than the limit."""

    def within(self, folder: str) -> PackageSource:
        """Return the package in a sub-folder; ModelError if there is none."""


@dataclass(frozen=True, slots=True)
class _Folder:
    root: Path

    def names(self) -> list[str]:
        return sorted(entry.name for entry in self.root.iterdir())

    def read(self, name: str, limit: int) -> bytes:
        file = self.root / name
        if not file.is_file():
            raise _missing(self.root, name, self.names())
        size = file.stat().st_size
        if size > limit:
            raise ModelError(f"{file} has {size} bytes, more than the {limit} that can be right. The model is damaged.")
        return file.read_bytes()

    def within(self, folder: str) -> _Folder:
        if not (self.root / folder).is_dir():
            raise _missing(self.root, f"{folder}/{DOCUMENT}", self.names())
        return _Folder(self.root / folder)


@dataclass(frozen=True, slots=True)
class _Zip:
    path: Path
    archive: zipfile.ZipFile
    prefix: str

    def names(self) -> list[str]:
        files = [i.filename for i in self.archive.infolist() if not i.is_dir()]
        inside = (name.removeprefix(self.prefix) for name in files if name.startswith(self.prefix))
        return sorted({name.split("/")[0] if name.startswith(f"{PREVIOUS}/") else name for name in inside})

    def read(self, name: str, limit: int) -> bytes:
        try:
            info = self.archive.getinfo(self.prefix + name)
        except KeyError as error:
            raise _missing(self.path, name, self.names()) from error
        if info.file_size > limit or info.file_size > LARGEST_INFLATION * max(info.compress_size, 1024):
            raise ModelError(
                f"{self.path}: {name} would become {info.file_size} bytes, which cannot be right. The model is refused."
            )
        return self.archive.read(info)

    def within(self, folder: str) -> _Zip:
        return _Zip(self.path, self.archive, f"{self.prefix}{folder}/")


def _missing(path: Path, name: str, found: Sequence[str]) -> ModelError:
    if name == DOCUMENT:
        plans = "there are plans, but nothing was trained with them yet" if "plans.json" in found else "found neither"
        return ModelError(
            f"There is no trained model in {path}: expected {DOCUMENT}, or plans.json and fold_0 to fold_4 of nnU-Net; "
            f"{plans}. Train it, copy it again if it was cut short, or give another folder or zip."
        )
    return ModelError(f"The model {path} is incomplete: {name} is missing. Copy or export the model again.")


@contextmanager
def opened_package(path: Path) -> Iterator[PackageSource]:
    """Open the folder or zip of a package.

    Raises
    ------
    ModelError
        If nothing is there, or it is no readable zip.
    UnsafeModelError
        If a zip holds links or names that lead out of it.
    """
    if path.is_dir():
        yield _Folder(path)
        return
    if not path.is_file():
        raise ModelError(
            f"There is no model at {path}. Give the folder or the zip of a model or of a run, or nnU-Net's."
        )
    try:
        with zipfile.ZipFile(io.BytesIO() if path.stat().st_size == 0 else path) as archive:
            check_entries(path, archive.infolist())
            yield _Zip(path, archive, _prefix(archive))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ModelError(
            f"{path} is no readable zip of a model: {error}. It may be cut short or of another kind; copy it again."
        ) from error


def _prefix(archive: zipfile.ZipFile) -> str:
    """Return the folder inside the zip in which the model lies, with its slash; empty if at the top."""
    found = [PurePosixPath(name) for name in archive.namelist() if PurePosixPath(name).name == DOCUMENT]
    depth = min((len(p.parts) for p in found), default=0)
    shallow = [p for p in found if len(p.parts) == depth]
    return f"{shallow[0].parent}/" if depth == 2 and len(shallow) == 1 else ""
