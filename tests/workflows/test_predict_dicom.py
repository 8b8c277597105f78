"""From a DICOM study and a model to drafts, by the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from ct_files import write_series

from delineate.cli.main import main
from delineate.formats.datasets import Dataset
from delineate.formats.dicom.reading import read_dicom
from delineate.formats.dicom.rtstruct_reader import read_rtstruct
from delineate.formats.dicom.seg_reader import read_seg
from delineate.formats.images import read_image, read_labels
from delineate.workflows.run_dataset import RunOutcome

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_a_study_is_segmented_into_drafts(finished: RunOutcome, dataset: Dataset, tmp_path: Path) -> None:
    image = read_image(dataset.testing[0].images)
    grid = write_series(tmp_path / "study", np.round(image.array[0]), image.grid.spacing_mm)  # type: ignore[arg-type]
    words = ["--rtstruct", "rt.dcm", "--seg", "seg.dcm", "--sr", "sr.dcm", "--fhir", "b.json", "--preview", "p.png"]
    command = ["predict", str(finished.folder.model), "--dicom", str(tmp_path / "study"), "-o", str(tmp_path / "out")]
    assert main([*command, *words, "--seg-kind", "fractional", "--device", "cpu"]) == 0
    out, source = tmp_path / "out", read_dicom(tmp_path / "study").source
    labels = read_labels(out / "labels.nii.gz")
    assert labels.grid.matches(grid)
    found = read_seg(out / "seg.dcm", source)
    names = [s.name for s in dataset.scheme.structures]
    assert [s.label for s in found.segments] == names
    for value, drawn in enumerate(read_rtstruct(out / "rt.dcm", source).structures, start=1):
        assert np.array_equal(drawn.mask, labels.array == value)
        sure = found.fraction(value) > 0.55  # what is likelier than all else is the label, but for post-processing
        assert (labels.array == value)[sure].mean() > 0.95 if sure.any() else True
    assert pydicom.dcmread(out / "rt.dcm").ApprovalStatus == "UNAPPROVED"
    assert pydicom.dcmread(out / "sr.dcm").VerificationFlag == "UNVERIFIED"
    assert '"preliminary"' in (out / "b.json").read_text()
    assert (out / "p.png").read_bytes().startswith(b"\x89PNG")


def test_either_images_or_a_study(finished: RunOutcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(finished.folder.model), "-o", str(tmp_path / "out")]) == 2
    assert "either -i IMAGES or --dicom STUDY" in capsys.readouterr().err
