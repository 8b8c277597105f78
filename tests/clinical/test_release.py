"""The way out: every writer of approved results looks at the content again, and every file is told with its hash."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drafts import draft_of, source_on
from releases import approve_at_once

from delineate.clinical.dicom_seg import WrittenSegmentation, write_seg
from delineate.clinical.fhir import approved_bundle
from delineate.clinical.ledger import Ledger
from delineate.clinical.measurements import measure_structures
from delineate.clinical.release import release, sha256_of
from delineate.clinical.results import ApprovedResult
from delineate.clinical.rtstruct import write_rtstruct
from delineate.clinical.structured_report import write_sr
from delineate.errors import GeometryError, ReviewError, UsageError
from delineate.geometry.grid import Grid

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SEGMENTATION = WrittenSegmentation(
    sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4", sop_instance_uid="1.2.3", series_uid="1.2", segments=("s1",), frames=2
)


@pytest.mark.parametrize(
    "write",
    [
        write_rtstruct,
        write_seg,
        lambda path, approved: write_sr(path, approved, SEGMENTATION),
        lambda path, approved: approved_bundle(approved, measure_structures(approved.draft), []),
    ],
    ids=["rtstruct", "seg", "sr", "fhir"],
)
def test_a_mask_changed_after_approval_is_refused_at_every_export(
    write: Callable[[Path, ApprovedResult], object], tmp_path: Path
) -> None:
    approved = approve_at_once(draft_of(np.ones((2, 4, 4), dtype=np.uint8)), tmp_path)
    write(tmp_path / "a.dcm", approved)
    approved.draft.result.labels.array.setflags(write=True)
    approved.draft.result.labels.array[1, 2, 3] = 0
    with pytest.raises(ReviewError, match="changed after the approval"):
        write(tmp_path / "b.dcm", approved)
    assert not (tmp_path / "b.dcm").exists()


def test_every_file_is_told_with_its_hash(tmp_path: Path) -> None:
    approved = approve_at_once(draft_of(np.ones((2, 4, 4), dtype=np.uint8)), tmp_path)
    ledger, out = Ledger(path=tmp_path / "review.jsonl"), tmp_path / "out"
    done = release(approved, ledger, out, {"rt.dcm": write_rtstruct, "seg.dcm": write_seg}, actor="rroe")
    assert done.files == {name: sha256_of(out / name) for name in ("rt.dcm", "seg.dcm")}
    assert ledger.entries()[-1].payload["files"] == done.files
    assert ledger.entries()[-1].payload["content_sha256"] == approved.approval.content_sha256
    with pytest.raises(UsageError, match="Nothing to release"):
        release(approved, ledger, out, {}, actor="rroe")


def test_a_draft_lies_on_its_series() -> None:
    draft = draft_of(np.ones((2, 4, 4), dtype=np.uint8))
    elsewhere = source_on(Grid.regular((2, 4, 4), (2.5, 0.9, 1.0)))
    with pytest.raises(GeometryError, match="spacing"):
        dataclasses.replace(draft, source=elsewhere)


def test_the_hash_covers_all_that_was_seen() -> None:
    draft = draft_of(np.ones((2, 4, 4), dtype=np.uint8))
    other_model = dataclasses.replace(draft.result.provenance, model="model 2")
    probabilities = np.zeros((2, 2, 4, 4), dtype=np.float32)
    changed = [
        dataclasses.replace(draft, result=dataclasses.replace(draft.result, provenance=other_model)),
        dataclasses.replace(draft, result=dataclasses.replace(draft.result, probabilities=probabilities)),
        dataclasses.replace(draft, source=source_on(draft.source.grid)),
        dataclasses.replace(draft, structures=(dataclasses.replace(draft.structures[0], label="other"),)),
    ]
    assert len({one.content_sha256 for one in [draft, *changed]}) == 5
