"""Structured reports: what they measure, what they refer to, and who vouches for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from drafts import draft_of, structure
from pydicom import Dataset
from releases import approve_at_once

from delineate.clinical.dicom_seg import write_draft_seg, write_seg
from delineate.clinical.results import DraftResult
from delineate.clinical.structured_report import WrittenReport, write_draft_sr, write_sr

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def draft() -> DraftResult:
    labels = np.zeros((6, 10, 12), dtype=np.uint8)
    labels[1:5, 2:6, 3:11] = 1
    labels[0, 0, 0] = 2
    return draft_of(labels, structures=(structure("liver", 1), structure("spleen", 2), structure("none", 3)))


def written(draft: DraftResult, folder: Path) -> tuple[hd.sr.Comprehensive3DSR, WrittenReport, Any]:
    seg = write_draft_seg(folder / "seg.dcm", draft)
    report = write_draft_sr(folder / "sr.dcm", draft, seg)
    return hd.sr.srread(folder / "sr.dcm"), report, seg  # type: ignore[return-value]


def items(content: Any) -> list[Dataset]:
    found = []
    for item in content:
        found += [item, *items(item.get("ContentSequence", []))]
    return found


def test_measurements_and_references(draft: DraftResult, tmp_path: Path) -> None:
    document, report, seg = written(draft, tmp_path)
    groups = document.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == 3
    group = groups[0]
    assert group.tracking_uid == draft.structures[0].tracking_uid
    assert group.finding_type.meaning == "Liver"
    (segment,) = (i for i in items(group) if i.ValueType == "IMAGE")
    reference = segment.ReferencedSOPSequence[0]
    assert (reference.ReferencedSOPInstanceUID, reference.ReferencedSegmentNumber) == (seg.sop_instance_uid, 1)
    values = {m.name.meaning: (m.value, m.unit.value) for m in group.get_measurements()}
    assert values["Volume"] == (pytest.approx(4 * 4 * 8 * 2.5 * 0.9 * 0.9 / 1000), "ml")
    assert values["Diameter"][0] == pytest.approx(np.hypot(10, np.hypot(3.6, 7.2)), rel=1e-5)
    assert values["Long axis"] == (pytest.approx(np.hypot(3.6, 7.2), rel=1e-5), "mm")
    assert report.measures[2].volume_ml == report.measures[2].diameter_mm == 0


def test_the_series_is_referred_to_once_and_not_slice_by_slice(draft: DraftResult, tmp_path: Path) -> None:
    document, _, _ = written(draft, tmp_path)
    found = items(document.ContentSequence)
    series = [i for i in found if i.get("ValueType") == "UIDREF" and "UID" in i and i.UID == draft.source.series_uid]
    assert len(series) == 3  # one for each structure
    assert sum(i.ValueType == "IMAGE" for i in found) == 3  # the segments


def test_drafts_are_not_verified(draft: DraftResult, tmp_path: Path) -> None:
    document, _, _ = written(draft, tmp_path)
    assert (document.VerificationFlag, document.CompletionFlag) == ("UNVERIFIED", "PARTIAL")
    assert document.PreliminaryFlag == "PRELIMINARY"
    assert "not reviewed" in document.SeriesDescription
    assert "VerifyingObserverSequence" not in document


def test_approved_reports_are_verified_by_the_reviewer(draft: DraftResult, tmp_path: Path) -> None:
    approved = approve_at_once(draft, tmp_path)
    seg = write_seg(tmp_path / "seg.dcm", approved)
    write_sr(tmp_path / "sr.dcm", approved, seg)
    document = hd.sr.srread(tmp_path / "sr.dcm")
    assert (document.VerificationFlag, document.CompletionFlag) == ("VERIFIED", "COMPLETE")
    observer = document.VerifyingObserverSequence[0]
    assert observer.VerifyingObserverName == "Roe^Richard"
    assert str(observer.VerificationDateTime).startswith(approved.approval.time_utc.strftime("%Y%m%d%H%M%S"))
    observers = {c.observer_type.meaning for c in document.content.get_observer_contexts()}
    assert observers == {"Device", "Person"}
