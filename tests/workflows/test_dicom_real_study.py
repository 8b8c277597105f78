"""A real study: its structures to masks, out again as new objects, validated, and back; nothing changes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from delineate.cli.main import main
from delineate.formats.images import read_labels

DATA = os.environ.get("DELINEATE_DATA")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.data,
    pytest.mark.skipif(not DATA, reason="DELINEATE_DATA is not set"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
STUDY = Path(DATA or ".") / "dicom" / "sts_raw_001"


def dicom(*words: object) -> None:
    assert main(["dicom", *(str(word) for word in words)]) == 0


def validated(path: Path) -> list[str]:
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("needs dciodvfy (Debian package dicom3tools)")
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("Error", "Abort"))]


@pytest.mark.parametrize("kind", ["FDG_PET", "MR_T2"])
def test_structures_go_out_and_come_back(kind: str, tmp_path: Path) -> None:
    """The images are found among both series of the study; edema and mass overlap."""
    dicom("from-rtstruct", next((STUDY / kind / "mask").iterdir()), "--images", STUDY, "-o", tmp_path / "drawn")
    masks = {path.name: read_labels(path) for path in (tmp_path / "drawn" / "masks").iterdir()}
    assert set(masks) == {"GTV_Mass.nii.gz", "GTV_Edema.nii.gz"}
    for door, file in (("to-rtstruct", "rt.dcm"), ("to-seg", "seg.dcm")):
        dicom(door, tmp_path / "drawn" / "masks", "--images", STUDY / kind / "image", "-o", tmp_path / file)
        assert validated(tmp_path / file) == []
    for door, file in (("from-rtstruct", "rt.dcm"), ("from-seg", "seg.dcm")):
        dicom(door, tmp_path / file, "--images", STUDY, "-o", tmp_path / door)
        for name, mask in masks.items():
            back = read_labels(tmp_path / door / "masks" / name)
            assert np.array_equal(back.array, mask.array), (door, name)
            assert back.grid.matches(mask.grid)
        dicom("preview", tmp_path / file, "--images", STUDY, "-o", tmp_path / f"{door}.png")
