from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from clinical.label_files import write_case
from clinical.study_examples import protocol_content
from delineate.cli.main import main

SMALL = {"primary__difference": 300, "primary__sd": 200, "primary__power": 0.8, "dropout": 0.0}


def run(*words: object) -> int:
    return main(["study", *(str(w) for w in words)])


def do_case(study: Path, files: Path, number: int, generator: np.random.Generator, capsys) -> str:
    """Enrol a case, do it in both arms, and return what enrolment told."""
    case_id = f"c{number}"
    write_case(files, case_id, generator, rows=number % 2 * 4)
    capsys.readouterr()
    assert run("enrol", study, "--case", case_id, "--site", "main", "--actor", "nurse") == 0
    told = capsys.readouterr().out.strip()
    approved, draft = (files / name / f"{case_id}.nii.gz" for name in ("approved", "drafts"))
    shared = ("record", study, "outcome", "--case", case_id, "--reader", "reader 1", "--approved", approved)
    shared += ("--reference", approved)
    assert run(*shared, "--arm", "manual", "--seconds", 900 + number) == 0
    assert run(*shared, "--arm", "assisted", "--draft", draft, "--seconds", 500 + 20 * number) == 0
    return told


def test_a_whole_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the template to the final analysis, on label maps in files."""
    study, files = tmp_path / "study", tmp_path / "files"
    generator = np.random.default_rng(0)
    assert run("init", study) == 0
    content = protocol_content(
        endpoints=["acceptance", "edit_dice", "seconds", "seconds_saved", "accuracy_dice"], **SMALL
    )
    content["sentinels"] = {"trap": "first structure missing"}
    (study / "protocol.json").write_text(json.dumps(content))
    assert run("check", study) == 0
    needed = int(re.search(r"cases +(\d+) evaluable", capsys.readouterr().out)[1])
    assert run("lock", study, "--actor", "lead") == 0
    assert run("enrol", study, "--case", "metal", "--site", "main", "--ineligible", "metal", "--actor", "nurse") == 0
    orders = []
    for number in range(needed):
        orders.append(do_case(study, files, number, generator, capsys))
        if number + 1 == -(-needed // 2):
            assert run("analyse", study, "-o", tmp_path / "interim", "--actor", "lead") == 0
            assert "look 1 of 2" in capsys.readouterr().out
            if json.loads((tmp_path / "interim" / "analysis.json").read_text())["primary"]["stop"]:
                break
    assert any("manual, then assisted" in o for o in orders) or any("assisted, then manual" in o for o in orders)
    assert run("record", study, "answer", "--reader", "reader 1", "--question", 1, "--score", 5) == 0
    assert run("status", study) == 0
    assert run("analyse", study, "-o", tmp_path / "out", "--actor", "lead") == 0
    told = capsys.readouterr().out
    assert "assessed for eligibility" in told
    found = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert found["flow"]["ineligible"] == {"metal": 1}
    assert found["primary"]["value"] > 300
    rows = list(csv.DictReader((tmp_path / "out" / "endpoints.csv").read_text().splitlines()))
    row = {(r["arm"], r["endpoint"], r["structure"], r["reader"]): r for r in rows}
    n = int(row["assisted", "acceptance", "all", "all"]["n"])
    assert float(row["assisted", "unchanged", "all", "all"]["value"]) == pytest.approx(-(-n // 2) / n)
    assert float(row["assisted", "acceptance", "Posterior", "all"]["value"]) == 1.0
    assert float(row["manual", "accuracy_dice", "all", "all"]["value"]) == 1.0
    assert run("export", study, "-o", tmp_path / "export", "--actor", "lead") == 0
    outcomes = list(csv.DictReader((tmp_path / "export" / "outcomes.csv").read_text().splitlines()))
    assert len(outcomes) == n * 4
    last = json.loads((study / "ledger.jsonl").read_text().splitlines()[-1])
    assert (last["kind"], last["payload"]["evaluable"]) == ("exported", n)
    assert main(["monitor", "verify", str(study / "ledger.jsonl")]) == 0


def test_faults_of_a_protocol_are_all_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "protocol.json").write_text(json.dumps(protocol_content(title="", readers=[], tolerance_mm=-1)))
    assert run("check", tmp_path) == 3
    told = capsys.readouterr().err
    assert all(field in told for field in ("title:", "readers:", "tolerance_mm:"))
    assert run("lock", tmp_path, "--actor", "x") == 3
    assert not (tmp_path / "ledger.jsonl").exists()


def test_harm_stops_the_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "protocol.json").write_text(json.dumps(protocol_content()))
    run("lock", tmp_path, "--actor", "x")
    run("enrol", tmp_path, "--case", "c", "--site", "main", "--actor", "x")
    words = (
        "record",
        tmp_path,
        "--actor",
        "x",
        "adverse",
        "--case",
        "c",
        "--severity",
        "serious",
        "--text",
        "wrong side",
    )
    assert run(*words) == 0
    assert "STOP" in capsys.readouterr().out
    assert run("enrol", tmp_path, "--case", "d", "--site", "main", "--actor", "x") == 3
    assert run("close", tmp_path, "--reason", "harm", "--actor", "x") == 0
    run("status", tmp_path)
    assert "closed: harm" in capsys.readouterr().out
