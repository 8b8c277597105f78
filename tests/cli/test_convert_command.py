"""Words of ``convert-bids``."""

import json
from pathlib import Path

import numpy as np
import pytest

from delineate.case import Image
from delineate.cli.convert_command import _sources
from delineate.cli.main import main
from delineate.errors import UsageError
from delineate.formats.images import write_image
from delineate.geometry.grid import Grid


def test_words_for_masks():
    cord, liver = _sources(["cord=seg-manual", "liver=dseg:3"])
    assert (cord.structure, cord.ending, cord.value) == ("cord", "seg-manual", None)
    assert (liver.structure, liver.ending, liver.value) == ("liver", "dseg", 3)


@pytest.mark.parametrize(
    "words", [["cord"], ["=seg"], ["cord="], ["cord=seg:x"], ["cord=seg:"], ["a=s", "a=t"], ["ignore=x"]]
)
def test_words_that_are_no_masks(words):
    with pytest.raises(UsageError):
        _sources(words)


def test_a_folder_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    array = np.zeros((1, 3, 4, 5), np.float32)
    array[0, 1, 1:3, 1:3] = 1
    image = Image(array=array, grid=Grid.regular((3, 4, 5)))
    (tmp_path / "bids").mkdir()
    (tmp_path / "bids" / "dataset_description.json").write_text("{}")
    for place, name in (("sub-1", "sub-1_T1w"), ("derivatives/labels/sub-1", "sub-1_T1w_seg")):
        (tmp_path / "bids" / place / "anat").mkdir(parents=True)
        write_image(tmp_path / "bids" / place / "anat" / f"{name}.nii.gz", image)
    words = ["convert-bids", str(tmp_path / "bids"), "--mask", "lesion=seg", "-o", str(tmp_path / "out")]
    assert main(words) == 0
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["labels"] == {"background": 0, "lesion": 1}
    assert "1 cases of 1 patients" in capsys.readouterr().out
    assert main(words) == 2  # the folder is there now
    assert main([*words[:-1], str(tmp_path / "other"), "--derivative", "manual"]) == 3
    assert "Derivatives that are there: labels" in capsys.readouterr().err
