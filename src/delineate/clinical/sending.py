"""Sending released files to an archive or a planning system by C-STORE; nothing else is ever sent.

A file goes only if the ledger holds it as released, with this very SHA-256, of the version that was approved last.
Where the peer refuses label maps, as archives older than their SOP class do, the binary segmentation of the same
release goes in their place. Every file that was taken or refused is a row of the ledger.

References
----------
DICOM PS3.4 annex B (Storage Service Class), PS3.7 C (DIMSE statuses).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom

from delineate.clinical.dicom_seg import LABEL_MAP_SEGMENTATION, SEGMENTATION
from delineate.clinical.ledger import Ledger
from delineate.clinical.release import sha256_of
from delineate.clinical.review import ReviewState, State, state_of
from delineate.errors import ResourceError, ReviewError, UsageError

if TYPE_CHECKING:
    from pynetdicom.association import Association

KIND = "sent"
"""Of the ledger's rows."""
TIMEOUT_SECONDS = 30
SUCCESS = 0x0000
WARNINGS = range(0xB000, 0xC000)
"""Statuses of files that were stored with a remark."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """Who is sent to."""

    title: str
    """Application entity title."""
    host: str
    port: int

    @staticmethod
    def read(words: str) -> Peer:
        """Return the peer of ``TITLE@HOST:PORT``.

        Raises
        ------
        UsageError
            If it is not of that form.
        """
        found = re.fullmatch(r"([^@]{1,16})@([^@:]+|\[[^\]]+\]):(\d{1,5})", words)
        if found is None:
            raise UsageError(f"A peer is TITLE@HOST:PORT, with a title of at most 16 characters; got '{words}'.")
        return Peer(title=found[1], host=found[2].strip("[]"), port=int(found[3]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """What became of one file."""

    name: str
    stored: bool
    words: str
    """For a person."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    path: Path
    sha256: str
    sop_class_uid: str
    transfer_syntax_uid: str


def send_released(
    ledger: Ledger, series_uid: str, folder: Path, peer: Peer, *, actor: str, own_title: str = "DELINEATE"
) -> tuple[Sent, ...]:
    """Send the DICOM files of a study's last release.

    Parameters
    ----------
    ledger
        Of the reviews.
    series_uid
        The series whose results are sent.
    folder
        Where the released files lie.
    peer
        Who receives them.
    actor
        Who sends, for the ledger.
    own_title
        What the program calls itself.

    Raises
    ------
    ReviewError
        If nothing is released, or a file is missing or is not what was released; nothing is sent then.
    LedgerError
        If the ledger was altered.
    ResourceError
        If the peer cannot be reached or takes none of the kinds of objects.
    """
    files = _released_files(state_of(ledger, series_uid), folder)
    association = _associate(files, peer, own_title)
    try:
        taken = {str(context.abstract_syntax) for context in association.accepted_contexts}
        done = tuple(_send_one(association, file, files, taken) for file in files)
    finally:
        association.release()
    for one, file in zip(done, files, strict=True):
        row = {"series": series_uid, "file": one.name, "sha256": file.sha256, "peer": peer.title}
        ledger.append(KIND, {**row, "stored": one.stored, "status": one.words}, actor=actor)
    return done


def _released_files(now: ReviewState, folder: Path) -> tuple[_File, ...]:
    """Return the released DICOM files after comparing every byte with the ledger's hashes."""
    if now.state is not State.RELEASED:
        raise ReviewError(f"The study is {now.state}; only what is released is sent.")
    hashes: Mapping[str, str] = {name: digest for release in now.released for name, digest in release.items()}
    faults, found = [], []
    for name, digest in hashes.items():
        path = folder / name
        if path.suffix == ".json":
            continue
        if not path.is_file():
            faults.append(f"{name} is missing")
        elif sha256_of(path) != digest:
            faults.append(f"{name} is not the file that was released")
        else:
            meta = pydicom.dcmread(path, stop_before_pixels=True).file_meta
            found.append(
                _File(
                    path=path,
                    sha256=digest,
                    sop_class_uid=str(meta.MediaStorageSOPClassUID),
                    transfer_syntax_uid=str(meta.TransferSyntaxUID),
                )
            )
    if faults or not found:
        raise ReviewError(f"{folder}: nothing was sent: {'; '.join(faults) or 'no DICOM file was released'}.")
    return tuple(found)


def _associate(files: Sequence[_File], peer: Peer, own_title: str) -> Association:
    try:
        from pynetdicom import AE
    except ModuleNotFoundError as error:
        raise UsageError("Sending needs the extra `network`: pip install 'delineate[network]'.") from error
    entity = AE(ae_title=own_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = TIMEOUT_SECONDS
    entity.connection_timeout = TIMEOUT_SECONDS
    for pair in sorted({(file.sop_class_uid, file.transfer_syntax_uid) for file in files}):
        entity.add_requested_context(*pair)
    association = entity.associate(peer.host, peer.port, ae_title=peer.title)
    if not association.is_established:
        raise ResourceError(
            f"{peer.title} at {peer.host}:{peer.port} takes no association. Is it running, does it know the title "
            f"{own_title}, and does it accept one of the kinds of objects?"
        )
    return association


def _send_one(association: Any, file: _File, files: Sequence[_File], taken: set[str]) -> Sent:
    name = file.path.name
    if file.sop_class_uid not in taken:
        instead = [one.path.name for one in files if one.sop_class_uid == SEGMENTATION and SEGMENTATION in taken]
        if file.sop_class_uid == LABEL_MAP_SEGMENTATION and instead:
            return Sent(name=name, stored=False, words=f"label maps are refused; {instead[0]} went in its place")
        more = "; release a binary segmentation as well" if file.sop_class_uid == LABEL_MAP_SEGMENTATION else ""
        return Sent(name=name, stored=False, words=f"the peer refuses this kind of object{more}")
    status = association.send_c_store(str(file.path))
    code = getattr(status, "Status", None)
    if code is None:
        return Sent(name=name, stored=False, words="no answer")
    stored = code == SUCCESS or code in WARNINGS
    return Sent(name=name, stored=stored, words="stored" if code == SUCCESS else f"status {code:#06x}")
