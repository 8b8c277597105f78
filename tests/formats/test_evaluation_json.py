"""Results as strict JSON and CSV: every number that was found, in the unit that is told."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from delineate.errors import InputError
from delineate.formats.evaluation_json import (
    FileFacts,
    Provenance,
    as_json,
    csv_text,
    evaluation_to_json,
    number_from_json,
    number_to_json,
    read_results,
    write_results,
)
from delineate.metrics import METRICS
from delineate.metrics.cohort import CaseRows, summarise_rows
from delineate.metrics.evaluation.definitions import TEXTS, define
from delineate.metrics.evaluation.evaluation import Evaluation, FailedPrediction
from delineate.metrics.evaluation.model_comparison import compare_models
from delineate.metrics.evaluation.subgroups import compare_groups
from delineate.metrics.table import evaluate_structures

NAMES = ("dice", "hd95", "volume_error")


def cases(shift: int = 1) -> tuple[CaseRows, ...]:
    found = []
    for i in range(6):
        truth, guess = np.zeros((8, 9), np.uint8), np.zeros((8, 9), np.uint8)
        truth[2:5, 2:6] = 1
        guess[2:5, 2 + (i % 3) * shift : 7] = 1
        if i == 5:
            truth[:], guess[:] = 0, 0
        rows = evaluate_structures(guess, truth, [("it", (1,))], spacing_mm=(0.5, 2.0), metrics=NAMES)
        found.append(CaseRows(case_id=f"c{i}", patient_id=f"p{i}", rows=rows))
    return tuple(found)


def evaluation(**changes: object) -> Evaluation:
    measured = cases()
    groups = compare_groups(measured, "site", {f"c{i}": "xy"[i % 2] for i in range(6)}, NAMES, least_cases=2)
    made = Evaluation(
        name="set",
        cases=measured,
        table=summarise_rows(measured),
        metrics=NAMES,
        failed=(FailedPrediction(case_id="c4", reason="no file"),),
        subgroups=groups,
        comparison=compare_models({"a": measured, "b": cases(2)}, NAMES),
        planar=True,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


PROVENANCE = Provenance(
    software={"delineate": "0"},
    command="delineate evaluate",
    created="today",
    policy="worst value",
    tolerance_mm={"it": 1.0},
    predictions={"c0": FileFacts(path="p/c0.nii.gz", bytes=12)},
    references={},
    recorded={"c0": {"site": "x"}},
    grouping={},
)


def test_numbers_that_are_none_are_strict_json_and_come_back() -> None:
    for value in (1.5, math.inf, -math.inf):
        assert number_from_json(json.loads(json.dumps(number_to_json(value), allow_nan=False))) == value
    assert number_to_json(math.nan) is None
    assert math.isnan(number_from_json(None))
    assert as_json({"a": np.array([[1.0, np.nan]]), "b": (math.inf,), "c": frozenset({2, 1}), "d": np.float64(2)}) == {
        "a": [[1.0, None]], "b": ["inf"], "c": [1, 2], "d": 2.0,
    }  # fmt: skip


def test_areas_are_told_in_square_millimetres_everywhere() -> None:
    found = evaluation()
    content = json.loads(json.dumps(evaluation_to_json(found, PROVENANCE), allow_nan=False))
    raw = found.table[0].metrics["volume_error"].mean
    assert {m["name"]: m["unit"] for m in content["metrics"]} == {"dice": "1", "hd95": "mm", "volume_error": "mm2"}
    assert content["structures"][0]["metrics"]["volume_error"]["mean"] == pytest.approx(1000 * raw)
    group = next(s for s in content["subgroups"] if s["metric"] == "volume_error")["groups"][0]
    expected = next(s for s in found.subgroups if s.metric == "volume_error").groups[0]
    assert group["mean"]["value"] == pytest.approx(1000 * expected.mean.value)
    assert group["gap"] == pytest.approx(1000 * expected.gap)
    assert group["gap_interval"]["low"] == pytest.approx(1000 * expected.gap_interval.low)
    assert group["gap_interval"]["level"] == 0.95
    assert expected.test is not None
    assert group["test"]["p_value"] == expected.test.p_value
    assert group["test"]["statistic"] == pytest.approx(group["gap"])
    assert found.comparison is not None
    row = next(r for r in content["comparison"]["rows"][0]["rows"] if r["metric"] == "volume_error")
    paired = next(r for r in found.comparison.rows[0][1] if r.metric == "volume_error")
    assert row["difference"]["value"] == pytest.approx(1000 * paired.difference.value)
    assert row["wilcoxon"]["statistic"] == paired.wilcoxon.statistic  # a sum of ranks has no unit
    assert content["cases"][0]["structures"][0]["reference_volume"] == pytest.approx(12.0)  # 3 x 4 pixels of 1 mm2
    assert content["cases"][5]["structures"][0]["values"]["dice"] is None
    assert [c["structures"][0]["failed"] for c in content["cases"]] == [False] * 4 + [True, False]


def test_tables_hold_every_case_and_structure(tmp_path: Path) -> None:
    found = evaluation()
    write_results(tmp_path, found, PROVENANCE)
    with (tmp_path / "cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [r["case_id"] for r in rows] == [f"c{i}" for i in range(6)]
    assert rows[5]["dice"] == ""
    assert (rows[0]["recorded_site"], rows[1]["recorded_site"]) == ("x", "")
    assert float(rows[0]["reference_mm2"]) == pytest.approx(12.0)
    with (tmp_path / "structures.csv").open() as stream:
        table = {r["metric"]: r for r in csv.DictReader(stream)}
    spread = found.table[0].metrics["hd95"]
    assert float(table["hd95"]["mean"]) == pytest.approx(spread.mean)
    assert float(table["hd95"]["interval_low"]) == pytest.approx(spread.interval.low)
    assert (table["hd95"]["unit"], table["hd95"]["n_excluded"]) == ("mm", "1")
    assert "P95" in table["hd95"]["formula"]
    with (tmp_path / "comparison.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 3
    assert read_results(tmp_path / "results.json")["n_cases"] == 6


def test_tables_of_an_earlier_evaluation_do_not_stay(tmp_path: Path) -> None:
    write_results(tmp_path, evaluation(), PROVENANCE)
    assert (tmp_path / "subgroups.csv").is_file()
    write_results(tmp_path, evaluation(subgroups=(), comparison=None), PROVENANCE)
    assert not (tmp_path / "subgroups.csv").exists()
    assert not (tmp_path / "comparison.csv").exists()


def test_words_with_commas_and_lines_stay_one_cell() -> None:
    text = csv_text([{"a": "x, y\nz", "b": math.nan}, {"a": "q", "c": math.inf}])
    assert list(csv.DictReader(io.StringIO(text))) == [
        {"a": "x, y\nz", "b": "", "c": ""}, {"a": "q", "b": "", "c": "inf"},
    ]  # fmt: skip


def test_units_without_a_pixel_size() -> None:
    assert (define("hd95", planar=False, calibrated=False).unit) == "px"
    volume = define("volume_error", planar=False, calibrated=False)
    assert (volume.unit, volume.factor) == ("voxels", 1000.0)
    assert define("volume_error", planar=False, calibrated=True).factor == 1.0
    assert set(TEXTS) == set(METRICS)


def test_other_files_are_not_results(tmp_path: Path) -> None:
    for text in ("{}", "[1]", "no json", '{"format": "delineate.evaluation", "version": 99}'):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(InputError, match="expected"):
            read_results(tmp_path / "x.json")
