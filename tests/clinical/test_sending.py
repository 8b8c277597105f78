"""Sending to a peer of the test's own: only what was released goes, and label maps give way where they are refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest
from drafts import draft_of

from delineate.clinical import review
from delineate.clinical.dicom_seg import LABEL_MAP_SEGMENTATION, SEGMENTATION, SegmentationSettings, write_seg
from delineate.clinical.ledger import Ledger
from delineate.clinical.release import release
from delineate.clinical.results import ApprovedResult
from delineate.clinical.rtstruct import RT_STRUCTURE_SET, write_rtstruct
from delineate.clinical.sending import Peer, send_released
from delineate.errors import ResourceError, ReviewError, UsageError

pynetdicom = pytest.importorskip("pynetdicom", reason="pynetdicom is not installed (extra network)")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@contextmanager
def archive(*classes: str) -> Iterator[tuple[Peer, list[str]]]:
    """Run an archive that takes objects of these classes; tell what it got."""
    got: list[str] = []

    def store(event: object) -> int:
        got.append(str(event.request.AffectedSOPInstanceUID))  # type: ignore[attr-defined]
        return 0

    entity = pynetdicom.AE(ae_title="ARCHIVE")
    for one in classes:
        entity.add_supported_context(one, ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"])
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(pynetdicom.evt.EVT_C_STORE, store)])
    try:
        yield Peer(title="ARCHIVE", host="127.0.0.1", port=server.server_address[1]), got
    finally:
        server.shutdown()


def write_label_map(path: Path, approved: ApprovedResult) -> None:
    write_seg(path, approved, SegmentationSettings(kind="labelmap"))


@pytest.fixture
def released(tmp_path: Path) -> tuple[Ledger, str, Path]:
    draft, ledger = draft_of(np.ones((2, 4, 4), dtype=np.uint8)), Ledger(path=tmp_path / "l.jsonl")
    review.record_inference(ledger, draft, actor="d")
    review.request_review(ledger, draft, actor="d")
    approved = review.approve(draft, review.Reviewer(name="Roe^R"), ledger)
    writers = {"rt.dcm": write_rtstruct, "map.dcm": write_label_map, "seg.dcm": write_seg}
    release(approved, ledger, tmp_path / "out", writers, actor="roe")
    return ledger, draft.source.series_uid, tmp_path / "out"


def uids(folder: Path, *names: str) -> set[str]:
    return {str(pydicom.dcmread(folder / name).SOPInstanceUID) for name in names}


def test_released_files_arrive(released: tuple[Ledger, str, Path]) -> None:
    ledger, series, folder = released
    with archive(RT_STRUCTURE_SET, SEGMENTATION, LABEL_MAP_SEGMENTATION) as (peer, got):
        done = send_released(ledger, series, folder, peer, actor="node")
    assert all(one.stored for one in done)
    assert set(got) == uids(folder, "rt.dcm", "map.dcm", "seg.dcm")
    rows = [entry.payload for entry in ledger.entries() if entry.kind == "sent"]
    assert {(row["file"], row["stored"]) for row in rows} == {("rt.dcm", True), ("map.dcm", True), ("seg.dcm", True)}
    assert review.state_of(ledger, series).state is review.State.RELEASED


def test_a_peer_that_refuses_label_maps_gets_the_binary_one(released: tuple[Ledger, str, Path]) -> None:
    ledger, series, folder = released
    with archive(RT_STRUCTURE_SET, SEGMENTATION) as (peer, got):
        done = {one.name: one for one in send_released(ledger, series, folder, peer, actor="node")}
    assert set(got) == uids(folder, "rt.dcm", "seg.dcm")
    assert not done["map.dcm"].stored
    assert "seg.dcm went in its place" in done["map.dcm"].words


def test_altered_and_missing_files_are_not_sent(released: tuple[Ledger, str, Path]) -> None:
    ledger, series, folder = released
    dataset = pydicom.dcmread(folder / "rt.dcm")
    dataset.StructureSetLabel = "OTHER"
    dataset.save_as(folder / "rt.dcm")
    (folder / "seg.dcm").unlink()
    with archive(RT_STRUCTURE_SET, SEGMENTATION) as (peer, got):
        with pytest.raises(ReviewError, match=r"rt.dcm is not the file.*seg.dcm is missing"):
            send_released(ledger, series, folder, peer, actor="node")
    assert got == []


def test_what_was_recalled_is_not_sent(released: tuple[Ledger, str, Path]) -> None:
    ledger, series, folder = released
    review.recall(ledger, series, review.Reviewer(name="Roe^R"), reason="wrong patient")
    with pytest.raises(ReviewError, match="recalled"):
        send_released(ledger, series, folder, Peer(title="A", host="127.0.0.1", port=1), actor="node")


def test_a_peer_that_is_not_there(released: tuple[Ledger, str, Path]) -> None:
    ledger, series, folder = released
    with pytest.raises(ResourceError, match="takes no association"):
        send_released(ledger, series, folder, Peer(title="A", host="127.0.0.1", port=1), actor="node")


def test_peers_in_words() -> None:
    assert Peer.read("PACS@10.0.0.1:104") == Peer(title="PACS", host="10.0.0.1", port=104)
    assert Peer.read("PACS@[::1]:104").host == "::1"
    for words in ("PACS", "PACS@host", "@host:104", "A" * 17 + "@host:104"):
        with pytest.raises(UsageError, match="TITLE@HOST:PORT"):
            Peer.read(words)
