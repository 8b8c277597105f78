"""Every DICOM object against ``dciodvfy`` of dicom3tools.

On Debian: ``apt-get install dicom3tools dcmtk``.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from drafts import draft_of, full_draft, structure
from releases import approve_at_once

from delineate.clinical.dicom_seg import SegKind, SegmentationSettings, write_draft_seg, write_seg
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


def errors(path: Path) -> list[str]:
    """Return the validator's errors without the known false ones."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("needs dciodvfy (Debian package dicom3tools)")
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("Error", "Abort"))]
    return [line for line in lines if not any(alarm in line for alarm in FALSE_ALARMS)]


def test_the_validator_finds_a_fault(tmp_path: Path) -> None:
    write_draft_rtstruct(tmp_path / "rt.dcm", full_draft())
    dataset = pydicom.dcmread(tmp_path / "rt.dcm")
    del dataset.StructureSetLabel
    dataset.save_as(tmp_path / "broken.dcm")
    assert any("StructureSetLabel" in line for line in errors(tmp_path / "broken.dcm"))


@pytest.mark.parametrize("holes", ["keyhole", "xor"])
def test_structure_sets(holes: str, tmp_path: Path) -> None:
    made = full_draft()
    settings = StructureSetSettings(holes=holes, predecessor=("1.2.840.10008.5.1.4.1.1.481.3", "1.2.3"))  # type: ignore[arg-type]
    write_draft_rtstruct(tmp_path / "draft.dcm", made, settings)
    write_rtstruct(tmp_path / "approved.dcm", approve_at_once(made, tmp_path), settings)
    assert (errors(tmp_path / "draft.dcm"), errors(tmp_path / "approved.dcm")) == ([], [])


@pytest.mark.parametrize("kind", ["binary", "fractional", "labelmap"])
def test_segmentations(kind: SegKind, tmp_path: Path) -> None:
    made = full_draft()
    settings = SegmentationSettings(kind=kind)
    write_draft_seg(tmp_path / "draft.dcm", made, settings)
    write_seg(tmp_path / "approved.dcm", approve_at_once(made, tmp_path), settings)
    assert (errors(tmp_path / "draft.dcm"), errors(tmp_path / "approved.dcm")) == ([], [])


def test_overlapping_segments(tmp_path: Path) -> None:
    made = draft_of(np.ones((2, 5, 5), dtype=np.uint8), structures=(structure("a", 1), structure("b", 1, 2)))
    write_draft_seg(tmp_path / "seg.dcm", made)
    assert errors(tmp_path / "seg.dcm") == []


def test_structured_reports(tmp_path: Path) -> None:
    made = full_draft()
    write_draft_sr(tmp_path / "draft.dcm", made, write_draft_seg(tmp_path / "s.dcm", made))
    approved = approve_at_once(made, tmp_path)
    write_sr(tmp_path / "approved.dcm", approved, write_seg(tmp_path / "t.dcm", approved))
    assert (errors(tmp_path / "draft.dcm"), errors(tmp_path / "approved.dcm")) == ([], [])
    dump = shutil.which("dsrdump")
    if dump is not None:
        done = subprocess.run([dump, str(tmp_path / "approved.dcm")], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Imaging Measurement Report" in done.stdout
