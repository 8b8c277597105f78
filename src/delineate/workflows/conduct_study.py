"""A prospective study from the command line: files are measured here, the rules are in ``clinical.study``."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delineate.clinical.protocol import Arm, Protocol, cases_needed, cases_to_enrol
from delineate.clinical.study import HIDDEN_FOLDER, Study
from delineate.clinical.study_analysis import Analysis, EndpointRow, analyse
from delineate.clinical.study_events import StudyState
from delineate.errors import GeometryError, ProtocolError, UsageError
from delineate.execution import write_text
from delineate.formats.images import read_labels
from delineate.formats.monitoring_table import write_table
from delineate.metrics.table import evaluate_structures
from delineate.workflows.monitor_cases import EditMeasure, measure_files


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomeFiles:
    """What an arm of a case left behind."""

    case_id: str
    arm: Arm
    reader: str
    approved: Path | None = None
    draft: Path | None = None
    """Not for the silent arm, whose draft is the study's own hidden one."""
    reference: Path | None = None
    """Truth of a better kind, for accuracy."""
    seconds: float | None = None


def open_study(folder: Path) -> Study:
    """Return the study of a folder, which may still be empty."""
    return Study(root=folder)


def describe_protocol(study: Study) -> tuple[str, ...]:
    """Return what the protocol as it stands means, in lines.

    Raises
    ------
    ProtocolError
        With all faults at once.
    """
    protocol = study.draft()
    primary = protocol.primary
    looks = ", ".join(f"{c:.3f}" for c in protocol.boundary.critical)
    lines = [
        f"{protocol.title}: {', '.join(protocol.arms)}, {protocol.allocation.method}",
        f"primary   {primary.aim} of {primary.endpoint} ({', '.join(primary.arms)}), level {primary.level:g}",
        f"cases     {cases_needed(protocol)} evaluable, {cases_to_enrol(protocol)} to enrol "
        f"with {100 * protocol.dropout:g} % dropout",
    ]
    if primary.aim == "difference":
        lines.append(f"looks     {protocol.stopping.looks}; |Z| must reach {looks} (O'Brien and Fleming)")
    return tuple(lines)


def record_outcome_files(study: Study, files: OutcomeFiles, *, correction: str = "") -> None:
    """Measure what a person approved and record it; the draft of the silent arm is the hidden one.

    Raises
    ------
    ProtocolError
        If the protocol does not allow it.
    UsageError
        If a file is missing or given in vain.
    GeometryError
        If label maps do not lie on one grid.
    """
    protocol = study.protocol()
    draft = _draft_of(study, files)
    if draft is not None and files.approved is None:
        raise UsageError("Name the label map that was approved: --approved FILE.")
    edit = None
    if draft is not None and files.approved is not None:
        measure = EditMeasure(
            structures=_structures(protocol), tolerance_mm=protocol.tolerance_mm, thresholds=protocol.thresholds
        )
        edit = measure_files(draft, files.approved, measure, seconds=files.seconds).payload()
    study.record_outcome(
        files.case_id,
        files.arm,
        reader=files.reader,
        seconds=files.seconds,
        edit=edit,
        accuracy_dice=_accuracy(protocol, files),
        correction=correction,
    )


def analyse_study(study: Study, out: Path, *, actor: str) -> Analysis:
    """Look at the results by the locked plan, count the look, and write them; the stopping rule may close the study.

    Writes ``analysis.json``, ``endpoints.csv``, ``differences.csv`` and ``flow.csv``.

    Raises
    ------
    ProtocolError
        If the protocol is not locked, or a look is not due.
    """
    look, state = study.begin_look(actor=actor)
    found = analyse(study.protocol(), state, look)
    if found.primary.stop:
        study.note_stop(f"look {look}: {found.primary.stop}", actor="delineate")
    write_text(out / "analysis.json", json.dumps(_plain(dataclasses.asdict(found)), indent=1, allow_nan=False))
    _write_rows(found.rows, out / "endpoints.csv")
    write_table(
        ("endpoint", "first", "second", "n", "difference", "low", "high", "p", "method"),
        (
            (d.endpoint, d.first, d.second, d.n, d.value, d.interval.low, d.interval.high, d.p_value, d.method)
            for d in found.differences
        ),
        out / "differences.csv",
    )
    write_table(("step", "detail", "cases"), flow_lines(found), out / "flow.csv")
    return found


def export_study(study: Study, out: Path, *, actor: str) -> tuple[Path, ...]:
    """Write what is recorded as tables; no endpoint is summarised, and the ledger says that outcomes were handed out.

    Writes ``outcomes.csv`` (one row per case, arm and structure), ``cases.csv``, ``events.csv``, ``study.json``.

    Raises
    ------
    ProtocolError
        If the protocol is not locked.
    """
    study.note_exported(actor=actor)
    protocol, state = study.protocol(), study.state()
    _write_outcomes(state, out / "outcomes.csv")
    write_table(
        ("case", "patient", "site", "arms", "sentinel", "excluded"),
        (
            (e.case_id, e.patient_id, e.site, " ".join(e.arms), e.sentinel, state.excluded.get(e.case_id, ""))
            for e in state.enrolled.values()
        ),
        out / "cases.csv",
    )
    write_table(
        ("sequence", "time", "actor", "kind", "payload"),
        ((e.sequence, e.time, e.actor, e.kind, json.dumps(e.payload, sort_keys=True)) for e in study.ledger.entries()),
        out / "events.csv",
    )
    content = {"protocol": _plain(dataclasses.asdict(protocol)), "status": dataclasses.asdict(study.status())}
    write_text(out / "study.json", json.dumps(content, indent=1, allow_nan=False))
    return tuple(out / name for name in ("outcomes.csv", "cases.csv", "events.csv", "study.json"))


def hidden_file(study: Study, row: Mapping[str, Any]) -> Path:
    """Return the file of a hidden prediction.

    Raises
    ------
    ProtocolError
        If it is missing or was altered.
    """
    path = study.hidden / str(row["file"])
    if not path.is_file() or sha256_of(path) != row["sha256"]:
        raise ProtocolError(f"{HIDDEN_FOLDER}/{path.name} is missing or is not the prediction that was stored.")
    return path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def flow_lines(found: Analysis) -> list[tuple[str, str, int]]:
    """Return the flow of cases in the order of CONSORT's diagram: step, detail, cases."""
    flow = found.flow
    return [
        ("assessed for eligibility", "", flow.assessed),
        *(("not eligible", reason, count) for reason, count in flow.ineligible.items()),
        ("enrolled", "", flow.enrolled),
        *(("allocated", arm, count) for arm, count in flow.allocated.items()),
        *(("excluded after enrolment", reason, count) for reason, count in flow.excluded.items()),
        *(("outcome recorded", arm, count) for arm, count in flow.completed.items()),
        ("incomplete", "", flow.incomplete),
        ("analysed", "", flow.analysed),
        ("sentinels (not analysed)", "", flow.sentinels),
    ]


def _structures(protocol: Protocol) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((name, (value,)) for name, value in protocol.structures.items())


def _draft_of(study: Study, files: OutcomeFiles) -> Path | None:
    if files.arm != "silent":
        if files.arm == "manual" and files.draft is not None:
            raise UsageError("The manual arm has no draft; leave --draft out.")
        return files.draft
    if files.draft is not None:
        raise UsageError("The draft of the silent arm is the study's hidden prediction; leave --draft out.")
    row = study.state().predicted.get(files.case_id)
    if row is None:
        raise UsageError(f"Case {files.case_id} has no hidden prediction yet: `delineate study predict`.")
    return hidden_file(study, row)


def _accuracy(protocol: Protocol, files: OutcomeFiles) -> dict[str, float | None]:
    if files.reference is None or files.approved is None:
        return {}
    approved, reference = read_labels(files.approved), read_labels(files.reference)
    if differences := reference.grid.differences(approved.grid):
        raise GeometryError(
            f"{files.approved}: expected the grid of {files.reference}; found {'; '.join(differences)}."
        )
    rows = evaluate_structures(
        approved.array,
        reference.array,
        _structures(protocol),
        spacing_mm=reference.grid.spacing_mm,
        metrics=("dice",),
    )
    return {row.name: None if math.isnan(row.values["dice"]) else row.values["dice"] for row in rows}


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: no NaN, no infinity, no tuples."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _write_rows(rows: Sequence[EndpointRow], path: Path) -> None:
    write_table(
        ("arm", "endpoint", "structure", "reader", "n", "value", "low", "high", "method"),
        (
            (r.arm, r.endpoint, r.structure, r.reader, r.n, r.value, r.interval.low, r.interval.high, r.method)
            for r in rows
        ),
        path,
    )


_MEASURES = ("outcome", "changed_voxels", "edit_dice", "surface_dice", "added_path_length_mm", "volume_change_ml")


def _write_outcomes(state: StudyState, path: Path) -> None:
    rows = []
    for one in state.outcomes.values():
        edits = {} if one.edit is None else {s["structure"]: s for s in one.edit["structures"]}
        for name in dict.fromkeys([*edits, *one.accuracy_dice]) or ("",):
            measured = [edits.get(name, {}).get(measure) for measure in _MEASURES]
            rows.append((one.case_id, one.arm, one.reader, one.seconds, name, *measured, one.accuracy_dice.get(name)))
    columns = ("case", "arm", "reader", "seconds", "structure", *_MEASURES, "accuracy_dice")
    write_table(columns, rows, path)
