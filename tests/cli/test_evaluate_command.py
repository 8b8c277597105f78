"""``delineate evaluate`` in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from delineate.cli.main import main
from evaluation_folders import plain_pair, two_organs, write_map


def run(*words: str | Path) -> int:
    return main(["evaluate", *map(str, words), "-j", "1"])


def test_means_thresholds_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictions, references = plain_pair(tmp_path)
    wishes = ["--threshold", "liver:dice=0.5", "tumour:dice=0.99", "--tolerance", "3", "tumour=1"]
    assert run(predictions, references, "-o", tmp_path / "out", *wishes) == 0
    told = capsys.readouterr().out
    assert "3 cases of 3 patients" in told
    assert "liver   dice 0." in told
    assert "tumour dice 0.99 (declared by the user): pass, 1.000" in told
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert content["tolerance"]["by_structure"] == {"liver": 3.0, "tumour": 1.0}
    assert content["command"].startswith("delineate evaluate ")
    assert len(content["thresholds"]) == 2


def test_failed_cases_give_exit_code_4_and_the_results_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, references = plain_pair(tmp_path)
    (predictions / "b.nii.gz").unlink()
    assert run(predictions, references, "-o", tmp_path / "out") == 4
    told = capsys.readouterr()
    assert "1 of 3 cases have no usable prediction; they count with the worst values" in told.err
    assert "b: " in told.err
    assert (tmp_path / "out" / "results.json").is_file()


def test_comparison_groups_and_values_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictions, references = plain_pair(tmp_path)
    for case in "abc":
        write_map(tmp_path / "other", case, two_organs(4))
    (tmp_path / "cases.csv").write_text("case;site\na;x\nb;y\nc;y\n")
    wishes = ["--compare", f"other={tmp_path / 'other'}", "--table", tmp_path / "cases.csv", "--by", "site", "size"]
    labels = ["--labels", "organ=1,2", "tumour=2", "--map", "5=1", "--metrics", "dice", "hd95", "--policy", "nnunet"]
    assert run(predictions, references, "-o", tmp_path / "out", *wishes, *labels, "--least-cases", "1") == 0
    assert "predictions against other on 3 cases" in capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert content["policy"] == "nnU-Net"
    assert [s["name"] for s in content["structures"]] == ["organ", "tumour"]
    assert {s["column"] for s in content["subgroups"]} == {"site", "size"}


@pytest.mark.parametrize(
    ("wishes", "told"),
    [
        (["--compare", "other"], "NAME=FOLDER"),
        (["--compare", "a=x", "a=y"], "each name once"),
        (["--tolerance", "2", "3"], "one number for all"),
        (["--tolerance", "liver=thick"], "numbers in mm"),
        (["--map", "1=one"], "whole numbers"),
        (["--labels", "liver"], "NAME=VALUE"),
        (["--labels", "liver=1", "liver=2"], "liver"),
        (["--threshold", "liver=0.9"], "structure:metric=value"),
        (["--metrics", "beauty"], "beauty"),
    ],
)
def test_wrong_words_are_told(wishes: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictions, references = plain_pair(tmp_path)
    assert run(predictions, references, "-o", tmp_path / "out", *wishes) == 2
    assert told in capsys.readouterr().err
