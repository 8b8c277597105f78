"""Measured cases on the disk, so that an interrupted or repeated evaluation measures only what is new.

One small file per case, named by everything that its numbers depend on: the files with their sizes and times, and the
rules. A changed mask, tolerance or metric is another name.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from delineate import __version__
from delineate.execution import Watched, map_items, write_text
from delineate.formats.evaluation_json import as_json, number_from_json
from delineate.formats.raster import spacing_file
from delineate.metrics.overlap import Overlap
from delineate.metrics.scores import CaseScores, StructureScores
from delineate.metrics.table import StructureRow
from delineate.workflows.measure_case import CaseToMeasure, MeasuredCase, MeasuringRules, measure_case

_log = logging.getLogger(__name__)

MEASURED = "measured"
"""Folder of measured cases in the folder of an evaluation."""


def measure_cases(
    cases: tuple[CaseToMeasure, ...],
    rules: MeasuringRules,
    store: Path,
    *,
    what: str = "measure",
    workers: int = 1,
    watched: Watched,
) -> tuple[MeasuredCase, ...]:
    """Measure all cases, those that are stored already excepted; in the order of ``cases``.

    Raises
    ------
    Interrupted
        If a stop was requested; what is measured stays.
    """
    paths = [store / f"{_key(rules, case)}.json" for case in cases]
    known = {path: found for path in paths if (found := _stored(path)) is not None}
    new = [(path, case) for path, case in zip(paths, cases, strict=True) if path not in known]
    outcomes = map_items(partial(_measured, rules), new, what=what, workers=workers, backend="processes", **watched)
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
        if outcome.value is not None:
            known[outcome.item[0]] = outcome.value
    return tuple(_of_patient(known[path], case) for path, case in zip(paths, cases, strict=True))


def _measured(rules: MeasuringRules, item: tuple[Path, CaseToMeasure]) -> MeasuredCase:
    path, case = item
    found = measure_case(rules, case)
    write_text(path, json.dumps(as_json(found), allow_nan=False))
    return found


def _of_patient(found: MeasuredCase, case: CaseToMeasure) -> MeasuredCase:
    """Return the case under the patient that is known now; it changes no number of the case."""
    if found.scores is None:
        return found
    return replace(found, scores=replace(found.scores, patient_id=case.reference.patient_id))


def _stored(path: Path) -> MeasuredCase | None:
    try:
        return measured_from_json(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s cannot be read (%s); the case is measured again", path, error)
        return None


def _key(rules: MeasuringRules, case: CaseToMeasure) -> str:
    prediction = [] if case.prediction is None else [case.prediction]
    files = [case.reference.labels, *case.reference.images, *prediction]
    facts = [(str(path), _facts(path), _facts(spacing_file(path))) for path in files]
    text = json.dumps(as_json([__version__, rules, case.reference.case_id, case.missing, facts]))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]


def _facts(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def measured_from_json(content: Mapping[str, Any]) -> MeasuredCase:
    """Return the measured case of its JSON."""
    scores = content["scores"]
    return MeasuredCase(
        **{name: content[name] for name in _PLAIN},
        faults=tuple(content["faults"]),
        undeclared={
            side: {int(value): count for value, count in counts.items()}
            for side, counts in content["undeclared"].items()
        },
        rows=tuple(_row(row) for row in content["rows"]),
        scores=None if scores is None else _scores(scores),
    )


_PLAIN = ("case_id", "failure", "resampled", "turn", "white", "unplaced", "calibrated", "planar", "flat")


def _row(content: Mapping[str, Any]) -> StructureRow:
    return StructureRow(
        name=content["name"],
        presence=content["presence"],
        values={metric: number_from_json(value) for metric, value in content["values"].items()},
        predicted_ml=number_from_json(content["predicted_ml"]),
        reference_ml=number_from_json(content["reference_ml"]),
        policy=content["policy"],
        tolerance_mm=number_from_json(content["tolerance_mm"]),
    )


def _scores(content: Mapping[str, Any]) -> CaseScores:
    return CaseScores(
        case_id=content["case_id"],
        patient_id=content["patient_id"],
        per_structure=tuple(
            StructureScores(
                name=one["name"], overlap=Overlap(**one["overlap"]), voxel_volume_mm3=one["voxel_volume_mm3"]
            )
            for one in content["per_structure"]
        ),
    )
