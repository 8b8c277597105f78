"""Every DICOM object through a real archive, Orthanc: by C-STORE and by STOW-RS, and back unchanged.

On Debian: ``apt-get install orthanc orthanc-dicomweb``.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from drafts import full_draft
from releases import REVIEWER, approve_at_once

from delineate.clinical.dicom_seg import SegmentationSettings, write_seg
from delineate.clinical.ledger import Ledger
from delineate.clinical.release import release
from delineate.clinical.results import ApprovedResult
from delineate.clinical.rtstruct import write_rtstruct
from delineate.clinical.sending import Peer, send_released
from delineate.clinical.structured_report import write_sr

pynetdicom = pytest.importorskip("pynetdicom", reason="pynetdicom is not installed (extra network)")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]
STORED, FAILED = "00081199", "00081198"
"""Referenced SOP Sequence and Failed SOP Sequence of an answer to STOW-RS."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    dicom_port: int
    http_port: int

    @property
    def peer(self) -> Peer:
        return Peer(title="ORTHANC", host="127.0.0.1", port=self.dicom_port)

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=20) as answer:
            content: bytes = answer.read()
        return content

    def post(self, path: str, body: bytes, kind: str) -> bytes:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}{path}",
            data=body,
            headers={"Content-Type": kind, "Accept": "application/dicom+json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            content: bytes = answer.read()
        return content

    def forget(self, sop_instance_uid: str) -> None:
        found = json.loads(self.post("/tools/lookup", sop_instance_uid.encode(), "text/plain"))
        url = f"http://127.0.0.1:{self.http_port}/instances/{found[0]['ID']}"
        urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=20).close()

    def has(self, sop_instance_uid: str) -> bool:
        return bool(json.loads(self.post("/tools/lookup", sop_instance_uid.encode(), "text/plain")))

    def stored(self, sop_instance_uid: str) -> bytes:
        """Return the file as the archive gives it back."""
        found = json.loads(self.post("/tools/lookup", sop_instance_uid.encode(), "text/plain"))
        return self.get(f"/instances/{found[0]['ID']}/file")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running_archive(folder: Path, **options: object) -> Iterator[Archive]:
    """Start Orthanc on free ports and end it again."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if program is None:
        pytest.skip("needs Orthanc (Debian packages orthanc and orthanc-dicomweb)")
    plugin = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
    archive = Archive(dicom_port=free_port(), http_port=free_port())
    configuration = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomPort": archive.dicom_port,
        "HttpPort": archive.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(plugin)] if plugin.exists() else [],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        **options,
    }
    (folder / "storage").mkdir()
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    log = (folder / "orthanc.log").open("wb")
    process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        for _ in range(300):
            with contextlib.suppress(urllib.error.URLError, http.client.HTTPException, ConnectionError):
                archive.get("/system")
                break
            if process.poll() is not None:
                pytest.skip(f"Orthanc does not start here: {(folder / 'orthanc.log').read_text()[-300:]}")
            time.sleep(0.1)
        yield archive
    finally:
        process.terminate()
        process.wait(timeout=20)
        log.close()


KINDS = ("rtstruct", "binary", "fractional", "labelmap", "sr")


@pytest.fixture
def objects(tmp_path: Path) -> dict[str, Path]:
    """One approved object of each kind."""
    approved = approve_at_once(full_draft(), tmp_path)
    paths = {name: tmp_path / f"{name}.dcm" for name in KINDS}
    write_rtstruct(paths["rtstruct"], approved)
    write_sr(paths["sr"], approved, write_seg(paths["binary"], approved))
    write_seg(paths["fractional"], approved, SegmentationSettings(kind="fractional"))
    write_label_map(paths["labelmap"], approved)
    return paths


def write_label_map(path: Path, approved: ApprovedResult) -> None:
    write_seg(path, approved, SegmentationSettings(kind="labelmap"))


def content(data: bytes | Path) -> pydicom.Dataset:
    dataset = pydicom.dcmread(data if isinstance(data, Path) else pydicom.filebase.DicomBytesIO(data))
    return pydicom.Dataset({e.tag: e for e in dataset if e.tag.element != 0})


def by_c_store(archive: Archive, path: Path) -> None:
    dataset = pydicom.dcmread(path)
    entity = pynetdicom.AE(ae_title="TEST")
    entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = entity.associate(archive.peer.host, archive.peer.port, ae_title=archive.peer.title)
    assert association.is_established
    assert association.send_c_store(dataset).Status == 0
    association.release()


def by_stow(archive: Archive, path: Path) -> None:
    boundary = "part-of-a-study"
    body = (
        f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        + path.read_bytes()
        + f"\r\n--{boundary}--\r\n".encode()
    )
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    answer = json.loads(archive.post("/dicom-web/studies", body, kind))
    assert STORED in answer, answer
    assert not answer.get(FAILED, {}).get("Value"), answer


def test_an_archive_takes_them_by_c_store_and_stow_and_gives_them_back(
    objects: dict[str, Path], tmp_path: Path
) -> None:
    with running_archive(tmp_path, UnknownSopClassAccepted=True) as archive:
        for store in (by_c_store, by_stow):
            for name, path in objects.items():
                uid = pydicom.dcmread(path).SOPInstanceUID
                store(archive, path)
                assert content(archive.stored(uid)) == content(path), (store.__name__, name)
                archive.forget(uid)


def test_an_archive_that_refuses_label_maps_gets_the_binary_one(tmp_path: Path) -> None:
    """Orthanc as it comes refuses kinds of objects that it does not know, label maps among them."""
    approved, ledger, out = (
        approve_at_once(full_draft(), tmp_path),
        Ledger(path=tmp_path / "review.jsonl"),
        tmp_path / "o",
    )
    release(approved, ledger, out, {"map.dcm": write_label_map, "seg.dcm": write_seg}, actor=REVIEWER.actor)
    with running_archive(tmp_path) as archive:
        sent = send_released(ledger, approved.draft.source.series_uid, out, archive.peer, actor="node")
        done = {one.name: one for one in sent}
        assert (done["map.dcm"].stored, done["seg.dcm"].stored) == (False, True)
        assert "seg.dcm went in its place" in done["map.dcm"].words
        assert not archive.has(pydicom.dcmread(out / "map.dcm").SOPInstanceUID)
        assert content(archive.stored(pydicom.dcmread(out / "seg.dcm").SOPInstanceUID)) == content(out / "seg.dcm")
