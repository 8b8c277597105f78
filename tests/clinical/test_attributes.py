"""What every object repeats of the images: the patient and the study, in any script, and nothing invented."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pydicom
import pytest
from drafts import draft_of
from pydicom import Dataset
from releases import approve_at_once

from delineate.clinical import review
from delineate.clinical.dicom_seg import write_seg
from delineate.clinical.ledger import Ledger
from delineate.clinical.results import DraftResult
from delineate.clinical.rtstruct import write_rtstruct
from delineate.clinical.structured_report import write_sr
from delineate.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def draft(folder: Path) -> DraftResult:
    """A draft of images whose header was read from a file in Japanese."""
    made = draft_of(np.ones((2, 4, 4), dtype=np.uint8))
    header = made.source.header
    header.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    header.PatientName = "Yamada^Tarou=山田^太郎"
    header.StudyDescription, header.AccessionNumber, header.StudyDate = "頭部", "A7", "20260102"
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header.SOPClassUID, header.SOPInstanceUID = made.source.slices[0].sop_class_uid, "1.2.3"
    header.save_as(folder / "image.dcm", enforce_file_format=True)
    read = pydicom.dcmread(folder / "image.dcm")
    copied = Dataset()
    for element in read:
        copied[element.tag] = element
    return dataclasses.replace(made, source=dataclasses.replace(made.source, header=copied))


def test_patient_and_study_are_repeated_in_any_script(tmp_path: Path) -> None:
    made = draft(tmp_path)
    ledger = Ledger(path=tmp_path / "l.jsonl")
    review.record_inference(ledger, made, actor="d")
    review.request_review(ledger, made, actor="d")
    approved = review.approve(made, review.Reviewer(name="Łukasiewicz^Jan"), ledger)
    write_rtstruct(tmp_path / "rt.dcm", approved)
    seg = write_seg(tmp_path / "seg.dcm", approved)
    write_sr(tmp_path / "sr.dcm", approved, seg)
    for name in ("rt", "seg", "sr"):
        found = pydicom.dcmread(tmp_path / f"{name}.dcm")
        assert str(found.PatientName) == "Yamada^Tarou=山田^太郎"
        assert (found.AccessionNumber, found.StudyDate) == ("A7", "20260102")
        assert found.StudyInstanceUID == made.source.study_uid
        assert found.PatientBirthDate == ""
    assert str(pydicom.dcmread(tmp_path / "rt.dcm").ReviewerName) == "Łukasiewicz^Jan"
    assert str(pydicom.dcmread(tmp_path / "seg.dcm").ContentCreatorName) == "Łukasiewicz^Jan"


def test_images_that_belong_to_nothing_are_refused(tmp_path: Path) -> None:
    made = draft(tmp_path)
    lost = dataclasses.replace(made, source=dataclasses.replace(made.source, frame_of_reference_uid=""))
    with pytest.raises(InputError, match="Frame of Reference"):
        write_rtstruct(tmp_path / "rt.dcm", approve_at_once(lost, tmp_path))
    assert not (tmp_path / "rt.dcm").exists()
