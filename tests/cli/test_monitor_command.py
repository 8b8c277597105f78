from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from clinical.label_files import DECLARATION, write_case
from delineate.cli.main import main

STRUCTURES = ["--structure", "Anterior=1", "Posterior=2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty cases, of which the last twelve come from a changed scanner and need more correction."""
    root = tmp_path_factory.mktemp("production")
    generator = np.random.default_rng(0)
    for i in range(40):
        late = i >= 28
        write_case(
            root, f"c{i:02d}", generator, rows=5 if late else int(generator.integers(0, 2)), scale=40 if late else 1
        )
    (root / "dataset.json").write_text(DECLARATION)
    lines = [f"drafts/c{i:02d}.nii.gz,approved/c{i:02d}.nii.gz,c{i:02d},R{i % 2},{60 + i % 7}" for i in range(40)]
    (root / "edits.csv").write_text("draft,approved,case,reader,seconds\n" + "\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def ledger(folder: Path) -> Path:
    log = folder / "ledger.jsonl"
    words = [
        "monitor",
        "log-inputs",
        str(folder / "images"),
        "--predictions",
        str(folder / "drafts"),
        "--log",
        str(log),
    ]
    assert main([*words, "--dataset-json", str(folder / "dataset.json")]) == 0
    assert main(["monitor", "record", "--batch", str(folder / "edits.csv"), "--log", str(log), *STRUCTURES]) == 0
    return log


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.seen.append(tag)
        assert not any(value and value.startswith("http") and name != "xmlns" for name, value in attrs)


def test_charts_of_a_ledger(ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", "chart", str(ledger), "--baseline", "20", "-o", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "input.p50" in told
    found = json.loads((tmp_path / "charts.json").read_text())
    first = {a["feature"]: a for a in reversed(found["alarms"])}
    assert first["input.p50"]["case_id"] == "c28"
    assert first["edit.Anterior.edit_dice"]["case_id"] >= "c28"
    charts = {c["feature"]: c for c in found["charts"]}
    assert charts["edit.accepted"]["kind"] == "flag"
    assert charts["input.orientation"]["values"] == ["LPS"] * 40
    page = (tmp_path / "index.html").read_text()
    tags = _Tags()
    tags.feed(page)
    assert "script" not in tags.seen
    assert tags.seen.count("svg") >= 2
    assert "input.p50" in page
    assert (tmp_path / "alarms.csv").read_text().count("\n") == len(found["alarms"]) + 1
    again = tmp_path / "again"
    assert main(["monitor", "chart", str(ledger), "--baseline", "20", "-o", str(again)]) == 0
    same = page.replace(str(tmp_path), "X")
    assert (again / "index.html").read_text().replace(str(again), "X") == same


def test_charts_of_a_table(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    rows = [f"c{i},{generator.normal(5 + 4 * (i >= 30)):.3f},{'new' if i >= 30 else 'old'},true" for i in range(50)]
    (tmp_path / "t.csv").write_text("case,dose,<scanner>,ok\n" + "\n".join(rows))
    assert main(["monitor", "chart", str(tmp_path / "t.csv"), "--baseline", "25", "-o", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "charts.json").read_text())
    assert {a["feature"] for a in found["alarms"]} == {"dose", "<scanner>"}
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<scanner>" not in page
    assert "&lt;scanner&gt;" in page


def test_recording_twice_is_told_and_corrections_are_kept(folder: Path, tmp_path: Path, capsys) -> None:
    log = tmp_path / "l.jsonl"
    pair = [str(folder / name / "c30.nii.gz") for name in ("drafts", "approved")]
    words = ["monitor", "record", *pair, "--case", "c30", "--reader", "R", "--log", str(log), *STRUCTURES]
    assert main([*words, "--seconds", "40"]) == 0
    row = json.loads(log.read_text())
    assert (row["actor"], row["payload"]["seconds"], row["payload"]["outcome"]) == ("R", 40.0, "major")
    assert main(words) == 0
    assert "--correct" in capsys.readouterr().out
    assert main([*words, "--correct", "wrong time"]) == 0
    assert len(log.read_text().splitlines()) == 2


def test_a_pair_that_cannot_be_compared_leaves_no_row(folder: Path, tmp_path: Path, capsys) -> None:
    table = folder / "bad.csv"
    table.write_text(
        "draft,approved,case,reader\ndrafts/c01.nii.gz,approved/c01.nii.gz,1,R\ndrafts/c02.nii.gz,missing.nii.gz,2,R\n"
    )
    assert main(["monitor", "record", "--batch", str(table), "--log", str(tmp_path / "l.jsonl"), *STRUCTURES]) == 4
    assert "missing.nii.gz" in capsys.readouterr().err
    assert not (tmp_path / "l.jsonl").exists()


def test_an_altered_ledger_is_refused_and_the_row_is_named(ledger: Path, tmp_path: Path, capsys) -> None:
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(ledger.read_bytes().replace(b'"case":"c03"', b'"case":"c99"', 1))
    assert main(["monitor", "verify", str(ledger)]) == 0
    checkpoint = capsys.readouterr().out.split()[-1]
    assert main(["monitor", "verify", str(ledger), "--checkpoint", checkpoint]) == 0
    assert main(["monitor", "verify", str(copy)]) == 3
    assert "row 4 was altered" in capsys.readouterr().err
    assert main(["monitor", "chart", str(copy), "--baseline", "20", "-o", str(tmp_path / "out")]) == 3
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["record", "--log", "l"], 2, "--case"),
        (["record", "a", "b", "--case", "1", "--reader", "R", "--log", "l", "--structure", "x"], 2, "NAME=VALUE"),
        (["chart", "nothing.jsonl", "--baseline", "20", "-o", "out"], 3, "no file of that name"),
        (["verify", "nothing.jsonl"], 3, "no file of that name"),
        (["log-inputs", "nowhere", "--log", "l"], 3, "nowhere"),
    ],
)
def test_errors_are_one_readable_sentence(words, code, told, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["monitor", *words]) == code
    message = capsys.readouterr().err
    assert told in message
    assert "Traceback" not in message


def test_charts_need_no_torch(ledger: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom delineate.cli.main import main\n"
        f"main(['monitor', 'chart', {str(ledger)!r}, '--baseline', '20', '-o', {str(tmp_path)!r}])\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.returncode == 0, done.stderr
