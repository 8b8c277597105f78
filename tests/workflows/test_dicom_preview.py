"""Pictures of what objects mark: the contours lie where the voxels lie that they were made of."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pydicom
import pytest
from ct_files import write_series
from PIL import Image as Pillow

from delineate.case import LabelMap, Structure
from delineate.cli.main import main
from delineate.errors import ImageReadError, UsageError
from delineate.formats.images import write_labels
from delineate.workflows.dicom_draft import load_draft
from delineate.workflows.dicom_out import export_drafts
from delineate.workflows.dicom_preview import preview_object

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SHAPE = (5, 40, 60)
BRIGHT, DARK = 400, -300


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A bright block in dark images, with objects that mark it; beside the middle in every direction."""
    block = np.zeros(SHAPE, dtype=np.uint8)
    block[1:4, 8:20, 30:52] = 1
    grid = write_series(tmp_path / "images", np.where(block > 0, BRIGHT, DARK))
    write_labels(tmp_path / "drawn.nii.gz", LabelMap(array=block, grid=grid))
    names = (Structure(name="GTV", values=(1,)),)
    loaded = load_draft(tmp_path / "drawn.nii.gz", tmp_path / "images", structures=names)
    export_drafts(loaded, {"rtstruct": "rt.dcm", "seg": "seg.dcm"}, tmp_path)
    return tmp_path


def colour_of(file: Path) -> tuple[int, ...]:
    return tuple(int(v) for v in pydicom.dcmread(file).ROIContourSequence[0].ROIDisplayColor)


@pytest.mark.parametrize("name", ["rt.dcm", "seg.dcm"])
def test_contours_run_round_what_is_bright(name: str, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = study / "picture.png"
    assert main(["dicom", "preview", str(study / name), "--images", str(study / "images"), "-o", str(out)]) == 0
    assert "1 structures on 3 planes, 3 of them shown" in capsys.readouterr().out
    picture = np.asarray(Pillow.open(out).convert("RGB")).astype(int)
    drawn = np.abs(picture - np.array(colour_of(study / "rt.dcm"))).max(axis=2) < 12
    white = (picture > 250).all(axis=2)
    first_panel = np.zeros(drawn.shape, dtype=bool)
    first_panel[30:510, :480] = True
    for ends in (np.argwhere(drawn & first_panel), np.argwhere(white & first_panel)):
        assert len(ends) > 100
    outline, bright = (np.argwhere(part & first_panel) for part in (drawn, white))
    # half of the line's width on either side of the border
    assert np.abs(outline.min(axis=0) - bright.min(axis=0)).max() <= 3
    assert np.abs(outline.max(axis=0) - bright.max(axis=0)).max() <= 3


def test_planes_are_chosen_evenly(study: Path) -> None:
    told = preview_object(study / "rt.dcm", study / "images", study / "one.png", planes=1)
    assert told == "1 structures on 3 planes, 1 of them shown"
    assert Pillow.open(study / "one.png").width < 500


def test_what_cannot_be_drawn_is_refused(study: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.png"):
        preview_object(study / "rt.dcm", study / "images", study / "picture.jpg")
    with pytest.raises(UsageError, match="1 to 30 planes"):
        preview_object(study / "rt.dcm", study / "images", study / "picture.png", planes=0)
    with pytest.raises(ImageReadError, match="expected a DICOM segmentation; found modality CT"):
        preview_object(study / "images" / "000.dcm", study / "images", study / "picture.png")
    with pytest.raises(ImageReadError, match="expected a DICOM file"):
        preview_object(study / "drawn.nii.gz", study / "images", study / "picture.png")
    assert not list(study.glob("picture.*"))


def test_structures_of_one_colour_are_told_apart(study: Path) -> None:
    file = pydicom.dcmread(study / "rt.dcm")
    for part in ("StructureSetROISequence", "ROIContourSequence", "RTROIObservationsSequence"):
        first = file[part].value[0]
        second = copy.deepcopy(first)
        number = "ROINumber" if part == "StructureSetROISequence" else "ReferencedROINumber"
        setattr(second, number, 2)
        if part == "StructureSetROISequence":
            second.ROIName = "CTV"
        if part == "RTROIObservationsSequence":
            second.ObservationNumber = 2
        file[part].value.append(second)
    file.save_as(study / "two.dcm")
    preview_object(study / "two.dcm", study / "images", study / "two.png")
    picture = np.asarray(Pillow.open(study / "two.png").convert("RGB")).astype(int)
    first = np.array(colour_of(study / "rt.dcm"))
    lines = picture[30:510, :480].reshape(-1, 3)
    lines = lines[lines.max(axis=1) - lines.min(axis=1) > 100]
    assert len(lines) > 100
    assert np.abs(lines - first).max(axis=1).min() > 60  # the second one's, which lies on the first
    assert (np.abs(picture - first).max(axis=2) < 12).any()  # the first one's name
