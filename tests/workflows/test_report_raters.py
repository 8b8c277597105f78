"""``delineate raters`` from its command line to its files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from delineate.cli.main import main

RATERS = ("ann_1", "ann_2", "bob", "cy")
CASES = ("B01", "B02", "B03")


def disc(case: int, rater: int) -> np.ndarray:
    y, x = np.indices((40, 50))
    return (y - 20 - rater) ** 2 + (x - 25 + case) ** 2 < (9 + 0.5 * rater) ** 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, case in enumerate(CASES):
        for r, rater in enumerate(RATERS):
            path = tmp_path / "people" / rater / f"seg_{case}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(~disc(i, r)).save(path)
        (tmp_path / "net").mkdir(exist_ok=True)
        PIL.Image.fromarray(disc(i, 1).astype(np.uint8)).save(tmp_path / "net" / f"{case}.png")
    return tmp_path


def run(folder: Path, *words: str) -> int:
    return main(["raters", str(folder / "people"), "-o", str(folder / "out"), *words])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_model_among_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--inverted", "--model", str(folder / "net"), "--labels", "cell=1", "--person", "^[a-z]+", "-j", "2")
    assert run(folder, *words, "--margin", "0.05") == 0
    printed = capsys.readouterr().out
    assert "4 raters, 3 cases" in printed
    assert "cell: the mean dice of two people is" in printed
    content = json.loads((folder / "out" / "results.json").read_text(), parse_constant=pytest.fail)
    study = content["raters"]
    assert study["people"] == ["ann", "ann", "bob", "cy"]
    assert study["model_name"] == "net"
    assert study["margin"] == 0.05
    assert study["structures"][0]["verdict"]["margin"] == 0.05
    assert not content["calibrated"]
    masks = rows(folder / "out" / "raters.csv")
    assert [row["rater"] for row in masks if row["case_id"] == "B02"] == [*RATERS, "net"]
    assert float(masks[0]["size_px2"]) == disc(0, 0).sum()
    pairs = rows(folder / "out" / "rater_pairs.csv")
    first = next(row for row in pairs if (row["case_id"], row["rater"], row["reference"]) == ("B03", "ann_1", "cy"))
    a, b = disc(2, 0), disc(2, 3)
    assert float(first["dice"]) == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    page = (folder / "out" / "report.html").read_text("utf-8")
    assert "the model among people" in page
    assert "3 people drew the structures, some of them twice" in page
    assert "ann_2 and net are equal voxel by voxel" in page


def test_people_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--inverted", "--metric", "hd95", "--margin", "2", "--consensus", "staple") == 0
    assert "px." in capsys.readouterr().out
    content = json.loads((folder / "out" / "results.json").read_text())
    assert content["raters"]["structures"][0]["verdict"] is None
    assert content["raters"]["model_name"] is None
    assert all("net" not in row["rater"] for row in rows(folder / "out" / "raters.csv"))
    page = (folder / "out" / "report.html").read_text("utf-8")
    assert "people among themselves" in page
    assert "the model" not in page.lower()


def test_nothing_is_written_where_masks_do_not_fit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    PIL.Image.fromarray(disc(0, 0)[1:]).save(folder / "people" / "bob" / "seg_B02.png")
    assert run(folder) == 3
    assert "bob/seg_B02.png: expected (40, 50) voxels" in capsys.readouterr().err
    assert not list((folder / "out").iterdir())


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--metric", "volume_error"), "has a sign"),
        (("--margin", "0"), "above 0"),
        (("--inverted", "zoe"), "unknown raters cannot be inverted: zoe"),
        (("--person", "("), "cannot be read"),
        (("--spacing", "1", "1", "1"), "spacing_mm"),
    ],
)
def test_wrong_words_are_told(folder: Path, capsys: pytest.CaptureFixture[str], words, text) -> None:
    assert run(folder, *words) in (2, 3)
    assert text in capsys.readouterr().err


def test_evaluate_compares_its_model_with_people_as_well(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    references = folder / "references"
    references.mkdir()
    for i, case in enumerate(CASES):
        PIL.Image.fromarray(disc(i, 0).astype(np.uint8)).save(references / f"{case}.png")
    (folder / "net" / "B03.png").write_bytes(b"no picture")
    words = [
        "evaluate",
        str(folder / "net"),
        str(references),
        "-o",
        str(folder / "out"),
        "--labels",
        "cell=1",
        "-j",
        "1",
    ]
    people = ["--raters", str(folder / "people"), "--inverted", "--person", "^[a-z]+", "--margin", "0.1"]
    assert main([*words, *people]) == 4  # a prediction is broken: everything is written all the same
    assert "cell: the mean dice of two people is" in capsys.readouterr().out
    study = json.loads((folder / "out" / "results.json").read_text())["raters"]
    assert study["margin"] == 0.1
    assert study["model_name"] == "net"
    assert any("B03" in notice and "found nothing" in notice for notice in study["notices"])
    of_model = {row["case_id"]: row for row in rows(folder / "out" / "raters.csv") if row["rater"] == "net"}
    assert float(of_model["B03"]["size_px2"]) == 0
    assert float(of_model["B01"]["size_px2"]) == disc(0, 1).sum()
    assert "the model among people" in (folder / "out" / "report.html").read_text("utf-8")
    assert main([*words, *people, "--map", "2=1"]) == 2
    assert "--map" in capsys.readouterr().err
