"""The small files beside an anatomy segmentation: label table, statistics, findings; as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from delineate.execution.atomic import write_text
from delineate.metrics.plausibility import Implausibility
from delineate.metrics.structure_statistics import StructureStatistics
from delineate.planning.anatomy import Code, facts_of

DIGITS = 3
"""Decimals of volumes, intensities and positions."""


def write_statistics(folder: Path, statistics: Mapping[str, StructureStatistics]) -> None:
    """Write ``statistics.json`` and ``statistics.csv``: one entry or row per structure.

    Raises
    ------
    ResourceError
        If the folder cannot be written.
    """
    rows = {name: _statistics_row(one) for name, one in statistics.items()}
    write_text(folder / "statistics.json", json.dumps(rows, indent=1))
    flat = [{"structure": name, **_spread_out(row, "centroid_mm", "xyz")} for name, row in rows.items()]
    write_text(folder / "statistics.csv", _csv(flat))


def write_label_table(path: Path, names: Mapping[int, str]) -> None:
    """Write what every label value means, with its codes, as CSV.

    Raises
    ------
    ResourceError
        If the folder cannot be written.
    """
    rows = []
    for value, name in names.items():
        facts = facts_of(name)
        red, green, blue = facts.colour
        rows.append(
            {
                "value": value,
                "structure": name,
                "tg263": facts.tg263 or "",
                "side": facts.side,
                **_code("category", facts.category),
                **_code("type", facts.kind),
                **_code("modifier", facts.modifier),
                **_code("region", facts.region),
                **_code("region_modifier", facts.region_modifier),
                "colour": f"#{red:02x}{green:02x}{blue:02x}",
            }
        )
    write_text(path, _csv(rows))


def write_findings(path: Path, findings: Sequence[Implausibility]) -> None:
    """Write what was found implausible as JSON; an empty list if nothing was.

    Raises
    ------
    ResourceError
        If the folder cannot be written.
    """
    write_text(path, json.dumps([asdict(finding) for finding in findings], indent=1))


def _statistics_row(one: StructureStatistics) -> dict[str, Any]:
    return {
        "voxels": one.voxels,
        "volume_mm3": round(one.volume_mm3, DIGITS),
        "volume_ml": round(one.volume_ml, DIGITS),
        "mean_intensity": None if one.mean is None else round(one.mean, DIGITS),
        "median_intensity": None if one.median is None else round(one.median, DIGITS),
        "truncated": one.truncated,
        "centroid_mm": None if one.centroid_mm is None else [round(v, DIGITS) for v in one.centroid_mm],
    }


def _spread_out(row: Mapping[str, Any], key: str, axes: str) -> dict[str, Any]:
    values = row[key] or [None] * len(axes)
    rest = {name: value for name, value in row.items() if name != key}
    return rest | {f"{key}_{axis}": value for axis, value in zip(axes, values, strict=True)}


def _code(prefix: str, code: Code | None) -> dict[str, str]:
    return {
        f"{prefix}_code": f"{code.scheme} {code.value}" if code is not None else "",
        prefix: code.meaning if code is not None else "",
    }


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
