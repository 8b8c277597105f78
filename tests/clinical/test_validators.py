"""Every DICOM object against ``dciodvfy`` of dicom3tools, and through a real archive: Orthanc.

On Debian: ``apt-get install dicom3tools dcmtk orthanc orthanc-dicomweb``.
"""

from __future__ import annotations

import contextlib
import dataclasses
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

import numpy as np
import pydicom
import pytest
from drafts import draft_of, structure
from releases import approve_at_once

from delineate.case import LabelScheme
from delineate.clinical.coding import code_structures
from delineate.clinical.dicom_seg import SegKind, SegmentationSettings, write_draft_seg, write_seg
from delineate.clinical.results import DraftResult
from delineate.clinical.rtstruct import StructureSetSettings, write_draft_rtstruct, write_rtstruct
from delineate.clinical.structured_report import write_draft_sr, write_sr

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

FALSE_ALARMS = (
    "Unrecognized enumerated value <CLOSEDPLANAR_XOR>",  # PS3.3 C.8.8.6.3 defines it
    "Information Object Not found",  # label maps are younger than the build of 2022
    "SegmentNumber not monotonically increasing from one by one - have SegmentSequence item number 1 (from one) with "
    "SegmentNumber of 0",  # the background of a label map has the number 0 (PS3.3 C.8.20.4)
)
"""Of the build of 2022-06-18 that Debian 12 has."""


def draft() -> DraftResult:
    labels = np.zeros((5, 12, 14), dtype=np.uint8)
    labels[1:4, 2:9, 3:11] = 1
    labels[2, 4, 5] = 0
    labels[0, 0, 0] = 2
    made = draft_of(labels)
    heads = np.stack([labels == value for value in range(4)]).astype(np.float32)
    names = ("Kidney_L", "GTV_Mass", "something else")
    coding = code_structures(LabelScheme.simple(*names).structures, series_uid=made.source.series_uid)
    result = dataclasses.replace(made.result, probabilities=heads)
    return dataclasses.replace(made, result=result, structures=coding.structures)


def errors(path: Path) -> list[str]:
    """Return the validator's errors without the known false ones."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("needs dciodvfy (Debian package dicom3tools)")
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
    return [line for line in lines if not any(alarm in line for alarm in FALSE_ALARMS)]


def test_the_validator_finds_a_fault(tmp_path: Path) -> None:
    write_draft_rtstruct(tmp_path / "rt.dcm", draft())
    dataset = pydicom.dcmread(tmp_path / "rt.dcm")
    del dataset.StructureSetLabel
    dataset.save_as(tmp_path / "broken.dcm")
    assert any("StructureSetLabel" in line for line in errors(tmp_path / "broken.dcm"))


@pytest.mark.parametrize("holes", ["keyhole", "xor"])
def test_structure_sets(holes: str, tmp_path: Path) -> None:
    made = draft()
    settings = StructureSetSettings(holes=holes, predecessor=("1.2.840.10008.5.1.4.1.1.481.3", "1.2.3"))  # type: ignore[arg-type]
    write_draft_rtstruct(tmp_path / "draft.dcm", made, settings)
    write_rtstruct(tmp_path / "approved.dcm", approve_at_once(made, tmp_path), settings)
    assert (errors(tmp_path / "draft.dcm"), errors(tmp_path / "approved.dcm")) == ([], [])


@pytest.mark.parametrize("kind", ["binary", "fractional", "labelmap"])
def test_segmentations(kind: SegKind, tmp_path: Path) -> None:
    made = draft()
    settings = SegmentationSettings(kind=kind)
    write_draft_seg(tmp_path / "draft.dcm", made, settings)
    write_seg(tmp_path / "approved.dcm", approve_at_once(made, tmp_path), settings)
    assert (errors(tmp_path / "draft.dcm"), errors(tmp_path / "approved.dcm")) == ([], [])


def test_overlapping_segments(tmp_path: Path) -> None:
    made = draft_of(np.ones((2, 5, 5), dtype=np.uint8), structures=(structure("a", 1), structure("b", 1, 2)))
    write_draft_seg(tmp_path / "seg.dcm", made)
    assert errors(tmp_path / "seg.dcm") == []


def test_structured_reports(tmp_path: Path) -> None:
    made = draft()
    write_draft_sr(tmp_path / "draft.dcm", made, write_draft_seg(tmp_path / "s.dcm", made))
    approved = approve_at_once(made, tmp_path)
    write_sr(tmp_path / "approved.dcm", approved, write_seg(tmp_path / "t.dcm", approved))
    assert (errors(tmp_path / "draft.dcm"), errors(tmp_path / "approved.dcm")) == ([], [])
    dump = shutil.which("dsrdump")
    if dump is not None:
        done = subprocess.run([dump, str(tmp_path / "approved.dcm")], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Imaging Measurement Report" in done.stdout


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    dicom_port: int
    http_port: int

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


@pytest.fixture
def objects(tmp_path: Path) -> dict[str, Path]:
    """One approved object of each kind."""
    approved = approve_at_once(draft(), tmp_path)
    paths = {name: tmp_path / f"{name}.dcm" for name in ("rtstruct", "binary", "fractional", "labelmap", "sr")}
    write_rtstruct(paths["rtstruct"], approved)
    write_sr(paths["sr"], approved, write_seg(paths["binary"], approved))
    write_seg(paths["fractional"], approved, SegmentationSettings(kind="fractional"))
    write_seg(paths["labelmap"], approved, SegmentationSettings(kind="labelmap"))
    return paths


def content(data: bytes | Path) -> pydicom.Dataset:
    dataset = pydicom.dcmread(data if isinstance(data, Path) else pydicom.filebase.DicomBytesIO(data))
    return pydicom.Dataset({e.tag: e for e in dataset if e.tag.element != 0})


@pytest.mark.slow
def test_an_archive_takes_them_by_c_store_and_stow_and_gives_them_back(
    objects: dict[str, Path], tmp_path: Path
) -> None:
    store = shutil.which("storescu")
    if store is None:
        pytest.skip("needs storescu (Debian package dcmtk)")
    with running_archive(tmp_path, UnknownSopClassAccepted=True) as archive:
        for number, (name, path) in enumerate(objects.items()):
            dataset = pydicom.dcmread(path)
            if number % 2 == 0 and name != "labelmap":
                done = subprocess.run([store, "-R", "127.0.0.1", str(archive.dicom_port), str(path)], check=False)
                assert done.returncode == 0, name
            else:
                boundary = "part-of-a-study"
                body = (
                    f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
                    + path.read_bytes()
                    + f"\r\n--{boundary}--\r\n".encode()
                )
                kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
                answer = json.loads(archive.post("/dicom-web/studies", body, kind))
                assert "00081199" in answer, answer  # Referenced SOP Sequence: what was stored
                assert not answer.get("00081198", {}).get("Value"), answer  # Failed SOP Sequence
            assert content(archive.stored(dataset.SOPInstanceUID)) == content(path), name
