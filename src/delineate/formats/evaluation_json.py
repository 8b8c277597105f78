"""``results.json``: everything that an evaluation found, each number with its definition; and the tables as CSV.

Strict JSON: a number that does not exist is ``null``, an infinite one the text ``"inf"`` or ``"-inf"``. Knows values
and files; computes nothing.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from delineate.errors import InputError
from delineate.execution.atomic import write_text
from delineate.metrics.evaluation.definitions import WITH_TOLERANCE, define, unit_of
from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.metrics.evaluation.site_shift import SiteShift

FORMAT = "delineate.evaluation"
VERSION = 1

Row = Mapping[str, Any]

_WITH_UNIT = ("value", "low", "high", "gap", "test statistic", "permutation statistic")
"""Keys of numbers in the metric's unit; the statistic of a test has it where it is a difference of means."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFacts:
    """A file that was measured."""

    path: str
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """How the numbers came about, besides what the evaluation itself says."""

    software: Mapping[str, str]
    """Name -> version."""
    command: str
    created: str
    """Date and time in words."""
    policy: str
    tolerance_mm: Mapping[str, float]
    """By structure."""
    predictions: Mapping[str, FileFacts]
    """By case; failed cases may have none."""
    references: Mapping[str, FileFacts]
    recorded: Mapping[str, Mapping[str, str]]
    """Case id -> column -> text of the table of cases."""
    grouping: Mapping[str, str]
    """Column -> how numbers became groups."""


def evaluation_to_json(evaluation: Evaluation, provenance: Provenance) -> dict[str, Any]:
    """Return the content of ``results.json``.

    Values stand in the unit that ``metrics`` names: those of planes are areas, and without a pixel size lengths are
    pixels.
    """
    told = _in_units(evaluation)
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": evaluation.name,
        "created": provenance.created,
        "software": dict(provenance.software),
        "command": provenance.command,
        "seed": evaluation.seed,
        "policy": provenance.policy,
        "tolerance": {"unit": "mm" if evaluation.calibrated else "px", "by_structure": dict(provenance.tolerance_mm)},
        "planar": evaluation.planar,
        "calibrated": evaluation.calibrated,
        "metrics": [_definition(metric, evaluation) for metric in evaluation.metrics],
        "volume_unit": _volume_unit(evaluation)[0],
        "n_cases": len(evaluation.cases),
        "n_patients": len({case.patient_id for case in evaluation.cases}),
        "failed": as_json(evaluation.failed),
        "without_reference": list(evaluation.without_reference),
        "resampled": list(evaluation.resampled),
        "notices": list(evaluation.notices),
        "structures": _structures(evaluation),
        "grouping": dict(provenance.grouping),
        "subgroups": [_in_unit(as_json(s), _factor(s.metric, evaluation)) for s in evaluation.subgroups],
        "comparison": _comparison(evaluation),
        "volumes": as_json(evaluation.volumes),
        "thresholds": as_json(evaluation.thresholds),
        "shifts": [_shift(shift, evaluation) for shift in evaluation.shifts],
        "raters": as_json(evaluation.raters),
        "trust": as_json(evaluation.trust),
        "cases": [
            {
                "case_id": case.case_id,
                "patient_id": case.patient_id,
                "prediction": as_json(provenance.predictions.get(case.case_id)),
                "reference": as_json(provenance.references.get(case.case_id)),
                "recorded": dict(provenance.recorded.get(case.case_id, {})),
                "structures": [as_json(row) for row in rows],
            }
            for case, rows in zip(evaluation.cases, told, strict=True)
        ],
    }


def write_results(folder: Path, evaluation: Evaluation, provenance: Provenance) -> None:
    """Write ``results.json``, ``cases.csv``, ``structures.csv`` and, where they say something, ``subgroups.csv``,
    ``shifts.csv`` and ``comparison.csv``; each atomically.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    content = evaluation_to_json(evaluation, provenance)
    write_text(folder / "cases.csv", csv_text(_case_rows(content, evaluation)))
    write_text(folder / "structures.csv", csv_text(_structure_rows(content)))
    parts = {
        "subgroups.csv": _subgroup_rows(evaluation),
        "shifts.csv": _shift_rows(content),
        "comparison.csv": _comparison_rows(evaluation),
    }
    for name, rows in parts.items():
        if rows:
            write_text(folder / name, csv_text(rows))
        else:
            (folder / name).unlink(missing_ok=True)  # of an earlier evaluation into the same folder
    write_text(folder / "results.json", json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_results(path: Path) -> dict[str, Any]:
    """Read a ``results.json``; ``null`` stays None, ``"inf"`` stays text.

    Raises
    ------
    InputError
        If the file is missing, is not JSON, or is something else.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: expected the results of an evaluation as JSON; it cannot be read ({error})."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
        raise InputError(f"{path}: expected results of `delineate evaluate`, version {VERSION}; found other JSON.")
    return content


def as_json(value: Any) -> Any:
    """Return a value of dataclasses, mappings, sequences, arrays and numbers as strict JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(one) for key, one in value.items()}
    if isinstance(value, np.ndarray):
        return as_json(value.tolist())
    if isinstance(value, str) or value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, set | frozenset):
        return [as_json(one) for one in sorted(value)]
    if isinstance(value, Sequence):
        return [as_json(one) for one in value]
    return number_to_json(float(value))


def number_to_json(value: float) -> float | str | None:
    """Return a number as strict JSON has it: NaN is null, infinity a text."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else "inf" if value > 0 else "-inf"


def number_from_json(value: float | str | None) -> float:
    """Return the number that :func:`number_to_json` wrote."""
    return math.nan if value is None else float(value)


def csv_text(rows: Sequence[Row]) -> str:
    """Return rows as CSV with the columns of all rows in order of appearance; numbers that do not exist are empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return stream.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.10g}"
    return "" if value is None else value


def _definition(metric: str, evaluation: Evaluation) -> dict[str, Any]:
    found = define(metric, planar=evaluation.planar, calibrated=evaluation.calibrated)
    return {
        "name": metric,
        "unit": found.unit,
        "formula": found.formula,
        "depends_on_tolerance": metric in WITH_TOLERANCE,
    }


def _comparison(evaluation: Evaluation) -> dict[str, Any] | None:
    comparison = evaluation.comparison
    if comparison is None:
        return None
    return {
        **as_json(comparison),
        "rows": [
            {
                "against": other,
                "rows": [_in_unit(as_json(row), _factor(row.metric, evaluation)) for row in rows],
            }
            for other, rows in comparison.rows
        ],
        "ranks": [{"metric": metric, **as_json(ranks)} for metric, ranks in comparison.ranks],
    }


def _shift(shift: SiteShift, evaluation: Evaluation) -> dict[str, Any]:
    """Return a shift in the metric's unit; the drop of a fraction is in percentage points."""
    factor = _factor(shift.metric, evaluation)
    sites = [
        {
            "site": site,
            "n_cases": cases,
            "known": number_to_json(known * factor),
            "unseen": number_to_json(mean * factor),
        }
        for site, cases, known, mean in shift.by_site
    ]
    return {**_in_unit(as_json(shift), factor), "by_site": sites}


def _shift_rows(content: Mapping[str, Any]) -> list[Row]:
    """Return one row per structure and metric over all sites, and one per site."""
    rows: list[Row] = []
    for shift in content["shifts"]:
        ends = {
            f"{side}_{end}": shift[key]["interval"][end]
            for side, key in (("known", "known"), ("unseen", "unseen"), ("drop", "drop_points"))
            for end in ("low", "high")
        }
        rows.append(
            {
                "structure": shift["structure"],
                "metric": shift["metric"],
                "site": "all",
                "n_cases": sum(site["n_cases"] for site in shift["by_site"]),
                "known": shift["known"]["value"],
                "unseen": shift["unseen"]["value"],
                "drop": shift["drop_points"]["value"],
                **ends,
                "paired": int(shift["paired"]),
            }
        )
        rows += [{"structure": shift["structure"], "metric": shift["metric"], **site} for site in shift["by_site"]]
    return rows


def _in_unit(node: Any, factor: float, within: str = "") -> Any:
    """Multiply what has the metric's unit below a JSON value: means, gaps, ends of intervals, differences of means."""
    if isinstance(node, dict):
        return {
            key: _in_unit(value, factor, key if key != "statistic" else f"{within} {key}")
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_in_unit(one, factor, within) for one in node]
    return node * factor if within in _WITH_UNIT and isinstance(node, float) else node


def _volume_unit(evaluation: Evaluation) -> tuple[str, float]:
    return unit_of("ml", planar=evaluation.planar, calibrated=evaluation.calibrated)


def _factor(metric: str, evaluation: Evaluation) -> float:
    return define(metric, planar=evaluation.planar, calibrated=evaluation.calibrated).factor


def _in_units(evaluation: Evaluation) -> list[list[dict[str, Any]]]:
    """Return the rows of every case with numbers in the units that are told."""
    failed = {failure.case_id for failure in evaluation.failed}
    return [[_told_row(row, evaluation, case.case_id in failed) for row in case.rows] for case in evaluation.cases]


def _told_row(row: Any, evaluation: Evaluation, failed: bool) -> dict[str, Any]:
    factor = _volume_unit(evaluation)[1]
    return {
        "name": row.name,
        "presence": row.presence,
        "failed": failed,
        "predicted_volume": row.predicted_ml * factor,
        "reference_volume": row.reference_ml * factor,
        "values": {metric: value * _factor(metric, evaluation) for metric, value in row.values.items()},
    }


def _structures(evaluation: Evaluation) -> list[dict[str, Any]]:
    return [
        {
            "name": row.name,
            "presence": as_json(row.presence),
            "metrics": {
                metric: as_json(spread.scaled(_factor(metric, evaluation))) for metric, spread in row.metrics.items()
            },
        }
        for row in evaluation.table
    ]


def _case_rows(content: Mapping[str, Any], evaluation: Evaluation) -> list[Row]:
    unit = content["volume_unit"]
    return [
        {
            "case_id": case["case_id"],
            "patient_id": case["patient_id"],
            "structure": row["name"],
            "presence": row["presence"],
            "failed": int(row["failed"]),
            f"predicted_{unit}": row["predicted_volume"],
            f"reference_{unit}": row["reference_volume"],
            **{metric: row["values"][metric] for metric in evaluation.metrics},
            **{f"recorded_{column}": text for column, text in case["recorded"].items()},
        }
        for case in content["cases"]
        for row in case["structures"]
    ]


def _structure_rows(content: Mapping[str, Any]) -> list[Row]:
    units = {metric["name"]: metric for metric in content["metrics"]}
    return [
        {
            "structure": structure["name"],
            "metric": metric,
            "unit": units[metric]["unit"],
            **{name: value for name, value in spread.items() if name != "interval"},
            "interval_low": spread["interval"]["low"],
            "interval_high": spread["interval"]["high"],
            "interval_level": spread["interval"]["level"],
            "formula": units[metric]["formula"],
            "policy": content["policy"],
        }
        for structure in content["structures"]
        for metric, spread in structure["metrics"].items()
    ]


def _subgroup_rows(evaluation: Evaluation) -> list[Row]:
    return [
        {
            "column": s.column,
            "structure": s.structure,
            "metric": s.metric,
            "group": g.name,
            "n_cases": g.n_cases,
            "n_used": g.mean.n_used,
            "n_patients": g.n_patients,
            "sufficient": int(g.sufficient),
            "mean": g.mean.value * _factor(s.metric, evaluation),
            "mean_low": g.mean.interval.low * _factor(s.metric, evaluation),
            "mean_high": g.mean.interval.high * _factor(s.metric, evaluation),
            "gap": g.gap * _factor(s.metric, evaluation),
            "gap_low": g.gap_interval.low * _factor(s.metric, evaluation),
            "gap_high": g.gap_interval.high * _factor(s.metric, evaluation),
            "p": math.nan if g.test is None else g.test.p_value,
            "p_adjusted": g.p_adjusted,
            "worst": int(g.name == s.worst),
        }
        for s in evaluation.subgroups
        for g in s.groups
    ]


def _comparison_rows(evaluation: Evaluation) -> list[Row]:
    if evaluation.comparison is None:
        return []
    return [
        {
            "first": evaluation.comparison.names[0],
            "second": other,
            "structure": row.structure,
            "metric": row.metric,
            "n_used": row.difference.n_used,
            "n_excluded": row.difference.n_excluded,
            "first_mean": row.first.value * _factor(row.metric, evaluation),
            "second_mean": row.second.value * _factor(row.metric, evaluation),
            "difference": row.difference.value * _factor(row.metric, evaluation),
            "difference_low": row.difference.interval.low * _factor(row.metric, evaluation),
            "difference_high": row.difference.interval.high * _factor(row.metric, evaluation),
            "p_permutation": row.permutation.p_value,
            "p_adjusted": row.p_adjusted,
            "p_wilcoxon": row.wilcoxon.p_value,
        }
        for other, rows in evaluation.comparison.rows
        for row in rows
    ]
