"""Monitoring in production: cases and edits go into a ledger; the ledger becomes control charts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack

from delineate import __version__
from delineate.clinical.edits import EditRecord, EditThresholds, measure_edit
from delineate.clinical.ledger import Head, Ledger, Verification, verify_ledger
from delineate.clinical.monitoring import FeatureChart, Monitoring, MonitoringPlan, monitor
from delineate.clinical.observations import (
    EDIT_KIND,
    UNKNOWN_SITE,
    Observation,
    observations_of,
    record,
)
from delineate.errors import GeometryError, InputError, LabelError, SomeCasesFailed, UsageError
from delineate.execution import Watched, map_items, write_text
from delineate.formats.datasets import CaseFiles
from delineate.formats.datasets.declaration import declared_scheme, read_declaration
from delineate.formats.images import read_labels
from delineate.formats.monitoring_table import EditRow, read_edits, read_features, write_table
from delineate.reports.control_charts import render_control_charts
from delineate.reports.report_data import Fact

Structures = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EditMeasure:
    """How edits are measured."""

    structures: Structures
    """Empty: every label value is a structure named by its number."""
    tolerance_mm: float = 1.0
    thresholds: EditThresholds = EditThresholds()  # noqa: RUF009 - frozen


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """What a call recorded."""

    recorded: tuple[str, ...]
    """Case ids."""
    left_out: tuple[str, ...]
    """Cases that the ledger had already."""


def named_structures(words: Sequence[str], declaration: Path | None) -> Structures:
    """Return structures of words such as ``Anterior=1``, ``Whole=1,2``, or of a ``dataset.json``.

    Raises
    ------
    UsageError
        If a word is not NAME=VALUE.
    DatasetError
        If the declaration is missing or has faults.
    """
    if not words and declaration is not None:
        found = read_declaration(declaration)
        scheme = declared_scheme(found)
        found.finish()
        return tuple((s.name, s.values) for s in scheme.structures)
    structures = []
    for word in words:
        name, _, values = word.partition("=")
        if not name or not values or not all(v.isdigit() and int(v) > 0 for v in values.split(",")):
            raise UsageError(f"A structure is NAME=VALUE or NAME=VALUE,VALUE with values of 1 or more; got '{word}'.")
        structures.append((name, tuple(int(v) for v in values.split(","))))
    return tuple(structures)


def edit_thresholds(minor_dice: float, minor_path_mm: float | None, rejected_dice: float) -> EditThresholds:
    """Return where outcomes begin and end; None: any added path may be minor.

    Raises
    ------
    InputError
        If they contradict each other.
    """
    path = math.inf if minor_path_mm is None else minor_path_mm
    return EditThresholds(minor_dice=minor_dice, minor_added_path_mm=path, rejected_dice=rejected_dice)


def edit_row(
    draft: Path, approved: Path, *, case_id: str, reader: str, seconds: float | None, site: str, day: str
) -> EditRow:
    """Return one pair of label maps to be recorded."""
    return EditRow(draft=draft, approved=approved, case_id=case_id, reader=reader, seconds=seconds, site=site, day=day)


def monitoring_plan(baseline: int, *, run_length: float, group: int, window: int) -> MonitoringPlan:
    """Return how cases are watched.

    Raises
    ------
    InputError
        If a number is impossible.
    """
    return MonitoringPlan(baseline=baseline, run_length=run_length, group=group, window=window)


def measure_files(draft: Path, approved: Path, measure: EditMeasure, *, seconds: float | None = None) -> EditRecord:
    """Compare a draft label map with the approved one.

    Raises
    ------
    ImageReadError
        If a file cannot be read.
    GeometryError
        If the two do not lie on one grid.
    LabelError
        If neither holds a structure and none is named.
    InputError
        If the seconds are impossible.
    """
    before, after = read_labels(draft), read_labels(approved)
    if differences := before.grid.differences(after.grid):
        raise GeometryError(
            f"{approved}: expected the grid of the draft {draft}; found {'; '.join(differences)}. Save the approved "
            "contours on the grid of the image."
        )
    structures = measure.structures
    if not structures:
        values = sorted({int(v) for labels in (before, after) for v in set(labels.array.ravel().tolist())} - {0})
        structures = tuple((str(value), (value,)) for value in values)
    if not structures:
        raise LabelError(f"{draft} and {approved} hold no structure; name the structures that were looked for.")
    return measure_edit(
        before.array,
        after.array,
        structures,
        spacing_mm=before.grid.spacing_mm,
        tolerance_mm=measure.tolerance_mm,
        thresholds=measure.thresholds,
        seconds=seconds,
    )


def record_edits(
    rows: Sequence[EditRow],
    ledger: Path,
    measure: EditMeasure,
    *,
    correction: str = "",
    workers: int = 1,
    **watched: Unpack[Watched],
) -> Recorded:
    """Measure edits and append one row each; all are measured before the first is written.

    Raises
    ------
    SomeCasesFailed
        If label maps cannot be compared; names all of them, and nothing is recorded.
    LedgerError
        If the ledger was altered.
    """
    outcomes = map_items(
        lambda row: measure_files(row.draft, row.approved, measure, seconds=row.seconds),
        rows,
        what="edits",
        workers=workers,
        backend="threads",
        **watched,
    )
    failures = [f"{o.item.case_id}: {o.error}" for o in outcomes if o.error is not None]
    if failures:
        raise SomeCasesFailed(
            f"{len(failures)} of {len(rows)} edits cannot be measured; nothing was recorded.", failures
        )
    told = [
        (row.reader, {"case": row.case_id, "site": row.site, "day": row.day, **outcome.value.payload()})
        for row, outcome in zip(rows, outcomes, strict=True)
        if outcome.value is not None
    ]
    left_out = record(Ledger(path=ledger), EDIT_KIND, told, correction=correction)
    return Recorded(recorded=without(rows, left_out), left_out=left_out)


def record_edit_table(
    table: Path, ledger: Path, measure: EditMeasure, *, correction: str = "", **watched: Unpack[Watched]
) -> Recorded:
    """Measure and record the edits that a CSV table lists; see :func:`record_edits`.

    Raises
    ------
    DatasetError
        If the table has faults; names all of them.
    SomeCasesFailed
        If label maps cannot be compared.
    LedgerError
        If the ledger was altered.
    """
    return record_edits(read_edits(table), ledger, measure, correction=correction, **watched)


def without(cases: Iterable[CaseFiles] | Iterable[EditRow], left_out: Sequence[str]) -> tuple[str, ...]:
    """Return the ids of the cases that were not left out."""
    return tuple(case.case_id for case in cases if case.case_id not in left_out)


def chart_source(
    source: Path, plan: MonitoringPlan, out: Path, *, title: str = "Monitoring", command: str = "", created: str = ""
) -> Monitoring:
    """Chart a ledger (``.jsonl``) or a table (``.csv``); write ``charts.json``, two CSV tables and ``index.html``.

    Raises
    ------
    LedgerError
        If the ledger was altered.
    DatasetError
        If the table has faults.
    InputError
        If no series is longer than the baseline.
    """
    observations, facts = _read_source(source)
    monitoring = monitor(observations, plan)
    _write_json(monitoring, out / "charts.json")
    _write_alarms(monitoring, out / "alarms.csv")
    _write_series(monitoring, out / "series.csv")
    facts = (
        *facts,
        Fact(label="Software", value=f"Delineate {__version__}"),
        *([Fact(label="Command", value=command)] if command else []),
    )
    render_control_charts(monitoring, out / "index.html", title=title, facts=facts, created=created)
    return monitoring


def check_ledger(path: Path, checkpoint: str | None) -> Verification:
    """Look at every row of a ledger; ``checkpoint`` is a head that was noted elsewhere.

    Raises
    ------
    LedgerError
        If there is no ledger, or the checkpoint's text is none.
    """
    if not path.exists():
        raise InputError(f"{path}: expected a ledger; there is no file of that name.")
    return verify_ledger(Ledger(path=path), None if checkpoint is None else Head.read(checkpoint))


def _read_source(source: Path) -> tuple[tuple[Observation, ...], tuple[Fact, ...]]:
    if source.suffix == ".csv":
        rows = read_features(source)
        found = tuple(
            Observation(case_id=r.case_id, site=r.site or UNKNOWN_SITE, day=r.day, values=r.values) for r in rows
        )
        return found, (Fact(label="Table", value=source.name), Fact(label="Rows", value=str(len(rows))))
    if not source.exists():
        raise InputError(f"{source}: expected a ledger (.jsonl) or a table (.csv); there is no file of that name.")
    ledger = Ledger(path=source)
    entries = ledger.entries()
    facts = (
        Fact(label="Ledger", value=f"{source.name}, {len(entries)} rows, chain whole"),
        Fact(label="Checkpoint to keep elsewhere", value=ledger.head().words),
    )
    return observations_of(entries), facts


def _write_json(monitoring: Monitoring, path: Path) -> None:
    content = {
        "plan": asdict(monitoring.plan),
        "run_length_per_chart": dict(monitoring.run_length_per_chart),
        "alarms": [asdict(alarm) for alarm in monitoring.alarms],
        "charts": [_chart_json(chart) for chart in monitoring.charts],
        "too_short": [{"site": s, "feature": f, "cases": n} for s, f, n in monitoring.too_short],
    }
    write_text(path, json.dumps(content, indent=1, allow_nan=False))


def _chart_json(chart: FeatureChart) -> dict[str, Any]:
    found: dict[str, Any] = {
        "site": chart.series.site,
        "feature": chart.series.feature,
        "kind": chart.series.kind,
        "cases": chart.series.case_ids,
        "days": chart.series.days,
        "values": chart.series.values,
        "unseen": list(chart.unseen),
        "windows": [asdict(window) for window in chart.windows],
    }
    if chart.numbers is not None:
        found |= {
            "baseline": {**asdict(chart.numbers.baseline), "values": _plain(chart.numbers.baseline.values)},
            "single_case_limits": [chart.numbers.low, chart.numbers.high],
            "limits": asdict(chart.numbers.limits),
            "ewma": _plain(chart.numbers.ewma),
            "ewma_limits": _plain(chart.numbers.ewma_limits),
            "cusum_high": _plain(chart.numbers.cusum_high),
            "cusum_low": _plain(chart.numbers.cusum_low),
        }
    if chart.proportion is not None:
        found |= {"proportion": {k: v for k, v in asdict(chart.proportion).items() if k != "alarms"}}
    return found


def _plain(track: Iterable[float]) -> list[float | None]:
    return [None if math.isnan(v) else float(v) for v in track]


_ALARM_COLUMNS = ("site", "feature", "chart", "case_id", "day", "index", "onset_case_id", "onset_day", "size", "words")


def _write_alarms(monitoring: Monitoring, path: Path) -> None:
    rows: list[Mapping[str, object]] = [asdict(alarm) for alarm in monitoring.alarms]
    write_table(_ALARM_COLUMNS, ([row[name] for name in _ALARM_COLUMNS] for row in rows), path)


def _write_series(monitoring: Monitoring, path: Path) -> None:
    write_table(
        ("site", "feature", "case", "day", "value"),
        (
            (c.series.site, c.series.feature, case_id, day, value)
            for c in monitoring.charts
            for case_id, day, value in zip(c.series.case_ids, c.series.days, c.series.values, strict=True)
        ),
        path,
    )
